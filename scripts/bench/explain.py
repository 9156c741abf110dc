"""Occlusion maps in one compiled call for many covered copies, against a loop of model.predict over the patches.

    python scripts/bench/explain.py [--model efficientnet_lite0] [--weights imagenet] [--size 96] [--repeats 3]

One image; patches of an eighth of its side in steps of a sixteenth (225 places), and those of 20 pixels in steps of 10
at 224 px. Both ways make the same map (the largest difference is printed). The third way is the
limit: as many images in one predict.
"""

import argparse

import numpy as np
from common import in_turn, machine, show


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="efficientnet_lite0")
    parser.add_argument("--weights", default="imagenet", help="of the backbone (imagenet); the head is random")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    print(machine(), flush=True)
    from kit.config import RuntimeSettings
    from kit.runtime import devices

    devices.set_up(RuntimeSettings())
    from kit.explain import Patch
    from kit.models import registry
    from kit.models.weights import load_weights

    size = arguments.size
    model = registry.build(arguments.model, shape=(size, size, 3), outputs=1)
    load_weights(model, registry.model_card(arguments.model), arguments.weights)
    image = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    for patch in (Patch(), Patch(20 / 224, 10 / 224, 128, "absolute")):
        compare(model, image, patch, arguments)


def compare(model, image, patch, arguments):
    from kit.explain.occlusion import Occluder, spread

    places, side = patch.places(*image.shape[:2])
    fill = np.round(image.mean(axis=(0, 1))) if patch.fill == "mean" else patch.fill
    occluder, maps = Occluder(model, patch=patch), {}

    def loop():
        whole, drops = model.predict(image[None], verbose=0)[0], []
        for y, x in places:
            copy = image.copy()
            copy[y : y + side, x : x + side] = fill
            drops.append(whole - model.predict(copy[None], verbose=0)[0])
        drops = np.abs(drops) if patch.change == "absolute" else np.array(drops)
        maps["loop"] = spread(drops, places, side, image.shape[:2])
        return len(places)

    def compiled():
        maps["kit"] = occluder(image)
        return len(places)

    copies = np.repeat(image[None], len(places), axis=0)

    def limit():
        model.predict(copies, verbose=0)
        return len(places)

    ways = {
        "model.predict, patch by patch": loop,
        "kit.explain.occlusion": compiled,
        "model.predict, all at once": limit,
    }
    speeds = in_turn(ways, arguments.repeats)
    title = f"{arguments.model}, {image.shape[0]} px, {len(places)} patches of {side} px"
    show(title, speeds, "model.predict, patch by patch")
    difference, largest = np.abs(maps["loop"] - maps["kit"]).max(), np.abs(maps["loop"]).max()
    print(f"  largest difference {difference:.1e} of values up to {largest:.1e}")


if __name__ == "__main__":
    main()
