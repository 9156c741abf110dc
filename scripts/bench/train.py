"""Training throughput of a fold against a bare compiled loop over batches that lie in memory, on both backends.

    python scripts/bench/train.py [--models tiny:96 pcam_cnn:96 efficientnetb0:96 fcos:128] [--backends tensorflow jax]
        [--batch 64] [--steps 40] [--epochs 6] [--peak TFLOPS]

Both train the same model (augmentation off) with Adam; the kit reads records, as a fold does, and its epochs and the
bare loop's take turns. What stands between epochs (validation, saving) is not counted. --peak, the device's peak for
the precision it chooses, adds what share of it the JAX loop's floating-point operations are. A network that finds boxes
gets the arguments of configs/toy_boxes.yaml, where that is its model.

Also prints what a first step waits for: imports, opening the records, building the model, compiling.
"""

import argparse
import math
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
from common import machine, show


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["tiny:96", "pcam_cnn:96", "efficientnetb0:96", "fcos:128"])
    parser.add_argument("--backends", nargs="+", default=["tensorflow", "jax"])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--peak", type=float, help="TFLOP/s")
    parser.add_argument("--one", nargs=3, metavar=("BACKEND", "MODEL", "RECORDS"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        one(given, *given.one)
        return
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for model in given.models:
            name, side = model.split(":")
            records = build(Path(folder), competition_of(name), int(side), 2 * given.steps * given.batch)
            for backend in given.backends:
                subprocess.run([sys.executable, __file__, *sys.argv[1:], "--one", backend, model, records], check=True)


def competition_of(name):
    """The made-up data that a model trains on."""
    from kit.models import registry

    return "toy_boxes" if name != "tiny" and registry.model_card(name).prediction == "boxes" else "toy"


def build(folder, competition, side, images):
    """Records of made-up images, of which each of two folds trains on one half."""
    from kit import pipeline
    from kit.competitions import find_competition
    from kit.config import load_config

    raw, out = folder / competition, folder / f"{competition}{side}"
    if not out.exists():
        find_competition(competition).make(raw, train=images, test=4)
        config = load_config(competition, [f"image.size={side}", "image.encoding=raw"])  # reading is input.py's part
        pipeline.build_records(config, pipeline.list_examples(config, raw), raw, out)
    return str(out)


def one(given, backend, model_and_side, directory):
    """Measure one model on one backend, in a process of its own."""
    clock = [("start", time.perf_counter())]

    def mark(what):
        clock.append((what, time.perf_counter()))

    name, side = model_and_side.split(":")
    from kit.config import AugmentSettings, RuntimeSettings, TrainSettings, load_config
    from kit.data.records.manifest import open_records
    from kit.data.records.shards import image_shape
    from kit.runtime import devices

    device = devices.set_up(RuntimeSettings(backend=backend))
    import keras

    from kit.models import registry
    from kit.stages.train import Fold
    from kit.stages.train import feed as feed_of
    from kit.tasks import find_task
    from kit.train.fit import fit

    mark("imports")
    records = open_records(Path(directory))
    config = load_config(competition_of(name), [f"train.batch_size={given.batch}", "folds=2"])
    cells = [list(range(0, records.cells, 2)), list(range(1, records.cells, 2))]
    feed = feed_of(Fold(config, records, cells, 0, Path()), 0, len(records.table), device)
    mark("records")

    shape = image_shape(records.image)

    def fresh():
        keras.utils.set_random_seed(1)
        arguments = config.model.arguments if config.model.name == name else {}
        return tiny(keras, shape) if name == "tiny" else registry.build(name, shape=shape, outputs=1, **arguments)

    model = fresh()
    mark("model")
    task = records.task
    bare = bare_detector if find_task(task).prediction == "boxes" else bare_classifier
    bare_step, state = bare_loop(keras, backend, *bare(keras, fresh(), given.batch, shape), device.jit_compile)
    speeds = {"kit": [], "bare compiled loop": []}

    class Turns(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.started = time.perf_counter()

        def on_train_batch_end(self, batch, logs=None):
            if len(clock) == 4:
                mark("first steps (compiling)")
            self.last = time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):
            started = time.perf_counter()
            for _ in range(feed.steps):
                bare_step(state)
            state["wait"]()
            if epoch:  # the first one compiles
                speeds["kit"].append(feed.steps * given.batch / (self.last - self.started))
                speeds["bare compiled loop"].append(feed.steps * given.batch / (time.perf_counter() - started))

    with tempfile.TemporaryDirectory() as state_folder:
        fit(
            model,
            feed,
            lambda: {"val_score": 0.0},
            monitor="val_score",
            task=task,
            train=TrainSettings(epochs=given.epochs + 1, schedule="constant"),
            augment=AugmentSettings(),
            seed=0,
            state=Path(state_folder),
            jit_compile=device.jit_compile,
            steps_per_execution=device.steps_per_execution,
            callbacks=[Turns()],
        )
    show(
        f"{name} at {side} px, {backend}, {device.kind} {device.names[0]}, {device.precision}",
        speeds,
        "bare compiled loop",
    )
    waited = [f"{what} {then - before:.1f} s" for (_, before), (what, then) in pairwise(clock)]
    print("  to the first step:", ", ".join(waited), flush=True)
    if given.peak and "flops" in state:
        share = state["flops"] * np.median(speeds["bare compiled loop"]) / given.batch / (given.peak * 1e12)
        print(
            f"  {state['flops'] / given.batch / 1e9:.2f} GFLOP an image (XLA's count): {share:.1%} of the peak",
            flush=True,
        )


def tiny(keras, shape):
    """Next to no arithmetic, so that what is left is overhead."""
    from kit.models.heads import image_input, output

    inputs = image_input(shape)
    x = keras.layers.AveragePooling2D(32)(keras.layers.Rescaling(1 / 255)(inputs))
    return keras.Model(inputs, output(keras.layers.Flatten()(x), 1, "sigmoid"))


def bare_classifier(keras, model, batch, shape):
    """What a bare loop trains: the model, its loss, eight batches in memory."""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (batch, *shape), dtype=np.uint8) for _ in range(8)]
    labels = [rng.integers(0, 2, (batch, 1)).astype("float32") for _ in range(8)]
    return model, keras.losses.BinaryCrossentropy(), list(zip(images, labels, strict=True))


