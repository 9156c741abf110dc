"""A data set on one page, from folders of several kinds; what is wrong with a folder is what `kit run` says."""

import re
import shutil

import html5lib
import numpy as np
import pytest
from PIL import Image

from kit.cli import main
from kit.competitions import toy_boxes

pytestmark = pytest.mark.once


@pytest.fixture
def eda(tmp_path, capsys):
    """A function: arguments of `kit eda` -> the page as a tree, and its text."""

    def call(*arguments):
        out = tmp_path / "page.html"
        assert main(["eda", *map(str, arguments), "--out", str(out), "--images", "60"]) == 0, capsys.readouterr().err
        assert capsys.readouterr().out.endswith(f"{out}\n")
        text = out.read_text(encoding="utf-8")
        tree = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(text)
        ids = re.findall(r'\bid="([^"]+)"', text)
        assert len(ids) == len(set(ids)) and "nan" not in " ".join(tree.find("body").itertext()).split()
        return tree, " ".join(" ".join(tree.find(".//main").itertext()).split())

    return call


def _sections(tree):
    return [heading.text for heading in tree.findall(".//h2")]


def test_one_label(eda, toy_root):
    tests = sorted((toy_root / "test").iterdir())
    shutil.copy(sorted((toy_root / "train").iterdir())[0], tests[0])  # an image on both sides
    tests[1].write_bytes(b"no image")
    tree, text = eda("toy", "--data", toy_root, "--edges")
    assert _sections(tree) == ["Overview", "Findings", "Labels", "Images", "Files", "Pixels"]
    assert "150 images, each a group of its own. Labels: tumour." in text
    assert "1 set of images with the same pixels on two sides of a split: a leak." in text
    assert f"1 file cannot be read: test/{tests[1].name}" in text
    assert "fold 2" in text and "Edges (Sobel)" in text and "TIFF, RGB" in text
    assert len(tree.findall(".//img")) == 2 + 24 + 2 + 2  # the set, twelve of each class, means, edges


def test_boxes(eda, tmp_path):
    toy_boxes.make(tmp_path / "raw", train=40, test=6, size=64)
    tree, text = eda("toy_boxes", "--data", tmp_path / "raw", "--set", "folds=2")
    assert _sections(tree) == ["Overview", "Findings", "Labels", "Images", "Files", "Pixels", "Boxes"]
    assert re.search(r"\d+ boxes in \d+ of 40 images", text) and "Boxes are drawn in green." in text


@pytest.fixture
def photos(tmp_path):
    """Photos with a table: two labels, patients, age and view."""
    rng = np.random.default_rng(0)
    root, lines = tmp_path / "photos", ["file,edema,<i>mass</i>,patient,age,view"]
    root.mkdir()
    for n in range(40):
        pixels = rng.integers(0, 256, (24 + n % 3, 24, 3), np.uint8)
        Image.fromarray(pixels).save(root / f"{n}.png")
        age = 412 if n == 7 else 20 + n
        lines.append(f"{n}.png,{n % 2},{'' if n == 3 else int(n % 5 == 0)},p{n // 2},{age},{'AP' if n % 3 else 'PA'}")
    (root / "labels.csv").write_text("\n".join(lines))
    columns = {"id": "file", "label": "edema,<i>mass</i>", "group": "patient", "metadata": "age,view"}
    return ["csv", "--data", root, "--set", "table=labels.csv", "--set", "train.batch_size=8"] + [
        word for name, value in columns.items() for word in ("--set", f"columns.{name}={value}")
    ]


def test_several_labels_with_metadata(eda, photos):
    tree, text = eda(*photos)
    assert _sections(tree)[-1] == "Metadata" and not tree.findall(".//i")
    assert "age: 412 (7.png): not between 0 and 120 years." in text
    assert "40 images, of 20 groups (patients). Labels: edema, <i>mass</i>." in text
    assert "view: images of each value" in text and "none of these" in text and "24 × 26" in text


def test_images_left_out_are_not_looked_at(eda, photos, tmp_path):
    (tmp_path / "out.csv").write_text("id\n7.png\n")
    _, text = eda(*photos, "--quick", "--set", f"data.exclude={tmp_path / 'out.csv'}")
    assert "412" not in text and "39 images" in text and "Only the sample was decoded" in text
    assert "left out, as data.exclude names them: 1 training image" in text


def test_folds_that_cannot_be_dealt_are_told(eda, photos):
    _, text = eda(*photos, "--set", "folds=30")
    assert "A run would be refused: folds = 30, but there are 20 groups (patients) of 40 images" in text


def test_what_is_no_folder_of_images(tmp_path, capsys):
    out = ["--out", str(tmp_path / "page.html")]
    assert main(["eda", "pcam", "--data", str(tmp_path / "nowhere"), *out]) == 2
    ours = capsys.readouterr().err
    assert main(["run", "pcam", "--data", str(tmp_path / "nowhere"), "--run", str(tmp_path / "run")]) == 2
    assert ours == capsys.readouterr().err and ours.startswith("kit: ")
    assert main(["eda", "pcam", *out]) == 2
    assert capsys.readouterr().err == "kit: where are the raw files of pcam? Give --data DIR\n"
    assert not (tmp_path / "page.html").exists()


def test_classes(eda, tmp_path):
    rng = np.random.default_rng(0)
    for n in range(36):
        path = tmp_path / "photos" / ("normal", "benign", "cancer")[n % 3] / f"{n}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 20), np.uint8)).save(path)
    tree, text = eda("folders", "--data", tmp_path / "photos", "--set", "train.batch_size=8")
    assert "36 images, each a group of its own. Classes: benign, cancer, normal." in text
    assert "Nothing odd was found" in text and "All images of the sample are grey" in text
    assert not [figure for figure in tree.iter("figure") if figure.get("id") == "figure-together"]  # classes exclude
