"""What holds for every competition, and the one that docs/extending.md adds."""

import re
from pathlib import Path

import pandas as pd
import pytest

from kit import pipeline
from kit.competitions import competition_names, find_competition
from kit.config import Source, config_names, load_config
from kit.config.new import write_competition
from kit.errors import ConfigError, DataError
from kit.evaluate.metrics import METRICS
from kit.stages import examples as stage
from kit.stages.examples import raw_folder
from kit.tasks import TASKS

EXTENDING = (Path(__file__).parents[2] / "docs" / "extending.md").read_text()


@pytest.mark.parametrize("name", competition_names())
def test_every_competition_says_what_it_is(name):
    competition = find_competition(name)
    assert competition.name == name
    assert competition.target is next(iter(competition.targets.values()))
    for target in competition.targets.values():
        assert target.task in ("", *TASKS)
        assert target.labels or competition.target.task == ""  # they depend on the data
        assert target.labels == () or target.task
        assert target.metric in METRICS
        assert set((target.columns or {}).values()) <= set(target.labels)
        assert all(set(labels) <= set(target.labels) for labels in target.means.values())
    assert load_config(name).competition == name  # its YAML
    text = (Path(__file__).parents[2] / "configs" / f"{name}.yaml").read_text()
    assert text.startswith(f"# kit run {name}") or name == "toy"


def test_every_config_names_a_competition():
    assert {load_config(name).competition for name in config_names()} == set(competition_names())


def test_settings_that_a_competition_does_not_take():
    with pytest.raises(ConfigError, match=r"pcam does not take the setting 'target'.*it takes none of this kind"):
        find_competition("pcam", Source(target="x"))
    with pytest.raises(ConfigError, match=r"medmnist does not take the setting 'columns'.*it takes table"):
        find_competition("medmnist", Source(columns={"id": "x"}))
    assert find_competition("folders", Source(target="ill", columns={"group": "p"})).name == "folders"


def test_a_target_of_your_own_data_is_a_kind_of_task_or_a_class():
    for name in ("folders", "csv"):
        assert find_competition(name, Source(target="boxes")).target.task == "detection"
        assert find_competition(name, Source(target="ill")).target.task == ""
        assert find_competition(name).target.task == ""


def test_raw_files_are_given_or_mounted(tmp_path, monkeypatch):
    nih, breast = find_competition("nih"), find_competition("breast")
    assert raw_folder(nih, tmp_path, tmp_path / "own") == tmp_path
    with pytest.raises(DataError, match="where are the raw files of breast"):
        raw_folder(breast, None, tmp_path / "own")
    monkeypatch.setattr(stage, "find_mount", lambda slug: Path("/kaggle/input") / slug)
    assert raw_folder(nih, None, tmp_path / "own") == Path("/kaggle/input/nih-chest-xrays/data")


def block(name):
    """The code block of docs/extending.md that opens with the name of a file."""
    (match,) = re.findall(rf"```\w+\n# {name}\n(.*?)```", EXTENDING, re.DOTALL)
    return match


def test_the_code_of_the_docs_runs(write_images, tmp_path, monkeypatch, keras):
    """As tests/test_extending.py does, which installs kit for it."""
    for name in ("moles.py", "metrics.py", "nets.py", "losses.py", "aug.py", "own.yaml"):
        (tmp_path / name).write_text(block(name))
    write_competition("spots", "csv", tmp_path)
    assert (tmp_path / "spots.py").read_text().replace("spots", "moles").replace("Spots", "Moles") == block("moles.py")
    root = write_images(*(f"images/m{n}.png" for n in range(30)))
    truth = [f"m{n},p{n // 2},{n // 2 % 2}" for n in range(24)]
    (root / "train.csv").write_text("\n".join(["id,patient,label", *truth]) + "\n")
    sample = [f"m{n},0.5" for n in range(24, 30)]
    (root / "sample_submission.csv").write_text("\n".join(["id,label", *sample]) + "\n")
    small = ["image.size=32", "train.epochs=1", "train.batch_size=4", "evaluate.resamples=100"]
    own = str(tmp_path / "own.yaml")
    result = pipeline.run(own, root, tmp_path / "run", settings=small, report=False)
    assert result.scores.metric == "metrics.py:pfbeta"  # kit has one, too
    sent = pd.read_csv(result.submission_path)
    assert list(sent) == ["id", "label"] and sent["id"].tolist() == [f"m{n}" for n in range(24, 30)]
    table = pd.read_parquet(tmp_path / "run" / "examples.parquet").set_index("id")
    assert table.loc["m0", "group"] == table.loc["m1", "group"] == "p0"
    (tmp_path / "moles.py").write_text(block("moles.py") + "\n")
    with pytest.raises(ConfigError, match=r"2 folds that would be trained again, .*: moles\.py has been edited"):
        pipeline.run(own, root, tmp_path / "run", settings=small)
