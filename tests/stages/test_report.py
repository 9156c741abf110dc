"""The report of runs of every task, made by hand: one well-formed page, and nothing that the run does not hold."""

import re

import html5lib
import numpy as np
import pandas as pd
import pytest

from kit import files
from kit.cli import main
from kit.errors import ConfigError, DataError
from kit.run import Run
from kit.schemas import Explanation, Explanations
from kit.stages import report
from kit.stages.ensemble import ensemble
from kit.stages.report import try_report, write_report
from tests.report.made import NASTY, make

pytestmark = pytest.mark.once
MANY = tuple(f"finding {n}" for n in range(4))
TASKS = {"binary": (NASTY,), "multiclass": (NASTY, "b", "c"), "multilabel": (NASTY, *MANY), "detection": (NASTY, "b")}


def parsed(path):
    """The page as a tree; raises for what is not well-formed."""
    text = path.read_text()
    tree = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(text)
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids)) and not tree.findall(".//script")
    assert {*re.findall(r'href="#([^"]+)"', text), *re.findall(r"url\(#([^)]+)\)", text)} <= set(ids)
    return tree


def text_of(tree):
    return " ".join(" ".join(tree.itertext()).split())


@pytest.fixture(autouse=True)
def no_drawing(request, monkeypatch):
    """Writing figures takes most of the time: only tests that look at them have them written."""
    if "pictures" not in request.fixturenames:
        monkeypatch.setattr(report.page.style, "png", lambda figure: b"a figure")
    if not {"pictures", "drawn"} & {*request.fixturenames}:
        monkeypatch.setattr(report.page.style, "svg", lambda figure, name: "<svg></svg>")


@pytest.fixture
def drawn():
    """The page has its figures."""


@pytest.fixture
def pictures(monkeypatch):
    """Records that hold every image."""

    class Records:
        fingerprint, image = "made by hand", None

    def images(records, ids):
        return ((name, np.zeros((8, 8, 1), np.uint8)) for name in sorted(ids))

    monkeypatch.setattr(report, "records_of", lambda run, given: Records())
    for module in (report.report_classes, report.report_boxes):
        monkeypatch.setattr(module, "iter_images", images)
    monkeypatch.setattr(report.report_boxes, "to_shares", lambda boxes, *sizes: boxes)


@pytest.mark.parametrize("task", TASKS)
def test_a_page_for_every_task(task, tmp_path, pictures):
    run = make(tmp_path / "run", task, TASKS[task])
    path = write_report([run])
    tree = parsed(path)
    text = text_of(tree)
    assert path == run.report_path and path.stat().st_size < 3e6
    value = f"{run.scores.value:.3f}".removeprefix("0")
    assert f"{value} out of fold" in text and "60" in text and "30" in text
    assert NASTY in text and "What this does not show" in text
    headings = [heading.text for heading in tree.findall(".//h2")]
    assert headings[0] == "Result" and {"Training", "The data", "How it was made", "Images to look at"} <= {*headings}
    images = tree.findall(".//img")
    assert len(images) > 6 and all(image.get("src").startswith("data:image/jpeg") for image in images)
    assert all(image.get("alt") for image in images)
    figures = [each for each in tree.findall(".//figure") if each.get("id")]
    names = {path.stem for path in run.figures_path.glob("*.png")}
    assert {figure.get("id").removeprefix("figure-") for figure in figures} == names and len(names) >= 6
    assert all(figure.find("div").get("aria-label") and figure.find("figcaption").text for figure in figures)


def test_without_records_it_says_so(tmp_path):
    tree = parsed(write_report([make(tmp_path / "run")]))
    assert "the page has no pictures" in text_of(tree) and not tree.findall(".//img")


def test_labels_to_check_are_a_table_of_the_run(tmp_path):
    run = make(tmp_path / "run", noise=0.4)
    oof = run.oof()
    positive = run.examples().set_index("id").loc[oof["id"], f"y_{NASTY}"].to_numpy() == 1
    wrong = np.flatnonzero(positive)[:3]  # the model is sure of the contrary
    oof.loc[wrong, f"p_{NASTY}"] = np.float32(0.001)
    files.write_parquet(run.oof_path, oof)
    write_report([run])
    table = pd.read_csv(run.labels_to_check_path, dtype=str)
    assert list(table) == ["id", "label", "given", "suggested", "score"]
    assert set(table["id"][:3]) == set(oof["id"][wrong])
    assert (table["given"][:3] == "1").all() and (table["suggested"][:3] == "0").all()
    assert not write_report([make(tmp_path / "boxes", "detection")]).with_name("labels_to_check.csv").exists()


