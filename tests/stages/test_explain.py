"""kit explain: pictures, index, scores and page of a run, and what it refuses."""

import json
import re
import shutil

import numpy as np
import pytest

from kit.cli import main
from kit.errors import ConfigError, DataError
from kit.run import Run
from kit.stages.explain import Wanted, explain, explain_images

pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def run(toy_run, tmp_path_factory):
    """A finished run of two folds, with its records beside it."""
    runs = shutil.copytree(toy_run.directory.parent, tmp_path_factory.mktemp("explain") / "runs")
    return Run((runs / toy_run.directory.name).rename(runs / "first"))


def test_a_run(run):
    place, scores = explain(run, Wanted(counts={"worst": 2, "best": 1}, checks=8))
    index = place.read()
    assert [each.kind for each in index.pictures] == ["worst", "worst", "best"]
    assert [each.file for each in index.pictures] == ["001.jpg", "002.jpg", "003.jpg"]
    assert sorted(path.name for path in place.folder.iterdir()) == [
        "001.jpg",
        "002.jpg",
        "003.jpg",
        "explanations.html",
        "explanations.json",
        "scores.json",
    ]
    assert (scores.method, scores.folds) == ("gradcam", "own")
    assert [check.name for check in scores.checks] == ["randomised weights", "deletion"]
    assert json.loads(place.scores.read_text())["checks"][1]["name"] == "deletion"
    html = place.page.read_text()
    assert index.pictures[0].id in html
    assert html.count("data:image/jpeg") == 3
    explain(run, Wanted(counts={"random": 1}, checks=0))  # replaces all of it
    assert len([*place.folder.glob("*.jpg")]) == len(place.read().pictures) == 1


def test_each_image_is_explained_by_the_model_that_has_not_seen_it(run):
    from kit.data.records.images import images_of
    from kit.explain import cam
    from kit.models import saved
    from kit.stages.records import records_of

    oof = run.oof()
    place, _ = explain(run, Wanted(ids=[*oof["id"][:2]], checks=0))
    for each in place.read().pictures:
        fold = int(oof.set_index("id").loc[each.id, "fold"])
        image = images_of(records_of(run), [each.id])[each.id]
        own = cam(saved.load_model(run.fold(fold).folder), image[None])
        assert np.isclose(each.largest, own.max(), atol=1e-6)
        assert np.isclose(each.p, oof.set_index("id").loc[each.id, "p_tumour"], atol=1e-6)
    mean, _ = explain(run, Wanted(ids=[oof["id"][0]], checks=0, folds="mean"))
    maps = [
        cam(saved.load_model(run.fold(k).folder), images_of(records_of(run), [oof["id"][0]])[oof["id"][0]][None])
        for k in (0, 1)
    ]
    assert np.isclose(mean.read().pictures[0].largest, np.mean(maps, axis=0).max(), atol=1e-6)


def test_test_images_new_images_and_a_second_run(run, _toy_folder, tmp_path, capsys):
    name = run.test()["id"][0]
    assert main(["explain", str(run), "--ids", name, "--checks", "0", "--against", str(_copy(run, tmp_path))]) == 0
    picture = run.explanations.read().pictures[0]
    assert "second" in run.explanations.page.read_text()
    path = next((_toy_folder / "test").glob(f"{name}*"))
    assert (
        main(["explain", str(run), "--images", str(path), "--out", str(tmp_path / "new"), "--method", "occlusion"]) == 0
    )
    new = json.loads((tmp_path / "new" / "explanations.json").read_text())["pictures"][0]
    assert abs(new["p"] - picture.p) < 1e-6
    assert (new["kind"], new["truth"]) == ("new", None)
    assert "written: " in capsys.readouterr().out


def _copy(run, folder):
    shutil.copytree(run.directory.parent, folder / "runs")
    return (folder / "runs" / "first").rename(folder / "runs" / "second")


def test_what_is_refused(run, tmp_path):
    with pytest.raises(DataError, match="has no predictions of nobody"):
        explain(run, Wanted(ids=["nobody"]))
    with pytest.raises(ConfigError, match=r"has no label 'tumor'; .*tumour"):
        explain(run, Wanted(labels=["tumor"]))
    with pytest.raises(DataError, match="matches no file"):
        explain_images(run, [tmp_path / "none.png"], Wanted(), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    moved = Run(_copy(run, tmp_path))
    for records in (tmp_path / "runs").glob("records"):
        records.rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="give --records DIR"):
        explain(moved, Wanted())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--images", "x.png"], "--images and --out go together"),
        (["--out", "x"], "--images and --out go together"),
        (["--images", "x.png", "--out", "x", "--worst", "3"], "--images are all explained"),
        (["--ids", "a", "--worst", "3"], "--ids names the images"),
    ],
)
def test_options_that_contradict_each_other(run, capsys, arguments, message):
    assert main(["explain", str(run), *arguments]) == 2
    assert re.search(message, capsys.readouterr().err)
