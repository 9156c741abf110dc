import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.boxes import Boxes
from kit.config import ImageSettings
from kit.data.pixels.geometry import to_shares, to_source
from kit.data.pixels.steps import prepare
from kit.errors import ConfigError, DataError

pytestmark = pytest.mark.once


def crop(size):
    return {"name": "center_crop", "size": size}


def resize(size, method="area"):
    return {"name": "resize", "size": size, "method": method}


GREY, CLAHE, ESRGAN = {"name": "grayscale"}, {"name": "clahe", "clip_limit": 1.0}, {"name": "super_resolution"}


def of(*steps, size=64):
    return ImageSettings.model_validate({"steps": steps, "size": size, "color": "gray"})


def truth(*boxes, image=None):
    image = np.zeros(len(boxes), np.int64) if image is None else np.array(image)
    n = len(boxes)
    return Boxes(int(image.max(initial=-1)) + 1, image, np.array(boxes, float).reshape(n, 4), np.arange(n), np.ones(n))


def shares(boxes, settings, height, width):
    images = np.ones(boxes.images, np.int64)
    return to_shares(boxes, height * images, width * images, settings)


def test_a_resized_image_keeps_shares():
    out = shares(truth([10, 20, 30, 40]), of(resize(100), GREY, CLAHE, resize(50)), 200, 100)
    assert out.xywh.tolist() == [pytest.approx([0.1, 0.1, 0.3, 0.2])]
    assert (out.images, out.image.tolist(), out.label.tolist(), out.score.tolist()) == (1, [0], [0], [1])


def test_a_crop_takes_the_pixels_that_the_step_takes():
    # of 101 x 80 pixels: columns 18 (35 // 2 rounded down) to 81, rows 8 to 71
    out = shares(truth([18, 8, 64, 64], [19, 9, 8, 16]), of(crop(64)), 80, 101)
    assert out.xywh.tolist() == [[0, 0, 1, 1], [1 / 64, 1 / 64, 8 / 64, 16 / 64]]
    # twice: 100 -> 80 -> (as 40) -> 20: the middle half of the middle 80
    twice = shares(truth([30, 40, 40, 20]), of(crop(80), resize(40), crop(20)), 100, 100)
    assert twice.xywh.tolist() == [pytest.approx([0, 0.25, 1, 0.5])]


def test_boxes_are_cut_by_a_crop_and_dropped_where_little_is_left():
    # the crop is columns and rows 20 to 79 of 100: .5, .3, .25 and nothing of the width is inside
    boxes = truth([10, 40, 20, 10], [6, 40, 20, 10], [5, 40, 20, 10], [0, 0, 10, 10])
    out = shares(boxes, of(crop(60)), 100, 100)
    assert out.label.tolist() == [0, 1]
    assert out.xywh.tolist() == [
        pytest.approx([0, 20 / 60, 10 / 60, 10 / 60]),
        pytest.approx([0, 20 / 60, 0.1, 10 / 60]),
    ]


def test_images_of_several_sizes_and_without_boxes():
    boxes = truth([10, 10, 10, 10], [10, 10, 10, 10], image=[0, 2])
    out = to_shares(boxes, np.array([100, 50, 20]), np.array([50, 50, 40]), of())
    assert out.xywh.tolist() == [pytest.approx([0.2, 0.1, 0.2, 0.1]), pytest.approx([0.25, 0.5, 0.25, 0.5])]
    assert out.images == 3
    none = to_shares(truth(), np.array([], int), np.array([], int), of(crop(32)))
    assert (len(none), none.xywh.shape) == (0, (0, 4))


