"""How far exported models are from the Predictor, on real images: one model of each family, both backends.

    python scripts/export_parity.py --images DIR [DIR ...] --out F.json [--models A,B] [--formats onnx,litert]

Each network gets weights as training would leave them: those of ImageNet where they come with a package, else random
ones that a few steps have taught to tell the folders apart; then batch normalisation is fitted to some of the images,
and logits are scaled to a standard deviation of 2. Written by TensorFlow, it is compared with the Predictor on
TensorFlow and, in a process of its own, on JAX: the largest difference of a probability. Exits with 1 where one is
above 1e-4.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

RESNET = {
    "input_conv_filters": [64],
    "input_conv_kernel_sizes": [7],
    "stackwise_num_filters": [64, 128],
    "stackwise_num_blocks": [2, 2],
    "stackwise_num_strides": [1, 2],
    "block_type": "basic_block",
}
FAMILIES = {  # name in the table -> model, pixels, arguments, views
    "plain CNN": ("pcam_cnn", 96, {}, "flips"),
    "efficientnet_lite": ("efficientnet_lite0", 96, {}, "dihedral"),
    "features (linear)": ("features", 96, {"views": "mirror"}, "none"),
    "features (mlp)": ("features", 96, {"head": "mlp", "units": 64}, "none"),
    "mobilenet": ("mobilenet", 96, {}, "mirror"),
    "mobilenet_v2": ("mobilenet_v2", 96, {}, "none"),
    "mobilenet_v3": ("mobilenet_v3_small", 96, {}, "none"),
    "efficientnet": ("efficientnetb0", 96, {}, "none"),
    "efficientnet v2": ("efficientnetv2b0", 96, {}, "none"),
    "resnet": ("resnet50", 64, {}, "none"),
    "resnet v2": ("resnet50v2", 64, {}, "none"),
    "small resnet": ("resnet18", 96, {}, "none"),
    "densenet": ("densenet121", 64, {}, "none"),
    "convnext": ("convnext_tiny", 64, {}, "none"),
    "squeezenet": ("squeezenet", 96, {}, "none"),
    "vgg": ("vgg16", 64, {"pool": "gap"}, "none"),
    "xception": ("xception", 96, {}, "none"),
    "inception": ("inception_v3", 96, {}, "none"),
    "nasnet": ("nasnet_mobile", 64, {}, "none"),
    "KerasHub": ("hub/ResNetBackbone", 64, {"config": RESNET}, "none"),  # where KerasHub is installed
}
PACKED = ("efficientnet_lite0", "features")  # on the backbone whose weights come with a package
FORMATS = ("savedmodel", "onnx", "litert")
LARGEST = 1e-4
ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".dcm")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--models", help="rows of the table, with commas between them (default: all)")
    parser.add_argument("--formats", default=",".join(FORMATS))
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--model-of", type=Path, help=argparse.SUPPRESS)  # the process on the other backend
    arguments = parser.parse_args()
    paths = chosen(arguments.images, arguments.count)
    if arguments.model_of:
        np.save(arguments.out, predicted(arguments.model_of, paths))
        return 0
    table = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    for name in arguments.models.split(",") if arguments.models else FAMILIES:
        if name not in table:
            table[name] = row(name, paths, arguments.formats.split(","))
            arguments.out.write_text(json.dumps(table, indent=1))
        print(name, table[name], flush=True)
    values = [value for each in table.values() for value in each.values() if isinstance(value, float)]
    return int(max(values) > LARGEST)


def chosen(folders, count):
    """As many files of each folder, evenly spread over their names."""
    paths = []
    for folder in folders:
        files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS)
        paths += files[:: max(1, len(files) * len(folders) // count)][: count // len(folders)]
    return paths


def row(name, paths, formats):
    """The largest difference by format and backend, or why a format was refused."""
    from kit.errors import ConfigError
    from kit.export import formats as exported
    from kit.export.whole import whole

    result = {}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        save(name, paths, folder)
        command = [sys.executable, __file__, "--images", *paths_file(paths, folder), "--model-of", folder]
        environment = {**os.environ, "KERAS_BACKEND": "jax"}
        subprocess.run([*map(str, command), "--out", str(folder / "jax.npy")], env=environment, check=True)
        expected = {"tensorflow": predicted(folder, paths), "jax": np.load(folder / "jax.npy")}
        result["spread"] = f"{expected['jax'].std():.2f}"
        predictor = opened(folder)
        images = np.stack([each.image for each in predictor.prepared(paths)])
        model = whole(predictor.models, predictor.decision)
        for kind in formats:
            path = folder / f"model{exported.FORMATS[kind].ending}"
            try:
                exported.write(model, kind, path)
            except ConfigError as error:
                result[kind] = str(error)
                continue
            run = exported.FORMATS[kind].load(path)
            p = np.concatenate([run(images[start : start + 20]) for start in range(0, len(images), 20)])
            for backend, values in expected.items():
                result[f"{kind}, {backend}"] = float(np.abs(p[:, 0] - values).max())
    return result


def paths_file(paths, folder):
    """A folder of links to the images: what the other process is given."""
    links = folder / "images"
    links.mkdir()
    for n, path in enumerate(paths):
        (links / f"{n:05d}{path.suffix}").symlink_to(path.resolve())
    return [links]


def save(name, paths, folder):
    """A model of the family into a folder, with weights as training would leave them."""
    from kit.config import ImageSettings, RuntimeSettings
    from kit.data.pixels.prepared import prepare_file
    from kit.models import registry, saved
    from kit.runtime import devices

    devices.set_up(RuntimeSettings())
    import keras

    from kit.models.weights import load_weights

    keras.utils.set_random_seed(0)
    builder, size, arguments, views = FAMILIES[name]
    spec = {"name": builder, "shape": (size, size, 3), "outputs": 1, "activation": "sigmoid", **arguments}
    model = registry.build(**spec)
    if builder in PACKED:
        load_weights(model, registry.model_card("efficientnet_lite0"))
    images = np.stack([prepare_file(path, ImageSettings(size=size)) for path in paths[::4]])
    if builder not in PACKED:
        train(model, images, np.array([[path.parent == paths[0].parent] for path in paths[::4]], np.float32))
        fit_normalisation(model, images)
    logits = keras.Model(model.inputs[0], model.get_layer("logits").output)
    found = keras.ops.convert_to_numpy(logits(images, training=False))
    layer, scale = model.get_layer("logits"), 2 / found.std()
    kernel, bias = layer.get_weights()
    layer.set_weights([kernel * scale, (bias - found.mean()) * scale])
    saved.save_model(model, spec, folder)
    (folder / "views").write_text(views)


def train(model, images, truth):
    """A few steps, in which weights leave their random start."""
    import keras

    model.compile(keras.optimizers.Adam(1e-3), "binary_crossentropy", jit_compile=False)
    model.fit(images, truth, batch_size=10, epochs=3, verbose=0)


def fit_normalisation(model, images):
    """Moving means and variances of these images."""
    from kit.runtime import keras_private

    for layer in keras_private.batch_norms(model):
        layer.momentum = 0.0
    model(images, training=True)


def opened(folder):
    """The Predictor of a saved model."""
    from kit.config import ImageSettings, RuntimeSettings
    from kit.config.predict import PredictSettings
    from kit.decisions import Calibration, Decision
    from kit.models import saved
    from kit.predict.predictor import Predictor
    from kit.runtime import devices

    devices.set_up(RuntimeSettings())
    views, size = (folder / "views").read_text(), saved.read_build(folder).shape[0]
    decision = Decision(task="binary", labels=("x",), views=views, calibration=Calibration(), thresholds={})
    settings = PredictSettings(batch_size=20, tta=views)
    return Predictor([saved.load_model(folder)], ImageSettings(size=size), decision, settings)


def predicted(folder, paths):
    """What the Predictor says of files, on the backend of this process."""
    return opened(folder).predict(paths)["p_x"].to_numpy()


if __name__ == "__main__":
    raise SystemExit(main())
