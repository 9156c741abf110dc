"""Training-time augmentation: the kit's one fused affine against the same changes as a stack of Keras layers.

    python scripts/bench/augment.py [--size 96] [--batch 64] [--repeats 7]

Prints images a second, and the share of a step that is augmentation, for training steps of pcam_cnn with the kit's
augmentation, with the stack on the accelerator, with the stack on the host (in tf.data, while the step before computes)
and with none. All come from the same tf.data pipeline of uint8 batches in memory.
"""

import argparse
import statistics

import numpy as np
from common import in_turn, machine, show

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
    tf = devices.import_tensorflow()
    import keras

    from kit.models import registry
    from kit.train.augment import Augment

    # without channel_shift: Keras has no layer for it
    settings = load_config("pcam_scratch").augment.model_copy(update={"channel_shift": 0.0})
    shape = (given.size, given.size, 3)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (8 * given.batch, *shape), dtype=np.uint8)
    labels = rng.integers(0, 2, (8 * given.batch, 1)).astype("float32")

    def training_steps(on_device=(), on_host=()):
        x = inputs = keras.Input(shape, dtype="uint8")
        for layer in on_device:
            x = layer(x, training=True)
        model = registry.build("pcam_cnn", shape=shape, outputs=1)
        model = keras.Model(inputs, model(x if x is inputs else as_uint8(x)))
        model.compile("adam", "binary_crossentropy", jit_compile=device.jit_compile)
        dataset = tf.data.Dataset.from_tensor_slices((images, labels)).repeat().batch(given.batch)

        def augmented(x, y):
            for layer in on_host:
                x = layer(x, training=True)
            return tf.cast(tf.clip_by_value(x, 0, 255), tf.uint8), y

        if on_host:
            dataset = dataset.map(augmented, tf.data.AUTOTUNE)
        batches = iter(dataset.prefetch(tf.data.AUTOTUNE))

        def steps(count=8):
            for _ in range(count):
                model.train_on_batch(*next(batches))
            return count * given.batch

        return steps

    def as_uint8(x):
        return keras.ops.cast(keras.ops.clip(x, 0, 255), "uint8")

    augment = Augment(settings)

    def fused(x, training):
        return augment({"image": x}, training=training)["image"]

    variants = {
        "none": training_steps(),
        "kit: fused, on the accelerator": training_steps(on_device=[fused]),
        "Keras stack, on the accelerator": training_steps(on_device=keras_stack(settings)),
        "Keras stack, on the host": training_steps(on_host=keras_stack(settings)),
    }
    speeds = in_turn(variants, given.repeats)
    print(machine())
    show(f"{device.kind}, {device.backend}: training pcam_cnn, {given.size} px, batch {given.batch}", speeds, "none")
    for name, values in speeds.items():
        cost = 1 - statistics.median(values) / statistics.median(speeds["none"])
        print(f"  {name:46} {cost:4.0%} of the step is augmentation")


if __name__ == "__main__":
    main()