def test_impossible_crops_are_refused():
    with pytest.raises(ConfigError, match=r"image\.steps: after super_resolution .* crop first, or resize between"):
        shares(truth([1, 1, 4, 4]), of(ESRGAN, crop(32)), 64, 64)
    between = shares(truth([16, 16, 16, 16]), of(ESRGAN, resize(64), crop(32)), 128, 128)  # the middle 64 of 128
    assert len(between) == 0
    assert shares(truth([32, 32, 32, 64]), of(crop(64), ESRGAN), 128, 128).xywh.tolist() == [[0, 0, 0.5, 1]]
    with pytest.raises(DataError, match="center_crop to 65 pixels, but an image has only 70x64: make the crop smaller"):
        shares(truth([1, 1, 4, 4]), of(crop(65)), 64, 70)


STEPS = st.sampled_from(
    [
        (),
        (GREY, crop(90)),
        (resize(120), crop(77)),
        (crop(95), resize(200, "lanczos"), CLAHE, crop(151)),
        (resize(80, "lanczos"), ESRGAN),
    ]
)
SIDES = st.integers(96, 240)


@settings(max_examples=100, deadline=None)
@given(steps=STEPS, height=SIDES, width=SIDES, box=st.lists(st.floats(0.35, 0.6), min_size=4, max_size=4))
def test_there_and_back(steps, height, width, box):
    x, y, right, bottom = box
    box = [x * width, y * height, abs(right - x) * width + 0.1, abs(bottom - y) * height + 0.1]
    out = shares(truth(box), of(*steps), height, width)
    if len(out):
        back = to_source(out, np.array([height]), np.array([width]), of(*steps)).xywh[0]
        inside = (out.xywh[0, :2] > 0).all() and (out.xywh[0, :2] + out.xywh[0, 2:] < 1).all()
        assert not inside or back == pytest.approx(box, abs=1e-9)
        assert (back[:2] >= np.array(box[:2]) - 1e-9).all()
        assert (back[:2] + back[2:] <= np.array(box[:2]) + box[2:] + 1e-9).all()
    else:
        assert any(step["name"] == "center_crop" for step in steps)


@settings(max_examples=30, deadline=None)
@given(
    steps=st.sampled_from(
        [
            (),
            (GREY, crop(90)),
            (resize(120), crop(77)),
            (crop(95), resize(200, "lanczos"), crop(151)),
            (resize(80, "lanczos"),),
        ]
    ),
    height=st.integers(120, 240),  # OpenCV is less exact where it shrinks one side and enlarges the other
    width=st.integers(120, 240),
    size=st.sampled_from([48, 64, 224]),
    start=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_a_painted_box_is_found_where_its_shares_say(steps, height, width, size, start):
    # in the middle, so that no crop cuts it
    x, y = (int(side * 0.42 + s * side * 0.06) for side, s in zip((width, height), start, strict=True))
    w, h = int(width * 0.1), int(height * 0.08)
    image = np.full((height, width, 1), 60, np.uint8)  # the lobes of Lanczos reach below and above
    image[y : y + h, x : x + w] = 180
    stored = (prepare(image, of(*steps, size=size))[..., 0].astype(float) - 60) / 120
    (found,) = shares(truth([x, y, w, h]), of(*steps, size=size), height, width).xywh * size
    places = np.arange(size) + 0.5
    for profile, at, length in ((stored.sum(0), found[0], found[2]), (stored.sum(1), found[1], found[3])):
        # rounding to grey levels, and the last area of a shrunk side, move the middle by parts of a pixel
        assert (profile * places).sum() / profile.sum() == pytest.approx(at + length / 2, abs=0.35)
    assert stored.sum() == pytest.approx(found[2] * found[3], rel=0.05)
    rows, columns = np.nonzero(stored > 0.5)
    first, last = np.array([columns.min(), rows.min()]), np.array([columns.max(), rows.max()]) + 1
    seen = truth([*first / size, *(last - first) / size])
    back = to_source(seen, np.array([height]), np.array([width]), of(*steps, size=size)).xywh[0]
    pixel = (back[2:] / (last - first)).max()  # the side of a stored pixel, in pixels of the source
    assert [*back[:2], *(back[:2] + back[2:])] == pytest.approx([x, y, x + w, y + h], abs=max(1, pixel))