def bare_detector(keras, detector, batch, shape, most=4):
    """The same of a detector, whose losses are the outputs of what is trained."""

    class Losses(keras.layers.Layer):
        def build(self, shapes):
            self.detector = detector

        def call(self, inputs):
            return detector.losses(inputs)

        def compute_output_spec(self, inputs):
            return keras.KerasTensor((None,), "float32")

    inputs = {
        "image": keras.Input(shape, dtype="uint8", name="image"),
        "boxes": keras.Input((most, 4), name="boxes"),
        "box_labels": keras.Input((most,), dtype="int32", name="box_labels"),
        "box_mask": keras.Input((most,), dtype="bool", name="box_mask"),
    }
    rng, batches = np.random.default_rng(0), []
    for _ in range(8):
        mask = np.arange(most) < rng.integers(0, most + 1, (batch, 1))
        corner = rng.uniform(0, shape[0] / 2, (batch, most, 2))
        boxes = np.concatenate([corner, rng.uniform(8, shape[0] / 3, (batch, most, 2))], axis=2) * mask[..., None]
        x = {
            "image": rng.integers(0, 256, (batch, *shape), dtype=np.uint8),
            "boxes": boxes.astype("float32"),
            "box_labels": np.zeros((batch, most), "int32"),
            "box_mask": mask,
        }
        batches.append((x, np.zeros((batch, 1), "float32")))
    return keras.Model(inputs, Losses()(inputs)), lambda _, losses: keras.ops.mean(losses), batches


def bare_loop(keras, backend, model, loss_of, batches, jit_compile):
    """A compiled training step on batches in memory, in turn: step(state), and the state it works on."""
    optimizer = keras.optimizers.Adam(1e-3)
    optimizer.build(model.trainable_variables)
    state = {"n": 0}
    if backend == "tensorflow":
        from kit.runtime.devices import import_tensorflow

        tf = import_tensorflow()
        batches = tf.nest.map_structure(tf.constant, batches)

        @tf.function(jit_compile=jit_compile is True or None)
        def train_step(x, y):
            with tf.GradientTape() as tape:
                loss = loss_of(y, model(x, training=True))
            variables = [v.value for v in model.trainable_variables]
            optimizer.apply(tape.gradient(loss, variables), model.trainable_variables)
            return loss

        def step(state):
            state["loss"] = train_step(*batches[state["n"] % 8])
            state["n"] += 1

        state["wait"] = lambda: float(state["loss"])
        return step, state

    import jax

    batches = jax.device_put(batches)
    traced, state["values"] = jax_step(model, optimizer, loss_of, batches[0])
    compiled = traced.lower().compile()
    state["flops"] = flops_of(traced.jaxpr.jaxpr)

    def step(state):
        state["loss"], state["values"] = compiled(state["values"], *batches[state["n"] % 8])
        state["n"] += 1

    state["wait"] = lambda: float(state["loss"])
    return step, state


def jax_step(model, optimizer, loss_of, batch):
    """A training step, traced but not compiled: (values, x, y) -> (loss, values); and the values it begins with."""
    import jax

    def forward(trained, others, x, y):
        p, others = model.stateless_call(trained, others, x, training=True)
        return loss_of(y, p), others

    def train_step(values, x, y):
        trained, others, slots = values
        (loss, others), gradients = jax.value_and_grad(forward, has_aux=True)(trained, others, x, y)
        trained, slots = optimizer.stateless_apply(slots, gradients, trained)
        return loss, (trained, others, slots)

    values = tuple(
        [v.value for v in group]
        for group in (model.trainable_variables, model.non_trainable_variables, optimizer.variables)
    )
    return jax.jit(train_step, donate_argnums=0).trace(values, *batch), values


def flops_of(jaxpr):
    """Floating-point operations of a step's convolutions and matrix products as written, a multiply-add being two.

    Counted here, because on GPUs XLA says nothing of what it hands to cuDNN.
    """
    total = 0
    for equation in jaxpr.eqns:
        total += sum(flops_of(inner) for value in equation.params.values() for inner in jaxprs_in(value))
        sizes = [variable.aval.shape for variable in equation.invars]
        outputs = sum(math.prod(variable.aval.shape) for variable in equation.outvars)
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            total += 2 * outputs * math.prod(sizes[0][axis] for axis in contracted)
        elif equation.primitive.name == "conv_general_dilated":
            _, channels, *spatial = equation.params["dimension_numbers"].rhs_spec
            taps = math.prod(sizes[1][axis] for axis in (channels, *spatial))
            zeros = math.prod(equation.params["lhs_dilation"])  # between the pixels of a strided layer's gradient
            total += 2 * outputs * taps / zeros
    return total


def jaxprs_in(value):
    """The jaxprs in a parameter of an equation: of a nested jit, a custom gradient, the branches of a condition."""
    if isinstance(value, tuple | list):
        return [inner for part in value for inner in jaxprs_in(part)]
    value = getattr(value, "jaxpr", value)
    return [value] if hasattr(value, "eqns") else []


if __name__ == "__main__":
    main()
