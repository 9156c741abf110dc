"""Masks are known by the pictures beside them, never by their names alone."""

import pandas as pd
import pytest

from kit.data.table.masks import are_masks, is_mask_folder, is_picture_folder


@pytest.mark.parametrize(
    ("picture", "mask"),
    [
        ("benign/benign (1).png", "benign/benign (1)_mask.png"),
        ("benign/benign (1).png", "benign/benign (1)_mask_1.png"),
        ("1.jpg", "1_Segmentation.png"),
        ("ISIC_0000000.jpg", "ISIC_0000000_segmentation.png"),
        ("1.dcm", "1-seg-2.png"),
        ("a/1.png", "a/mask_1.png"),
        ("a/1.png", "a/1.gt.tif"),
        ("a/x.png", "a/x ground truth.png"),
        ("COVID/images/COVID-1.png", "COVID/masks/COVID-1.png"),
        ("images/a/1.png", "masks/a/1.png"),
        ("a/imgs/1.png", "a/labels/another.png"),
        ("a/1.png", "a/masks/1.png"),
        ("a/1.png", "a/masks/1_mask.png"),
    ],
)
def test_a_mask_and_its_picture(picture, mask):
    paths = pd.Series([picture, mask, "z.png"], index=[5, 3, 9])
    assert are_masks(paths).to_dict() == {5: False, 3: True, 9: False}


@pytest.mark.parametrize(
    "paths",
    [
        ["a/1_mask.png", "a/2.png"],  # no picture of its name
        ["a/1_mask.png", "b/1.png"],  # in another folder
        ["mask/1.png", "no_mask/1.png"],  # who wears one
        ["a/label1.png", "a/1.png"],
        ["a/segment.png", "a/gtx.png"],
        [],
    ],
)
def test_what_is_no_mask(paths):
    assert not are_masks(pd.Series(paths, dtype=str)).any()


def test_folders():
    assert all(map(is_mask_folder, ("masks", "Mask", "labels", "GroundTruth", "ground_truth", "GT", "binary_masks")))
    assert not any(map(is_mask_folder, ("no_mask", "with_mask", "images", "mask1")))
    assert all(map(is_picture_folder, ("images", "IMG", "x-rays", "original")))
    assert not any(map(is_picture_folder, ("benign", "image1", "imaging")))
