"""What holds for every competition, and the one that docs/extending.md adds."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import kit.competitions
from kit import pipeline
from kit.competitions import competition_names, find_competition
from kit.config import Source, config_names, load_config
from kit.errors import ConfigError, DataError
from kit.evaluate.metrics import METRICS
from kit.stages import examples as stage
from kit.stages.examples import raw_folder
from kit.tasks import TASKS
from tests.conftest import TINY

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


def block(kind, first):
    """The code block of docs/extending.md that opens with a line."""
    blocks = re.findall(rf"```{kind}\n(.*?)```", EXTENDING, re.DOTALL)
    (match,) = [text for text in blocks if text.startswith(first)]
    return match


def test_the_competition_of_the_docs_runs(write_images, tmp_path, monkeypatch, keras):
    code, config = block("python", "# kit/competitions/moles.py"), block("yaml", "# configs/moles.yaml")
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "moles.py").write_text(code)
    (tmp_path / "moles.yaml").write_text(config)
    monkeypatch.setattr(kit.competitions, "__path__", [*kit.competitions.__path__, str(modules)])
    root = write_images(*(f"photos/m{n}.png" for n in range(30)))
    truth = [f"m{n},p{n // 2},{n // 2 % 2}" for n in range(24)]
    (root / "truth.csv").write_text("\n".join(["photo,patient,melanoma", *truth]) + "\n")
    sample = [f"m{n},0.5" for n in range(24, 30)]
    (root / "sample_submission.csv").write_text("\n".join(["photo,target", *sample]) + "\n")
    result = pipeline.run(
        str(tmp_path / "moles.yaml"), data=root, run=tmp_path / "run", settings=[*TINY, "train.batch_size=4"]
    )
    sent = pd.read_csv(result.submission_path)
    assert list(sent) == ["photo", "target"]
    assert sent["photo"].tolist() == [f"m{n}" for n in range(24, 30)]
    table = pd.read_parquet(tmp_path / "run" / "examples.parquet").set_index("id")
    assert table.loc["m0", "group"] == table.loc["m1", "group"] == "p0"


@pytest.mark.once
def test_the_model_of_the_docs_is_what_its_card_says(keras, monkeypatch):
    from kit.models import registry

    registry.list_models()
    monkeypatch.setattr(registry, "_CARDS", dict(registry._CARDS))
    exec(block("python", "# kit/models/small.py"), {})
    card = registry.model_card("small_cnn")
    model = registry.build("small_cnn", shape=(card.size, card.size, 3), outputs=1)
    trainable = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    assert (model.count_params(), trainable) == card.parameters
    images = np.random.default_rng(0).integers(0, 256, (2, card.size, card.size, 3), dtype=np.uint8)
    p = model.predict_on_batch(images)
    assert p.shape == (2, 1)
    assert ((p > 0) & (p < 1)).all()
