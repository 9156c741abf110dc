"""Training-time augmentation: the kit's one fused affine against the same changes as a stack of Keras layers.

    python scripts/bench/augment.py [--size 96] [--batch 64] [--repeats 7]

Prints images a second (median of the repeats, all variants in turn so that a drifting machine hits both alike) and the
share of the time it takes, for training steps of pcam_cnn with either augmentation and with none.
"""

import argparse
import platform
import statistics
import time

import numpy as np

from kit.config import AugmentSettings, RuntimeSettings, load_config
from kit.runtime import devices


def keras_stack(settings: AugmentSettings):
    """The same changes with Keras's own layers, one interpolation each."""
    from keras import layers

    return [
        layers.Rescaling(1.0),
        layers.RandomFlip("horizontal_and_vertical"),
        layers.RandomRotation(settings.rotation / 360, fill_mode=settings.fill_mode),
        layers.RandomTranslation(settings.shift, settings.shift, fill_mode=settings.fill_mode),
        layers.RandomZoom(settings.zoom, fill_mode=settings.fill_mode),
        layers.RandomBrightness(settings.brightness),
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=7)
    given = parser.parse_args()
    device = devices.set_up(RuntimeSettings())
    import keras

    from kit.models import registry
    from kit.train.augment import Augment

    settings = load_config("pcam").augment.model_copy(update={"channel_shift": 0.0})  # Keras has no layer for that
    shape = (given.size, given.size, 3)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (given.batch, *shape), dtype=np.uint8)
    labels = rng.integers(0, 2, (given.batch, 1)).astype("float32")

    def training_step(stack):
        x = inputs = keras.Input(shape, dtype="uint8")
        for layer in stack:
            x = layer(x, training=True)
        model = registry.build("pcam_cnn", shape=shape, outputs=1)
        model = keras.Model(inputs, model(x if x is inputs else keras.ops.cast(keras.ops.clip(x, 0, 255), "uint8")))
        model.compile("adam", "binary_crossentropy", jit_compile=device.jit_compile)
        return lambda: model.train_on_batch(images, labels)

    speeds = measured({name: training_step(stack) for name, stack in stacks(settings, Augment).items()}, given)
    machine = f"{device.kind} {device.names[0]}, {platform.platform()}"
    print(f"{machine}, {device.backend}, {given.size} px, batch {given.batch}: training pcam_cnn")
    for name, speed in speeds.items():
        cost = 1 - speed / speeds["none"]
        print(f"  {name:12} {speed:6.0f} images/s   {cost:4.0%} of the step is augmentation")


def stacks(settings, augment):
    """Fresh layers of every variant."""
    return {"fused": [augment(settings)], "Keras stack": keras_stack(settings), "none": []}


def measured(variants, given, steps=8):
    """Median images a second of every variant, after one warm-up each, taken in turn."""
    times = {name: [] for name in variants}
    for step in variants.values():
        step()
    for _ in range(given.repeats):
        for name, step in variants.items():
            started = time.perf_counter()
            for _ in range(steps):
                step()
            times[name].append(time.perf_counter() - started)
    return {name: given.batch * steps / statistics.median(took) for name, took in times.items()}


if __name__ == "__main__":
    main()
