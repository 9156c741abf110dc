"""Occlusion: what a loop of one prediction for each patch gives."""

import numpy as np
import pytest

from kit.explain.occlusion import Patch


def naive(model, image, patch, read):
    """The definition, patch after patch."""
    height, width = image.shape[:2]
    side, step = round(patch.side * min(height, width)), round(patch.step * min(height, width))
    fill = np.round(image.mean(axis=(0, 1))) if patch.fill == "mean" else patch.fill
    whole = read(model.predict_on_batch(image[None]))
    total, count = np.zeros((len(whole), height, width)), np.zeros((height, width))
    for y in [*range(0, height - side, step), height - side]:
        for x in [*range(0, width - side, step), width - side]:
            copy = image.copy()
            copy[y : y + side, x : x + side] = fill
            drop = whole - read(model.predict_on_batch(copy[None]))
            total[:, y : y + side, x : x + side] += (abs(drop) if patch.change == "absolute" else drop)[:, None, None]
            count[y : y + side, x : x + side] += 1
    return total / count


@pytest.mark.parametrize("patch", [Patch(1 / 4, 1 / 8), Patch(0.3, 0.3, 128, "absolute"), Patch(1 / 4, 1 / 5, 0)])
def test_is_the_loop(build, images, patch):
    from kit.explain import occlusion

    model = build("tiny_map", units=[8])
    maps = occlusion(model, images[:2], patch=patch, batch_size=7)
    assert maps.shape == (2, 2, 32, 32)
    for image, own in zip(images, maps, strict=False):
        assert np.abs(own - naive(model, image, patch, lambda p: p[0].astype(float))).max() < 1e-5
    assert np.array_equal(occlusion(model, images[:2], [1], patch, 7), maps[:, 1:])


def test_of_a_detector_is_the_best_box(build, images):
    from kit.explain import occlusion

    detector = build("fcos", backbone="tiny_levels", channels=8, depth=1, finest=3, coarsest=5)
    patch = Patch(1 / 2, 1 / 4)

    def best(outputs):
        return detector.candidates(outputs, 100).best(2)[0]

    maps = occlusion(detector, images[:1], [0, 1], patch)
    assert np.abs(maps[0] - naive(detector, images[0], patch, best)).max() < 1e-5


def test_finds_the_one_place_that_matters(by_hand):
    from kit.explain import occlusion

    model = by_hand([0, 0, 0, 0, 0, 0, 1, 0])  # the last place alone
    image = np.array([[[[3], [3]], [[3], [9]]]], np.uint8)
    heat = occlusion(model, image, patch=Patch(1 / 2, 1 / 2, 0))[0, 0]
    assert heat.argmax() == 3
    assert np.abs(heat.ravel()[:3]).max() < 1e-7


@pytest.mark.once
def test_places_cover_the_image():
    places, side = Patch(1 / 8, 1 / 16).places(96, 130)
    assert side == 12
    covered = np.zeros((96, 130), int)
    for y, x in places:
        covered[y : y + side, x : x + side] += 1
    assert covered.min() >= 1
    assert places.max(axis=0).tolist() == [84, 118]