def test_what_is_up_to_date_is_not_written_again(tmp_path):
    run = make(tmp_path / "run")
    stale = run.figures_path / "stale.png"
    write_report([run])
    before = run.report_path.stat().st_mtime_ns
    write_report([run])
    assert run.report_path.stat().st_mtime_ns == before
    stamp = files.read_json(run.reported_done)
    files.write_text(stale, "a figure of before")
    files.write_json(run.reported_done, {**stamp, "outputs": {**stamp["outputs"], "figures/stale.png": "0"}})
    write_report([run])
    assert run.report_path.stat().st_mtime_ns > before and not stale.exists()
    run.report_path.write_text("changed")
    write_report([run])
    parsed(run.report_path)


def test_runs_are_compared_in_pairs(tmp_path, drawn):
    runs = [make(tmp_path / name, noise=noise) for name, noise in (("good", 0.5), ("bad", 3.0))]
    text = text_of(parsed(write_report(runs)))
    assert "Runs compared" in text and "difference of ROC AUC to good" in text
    with pytest.raises(ConfigError, match="twice"):
        write_report([runs[0], runs[0]])
    boxes = make(tmp_path / "boxes", "detection")
    with pytest.raises(DataError, match="no metric compares"):
        write_report([runs[0], boxes], out=tmp_path / "none.html")
    assert not (tmp_path / "none.html").exists()


def test_an_ensemble_has_weights_and_correlations(tmp_path):
    runs = [make(tmp_path / name, noise=1, seed=seed) for seed, name in enumerate(("one", "two"))]
    out = Run(tmp_path / "both")
    ensemble(runs, out, how="convex")
    text = text_of(parsed(write_report([out])))
    assert "What it is blended from" in text and "Blended are one, two" in text and "Training" not in text
    assert str(tmp_path) not in text


def test_the_frozen_network_stands_beside_what_training_made_of_it(tmp_path):
    run = make(tmp_path / "run", noise=0.5)
    make(run.frozen.directory, noise=2)
    text = text_of(parsed(write_report([run])))
    assert "Training adds" in text and "frozen network" in text
    assert (run.figures_path / "roc_before_after.png").exists()


def test_explanations_are_shown_and_stay_in_their_folder(tmp_path):
    run = make(tmp_path / "run")
    known = {"id": "image 00 <i>", "label": NASTY, "kind": "worst", "p": 0.9, "truth": None, "decision": None}
    entry = Explanation(**known, file="001.jpg", largest=1.0)
    files.write_json(run.explanations.index, Explanations(pictures=[entry]).as_json())
    (run.explanations.folder / "001.jpg").write_bytes(b"\xff\xd8 a JPEG")
    tree = parsed(write_report([run]))
    assert len(tree.findall(".//img")) == 1 and "What the model looked at" in text_of(tree)
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    outside = entry.model_copy(update={"file": "../../secret.jpg"})
    files.write_json(run.explanations.index, Explanations(pictures=[outside]).as_json())
    with pytest.raises(DataError, match="does not lie in it"):
        write_report([run])


def test_out_is_the_page_alone(tmp_path):
    run = make(tmp_path / "run")
    assert main(["report", str(run), "--out", str(tmp_path / "page.html")]) == 0
    parsed(tmp_path / "page.html")
    assert not run.report_path.exists() and not run.figures_path.exists()


@pytest.mark.parametrize("damage", ["oof_path", "examples_path", "config_path", "folds_path", "history"])
def test_a_damaged_run_is_one_line(damage, tmp_path, capsys):
    run = make(tmp_path / "run")
    path = run.fold(0).history if damage == "history" else getattr(run, damage)
    path.write_text("epoch,loss\n0,much\n" if damage == "history" else "{")
    assert main(["report", str(run)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("kit: ") and error.count("\n") == 1 and path.name in error
    assert not run.report_path.exists()


def test_a_run_is_done_without_its_report(tmp_path, caplog):
    caplog.set_level("INFO", "kit")
    run = make(tmp_path / "run")
    run.report_path.mkdir()
    try_report(run, tmp_path)
    assert "no report: " in caplog.text and "\n" not in caplog.messages[-1]


def test_no_run_at_all(tmp_path, capsys):
    assert main(["report", str(tmp_path / "nothing")]) == 2
    assert "is not a run directory" in capsys.readouterr().err
