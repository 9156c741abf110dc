"""How many images a second networks predict in batches of several sizes.

    python scripts/bench/batches.py [--models pcam_cnn:96 efficientnet_lite0:224] [--sizes 16 32 64 128 256]

Each is NAME:PIXELS, with random weights. Medians of 3 passes over 256 images.
"""

import argparse
import statistics
import time

import numpy as np
from common import machine

_IMAGES = 256
_MODELS = ("pcam_cnn:96", "efficientnet_lite0:96", "efficientnet_lite0:224", "mobilenet_v3_small:224", "resnet50:128")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=_MODELS)
    parser.add_argument("--sizes", nargs="+", type=int, default=(16, 32, 64, 128, 256))
    arguments = parser.parse_args()
    from kit.config import RuntimeSettings
    from kit.runtime import devices

    print(machine(), devices.set_up(RuntimeSettings()).kind, flush=True)
    from kit.models import registry

    for text in arguments.models:
        name, _, side = text.partition(":")
        shape = (int(side), int(side), 3)
        model = registry.build(name=name, shape=shape, outputs=1, activation="sigmoid")
        images = np.random.default_rng(0).integers(0, 256, (_IMAGES, *shape), np.uint8)
        rates = {size: statistics.median(rate(model, images, size) for _ in range(3)) for size in arguments.sizes}
        print(f"{text:26}", *(f"{size}: {rate:,.0f}" for size, rate in rates.items()), sep="   ", flush=True)


def rate(model, images, size):
    """Images a second, once compiled."""
    model.predict_on_batch(images[:size])
    started = time.perf_counter()
    for first in range(0, len(images), size):
        model.predict_on_batch(images[first : first + size])
    return len(images) / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
