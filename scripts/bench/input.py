"""Reading training batches: kit against the limit (bare tf.data on the same shards) and against what people use.

    python scripts/bench/input.py [--pcam DIR] [--xrays DIR] [--repeats 5] [--batch 64]

--pcam is a folder in the PCam layout (96 px .tif; made-up patches without it), --xrays one of class folders with JPEGs
of 224 px (the patches enlarged without it). All deliver shuffled batches of uint8 RGB images and labels to this process
from a warm page cache, without augmentation, except ImageDataGenerator: it augments as PCam notebooks do, on the host,
because there is no other place for it. TFDS and PyTorch are left out, and named, when they are not installed.
"""

import argparse
import tempfile
from functools import partial
from pathlib import Path
from unittest.mock import patch

import cv2
import numpy as np
from common import class_folders, in_turn, machine, prepared_by_tfds, show

from kit.competitions import pcam, toy
from kit.config import DataSettings, ImageSettings, Source
from kit.data.pixels.images import read_image
from kit.data.records import batches
from kit.data.records.batches import steps_per_epoch, train_batches
from kit.data.records.build import build_records
from kit.data.table.examples import validate
from kit.runtime.devices import import_tensorflow

tf = import_tensorflow()
ENCODINGS = ("raw", "png", "jpeg:95")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pcam", type=Path)
    parser.add_argument("--xrays", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--only", help="variants whose names begin with this", default="")
    options = parser.parse_args()
    print(machine(), f"tensorflow {tf.__version__}, batches of {options.batch}", sep="\n")
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        if options.pcam is None:
            options.pcam = scratch / "pcam"
            toy.make(options.pcam, train=2000, test=10)
        patches = validate(pcam.COMPETITION.read(options.pcam, Source()), 0)
        if options.xrays is None:
            options.xrays = enlarged(patches, options.pcam, scratch / "xrays")
        for size, examples, root in (
            (96, patches, options.pcam),
            (224, class_folders(options.xrays), options.xrays),
        ):
            variants = {}
            for encoding in ENCODINGS:
                image = ImageSettings(size=size, encoding=encoding)
                out = scratch / f"{size}-{encoding}"
                records = build_records("bench", examples, root, out, image, DataSettings(max_rejected=0))
                variants[f"limit: bare tf.data, {encoding}"] = endless(partial(bare, records, options.batch))
                if encoding == "raw":  # where memory, not a decoder, sets the pace, shuffling itself can be seen
                    variants[f"bare tf.data, shuffled, {encoding}"] = endless(
                        partial(bare, records, options.batch, True)
                    )
                # as if the set were too large for memory: from the shards in every epoch, shuffled among 1,024
                variants[f"kit, from disk, {encoding}"] = endless(partial(kit, records, options.batch, 1024))
                variants[f"kit, {encoding}"] = endless(partial(kit, records, options.batch))
                # as under JAX where TensorFlow is not installed
                variants[f"kit in threads, from disk, {encoding}"] = endless(
                    partial(without_tensorflow, records, options.batch, 1024)
                )
                variants[f"kit in threads, {encoding}"] = endless(partial(without_tensorflow, records, options.batch))
            variants |= peers(examples, root, size, options.batch, scratch / f"peers-{size}")
            variants = {name: work for name, work in variants.items() if name.startswith(options.only)}
            speeds = in_turn(variants, options.repeats)
            show(f"{size} px, {len(examples.table)} files", speeds, next(iter(speeds)))
            for encoding in ENCODINGS:
                pair = {
                    name: values
                    for name, values in speeds.items()
                    if name.endswith(f", {encoding}") and "TFDS" not in name
                }
                show(f"{size} px, {encoding}", pair, next(iter(pair)))


def endless(make, seconds=2.0):
    """A variant that goes on through an endless iterator of (images, ...) batches, some seconds a turn."""
    import time

    state = {}

    def work():
        if "batches" not in state:
            state["batches"] = iter(make())
        images, until = 0, time.perf_counter() + seconds
        while time.perf_counter() < until:
            images += len(next(state["batches"])[0])
        return images

    return work


def kit(records, batch, buffer=None):
    cells = list(range(records.cells))
    assert steps_per_epoch(records, cells, batch)
    training = train_batches(records, cells, batch, seed=0, buffer=buffer)
    return ((batch["image"], batch["label"]) for (batch,) in training)


def without_tensorflow(records, batch, buffer=None):
    with patch.object(batches, "has_tensorflow", lambda: False):
        return kit(records, batch, buffer)


def bare(records, batch, shuffled=False):
    """The same shards: raw is parsed a batch at a time, the others are decoded in parallel."""
    paths = [str(path) for path in records.shard_paths(list(range(records.cells)))]
    shape = (records.image.size, records.image.size, 3)
    features = {
        "image": tf.io.FixedLenFeature([], tf.string),
        "label": tf.io.FixedLenFeature([1], tf.float32),
    }
    options = tf.data.Options()
    dataset = tf.data.TFRecordDataset(paths, num_parallel_reads=4)
    dataset = (dataset.shuffle(len(records.table)) if shuffled else dataset).repeat()
    if records.image.encoding == "raw":

        def parse(serialised):
            example = tf.io.parse_example(serialised, features)
            return tf.reshape(tf.io.decode_raw(example["image"], tf.uint8), (-1, *shape)), example["label"]

        dataset = dataset.batch(batch, True).map(parse, tf.data.AUTOTUNE)
    else:

        def parse(serialised):
            example = tf.io.parse_single_example(serialised, features)
            decode = tf.io.decode_png if records.image.encoding == "png" else tf.io.decode_jpeg
            return tf.ensure_shape(decode(example["image"], 3), shape), example["label"]

        dataset = dataset.map(parse, tf.data.AUTOTUNE).batch(batch, True)
    return dataset.prefetch(tf.data.AUTOTUNE).with_options(options)


def peers(examples, root, size, batch, scratch):
    """The alternatives on the raw files."""
    table = examples.table[examples.table["split"] == "train"]
    label = table.filter(regex="^y_").columns[0]
    paths, labels = [str(root / path) for path in table["path"]], table[label].to_numpy()
    variants = {
        "ImageDataGenerator, augmented": endless(partial(generator, paths, labels, size, batch)),
        "image_dataset_from_directory": endless(partial(directory, paths, labels, size, batch, scratch / "folders")),
        "plain loop (cv2)": endless(partial(plain_loop, paths, labels, size, batch)),
    }
    for name, make in (("TFDS, png", with_tfds), ("torch DataLoader, 2 workers", with_torch)):
        try:
            variants[name] = endless(make(paths, labels, size, batch, scratch / "tfds"))
        except ImportError as error:
            print(f"left out: {name} ({error})")
    return variants


def generator(paths, labels, size, batch):
    import pandas as pd
    from keras._tf_keras.keras.preprocessing.image import ImageDataGenerator

    augmented = ImageDataGenerator(
        rotation_range=20,
        width_shift_range=0.1,
        height_shift_range=0.1,
        zoom_range=0.1,
        horizontal_flip=True,
        vertical_flip=True,
        fill_mode="constant",
        cval=200,
        brightness_range=(0.9, 1.1),
        channel_shift_range=20,
    )
    table = pd.DataFrame({"path": paths, "label": labels.astype(int).astype(str)})
    return augmented.flow_from_dataframe(
        table, x_col="path", y_col="label", target_size=(size, size), batch_size=batch, class_mode="binary"
    )


def directory(paths, labels, size, batch, folder):
    """Keras's utility reads no TIFF: those are copied as PNG first, which is not timed."""
    import keras

    for n, (path, label) in enumerate(zip(paths, labels, strict=True)):
        place = folder / str(int(label))
        place.mkdir(parents=True, exist_ok=True)
        if path.endswith(".tif"):
            cv2.imwrite(str(place / f"{n}.png"), cv2.imread(path))
        else:
            (place / f"{n}{Path(path).suffix}").symlink_to(Path(path).resolve())
    dataset = keras.utils.image_dataset_from_directory(
        folder, image_size=(size, size), batch_size=batch, label_mode="binary", verbose=False
    )
    return dataset.repeat().prefetch(tf.data.AUTOTUNE)


def plain_loop(paths, labels, size, batch):
    rng = np.random.default_rng(0)
    while True:
        for chosen in np.array_split(rng.permutation(len(paths)), max(1, len(paths) // batch)):
            images = [cv2.imread(paths[n])[..., ::-1] for n in chosen]
            images = [i if i.shape[0] == size else cv2.resize(i, (size, size)) for i in images]
            yield np.stack(images), labels[chosen]


def with_tfds(paths, labels, size, batch, folder):
    import tensorflow_datasets as tfds

    def make():
        def rows():
            for path, label in zip(paths, labels, strict=True):
                pixels = read_image(Path(path))
                yield path, np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels, label

        builder = prepared_by_tfds(rows(), (size, size, 3), "png", folder)
        # by itself it would keep small sets decoded in memory, which is another thing than reading
        reading = tfds.ReadConfig(try_autocache=False)
        dataset = builder.as_dataset(split="train", shuffle_files=True, read_config=reading)
        dataset = dataset.repeat().shuffle(4096).map(lambda e: (e["image"], e["label"])).batch(batch, True)
        return dataset.prefetch(tf.data.AUTOTUNE)

    return make


class TorchImages:
    """A torch map-style dataset; a class of the module, so that worker processes can have it."""

    def __init__(self, paths, labels, size):
        self.paths, self.labels, self.size = paths, labels, size

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, n):
        import torch

        return torch.from_numpy(np.ascontiguousarray(cv2.imread(self.paths[n])[..., ::-1])), self.labels[n]


def with_torch(paths, labels, size, batch, folder):
    from torch.utils.data import DataLoader

    def make():
        loader = DataLoader(
            TorchImages(paths, labels, size),
            batch_size=batch,
            shuffle=True,
            num_workers=2,
            drop_last=True,
            multiprocessing_context="forkserver",
            persistent_workers=True,
        )
        while True:
            yield from loader

    return make


def enlarged(examples, root, out):
    """The patches as JPEGs of 224 px in class folders."""
    for row in examples.table[examples.table["split"] == "train"].itertuples():
        folder = out / ("positive" if row.y_tumour else "negative")
        folder.mkdir(parents=True, exist_ok=True)
        image = cv2.resize(read_image(root / row.path), (224, 224), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / f"{row.id}.jpeg"), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
    return out


if __name__ == "__main__":
    main()
