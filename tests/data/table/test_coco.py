import copy
import json

import pytest

from kit.data.table.coco import is_coco, read_coco
from kit.errors import DataError

WHOLE = {
    "info": {},
    "images": [
        {"id": 1, "file_name": "a.png", "width": 30, "height": 20, "patient": 7},
        {"id": 2, "file_name": "b.png", "width": 30, "height": 20, "patient": 8, "tags": ["x"]},
        {"id": 9, "file_name": "c.png", "width": 30, "height": 20},
    ],
    "annotations": [
        {"id": 11, "image_id": 1, "category_id": 5, "bbox": [1, 2, 3, 4.5], "segmentation": [[1, 2, 4, 2, 4, 6]]},
        {"id": 12, "image_id": 1, "category_id": 4, "bbox": [5, 6, 7, 8], "iscrowd": 0},
        {
            "id": 13,
            "image_id": 2,
            "category_id": 4,
            "bbox": [5, 6, 7, 8],
            "segmentation": {"size": [20, 30], "counts": "x"},
        },
    ],
    "categories": [{"id": 5, "name": "mass"}, {"id": 4, "name": "nodule"}],
}


def read(tmp_path, content):
    (tmp_path / "coco.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return read_coco(tmp_path / "coco.json")


def changed(*path, value):
    content = copy.deepcopy(WHOLE)
    place = content
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return content


def test_images_boxes_and_categories(tmp_path):
    coco = read(tmp_path, WHOLE)
    assert (coco.labels, coco.remarks) == (("mass", "nodule"), {})
    assert coco.ids.tolist() == ["a.png", "b.png", "c.png"]
    assert coco.sizes == dict.fromkeys(coco.ids, (30, 20))
    assert coco.boxes.to_numpy().tolist() == [
        ["a.png", 1, 2, 3, 4.5, "mass"],
        ["a.png", 5, 6, 7, 8, "nodule"],
        ["b.png", 5, 6, 7, 8, "nodule"],
    ]
    assert (coco.boxes.index.name, [*coco.boxes.index]) == ("annotation", [11, 12, 13])
    assert coco.images["patient"].tolist() == ["7", "8", ""]
    assert is_coco(tmp_path / "coco.json")


def test_what_is_left_out_is_said(tmp_path):
    content = changed("annotations", 2, "iscrowd", value=1)
    content["categories"].append({"id": 0, "name": "everything"})
    coco = read(tmp_path, content)
    assert len(coco.boxes) == 2
    assert coco.remarks == {
        "crowds (iscrowd), left out": 1,
        "images with nothing but crowds, taken as images without a box (b.png)": 1,
        "categories without a box, left out (everything)": 1,
    }


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"images": [', r"cannot read .*coco.json as JSON: .*line 1"),
        ([{"image_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}], "is a list of results, not a COCO data set"),
        ({"images": []}, "has no list of objects 'annotations'"),
        (changed("annotations", 1, value=3), "has no list of objects 'annotations'"),
        (changed("images", 1, "file_name", value=""), r"images\[1\] has no id, or no file_name"),
        (changed("categories", 1, "id", value=None), r"categories\[1\] has no id, or no name"),
        (changed("images", 1, "id", value=1), "two images have the id 1: each needs its own"),
        (changed("images", 1, "file_name", value="a.png"), "two images have the file_name 'a.png'"),
        (changed("categories", 1, "name", value="mass"), "two categories have the name 'mass'"),
        (changed("categories", 1, "name", value="Mass "), "categories 'mass' and 'Mass' are one name"),
        (changed("images", 0, "width", value=0), r"image 1 \(a.png\): width and height are not both numbers above 0"),
        (changed("images", 0, "height", value=None), r"image 1 \(a.png\): width and height are not both"),
        (changed("annotations", 1, "image_id", value=3), "annotation 12 has image_id 3, which none of the images has"),
        (changed("annotations", 1, "image_id", value=[3]), r"annotation 12 has image_id \[3\]"),
        (changed("annotations", 1, "category_id", value="4"), "annotation 12 has category_id '4', which none of the"),
        (changed("annotations", 1, "bbox", value=[1, 2, 3]), r"annotation 12 has the bbox \[1, 2, 3\], where \[x, y"),
        (changed("annotations", 1, "bbox", value=[1, 2, 3, "4"]), "annotation 12 has the bbox"),
        (changed("annotations", 1, "bbox", value=[1, 2, 3, float("nan")]), "annotation 12 has the bbox .*nan"),
        (changed("annotations", 1, "bbox", value=None), "annotation 12 has no bbox"),
        (
            changed("annotations", 2, "segmentation", "size", value=[30, 20]),
            r"annotation 13 has a mask of another size, \[30, 20\], than its image b.png: \[20, 30\]",
        ),
        (changed("annotations", value=[]), "no image has a box: there is nothing to learn"),
    ],
)
def test_files_that_are_not_whole(tmp_path, content, says):
    with pytest.raises(DataError, match=says):
        read(tmp_path, content)


def test_an_annotation_without_an_id_is_counted(tmp_path):
    content = copy.deepcopy(WHOLE)
    del content["annotations"][1]["id"]
    content["annotations"][1]["bbox"] = []
    with pytest.raises(DataError, match=r"annotation \[1\] has no bbox"):
        read(tmp_path, content)


def test_other_json_is_no_coco(tmp_path):
    for name, text in (("a.json", "{}"), ("b.json", ""), ("c.txt", json.dumps(WHOLE))):
        (tmp_path / name).write_text(text)
        assert not is_coco(tmp_path / name)
