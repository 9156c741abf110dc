"""Training images that a table of the user's names are left out; test images never are."""

import re

import pandas as pd
import pytest

from kit.cli import main
from kit.config import DataSettings, ImageSettings, load_config
from kit.config.load import dump_config
from kit.data.records.manifest import fingerprints
from kit.errors import ConfigError, DataError
from kit.kaggle.plan import plan_submission, with_weights
from kit.run import Run
from kit.stages.examples import count_folder, list_examples
from kit.stages.resume import config_of


@pytest.fixture
def listed(toy_root, tmp_path, capsys):
    """A function: text of a CSV file -> the examples of the toy folder without those it names, and what was said."""

    def listing(text):
        (tmp_path / "out.csv").write_text(text)
        examples = list_examples(load_config("toy", [f"data.exclude={tmp_path / 'out.csv'}"]), toy_root)
        return examples, capsys.readouterr().out

    return listing


@pytest.fixture
def ids(toy_root):
    table = list_examples(load_config("toy"), toy_root).table
    return {split: [*table["id"][table["split"] == split]] for split in ("train", "test")}


@pytest.mark.once
def test_named_training_images_are_left_out_and_counted(listed, ids, toy_root):
    first, second = ids["train"][:2]
    examples, output = listed(f"id,label,given\n{first},tumour,1\n{second},tumour,0\n{first},other,0\n")
    whole = list_examples(load_config("toy"), toy_root)
    assert [*examples.table["id"]] == [name for name in whole.table["id"] if name not in (first, second)]
    assert "left out, as data.exclude names them: 2 training images\n" in output and "noticed: out.csv" not in output
    old, new = (fingerprints("toy", each, ImageSettings(), DataSettings()) for each in (whole, examples))
    assert old.training != new.training and (old.test, old.image) == (new.test, new.image)


@pytest.mark.once
def test_test_images_and_strangers_are_remarked_on(listed, ids):
    examples, output = listed(f"id\n{ids['train'][0]}\n{ids['test'][0]}\nnobody\n")
    assert {*ids["test"]} <= {*examples.table["id"]}
    assert re.search(r"has 2 ids that no training image has: .*nobody \(1 is a test image, which always stay\)", output)


@pytest.mark.once
@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, r"cannot read .*out\.csv as CSV: No such file"),
        ("", "it is empty"),
        ("id\n", "has no row below its header"),
        ("image\na\n", "has no column 'id'.*ids of the training images to leave out"),
        ("id,label\n ,x\n", "line 2: id is '', not the id of an image"),
        ("id\nnobody\nnothing\n", r"has no id of a training image, but nobody, nothing; such an id is '\w+'"),
    ],
)
def test_a_file_that_names_no_training_image_is_an_error(toy_root, tmp_path, text, problem):
    if text is not None:
        (tmp_path / "out.csv").write_text(text)
    with pytest.raises(DataError, match=f"^data.exclude: .*{problem}"):
        count_folder(load_config("toy", [f"data.exclude={tmp_path / 'out.csv'}"]), toy_root)


@pytest.mark.once
def test_leaving_out_all_is_an_error(listed, ids):
    with pytest.raises(DataError, match="no training image"):
        listed("\n".join(["id", *ids["train"]]))


@pytest.mark.once
def test_it_holds_for_a_written_table_too(toy_root, tmp_path, ids, capsys):
    table, records = tmp_path / "examples.parquet", tmp_path / "records"
    (tmp_path / "out.csv").write_text(f"id\n{ids['train'][0]}\n")
    assert main(["examples", "toy", "--data", str(toy_root), "--out", str(table)]) == 0
    build = ["records", "build", "toy", "--data", str(toy_root), "--examples", str(table), "--out", str(records)]
    assert main([*build, "--size", "16", "--set", f"data.exclude={tmp_path / 'out.csv'}"]) == 0
    assert "1 training image\n" in capsys.readouterr().out
    assert ids["train"][0] not in {*pd.read_parquet(records / "examples.parquet")["id"]}


@pytest.mark.once
def test_the_file_is_of_this_machine(tmp_path):
    config = load_config("toy", [f"data.exclude={tmp_path / 'out.csv'}"])
    run = Run(tmp_path / "run")
    run.directory.mkdir()
    run.config_path.write_text(dump_config(config))
    with pytest.raises(ConfigError, match=r"names something outside the run, data\.exclude"):
        config_of(run, "toy", [])
    with pytest.raises(ConfigError, match=r"data\.exclude = .* is on this machine, a kernel does not have it"):
        with_weights(plan_submission("pcam", [f"data.exclude={tmp_path / 'out.csv'}"]))
