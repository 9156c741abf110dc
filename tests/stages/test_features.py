"""Features of frozen backbones: computed once, kept, and the same as the model's own."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from kit import files
from kit.config import load_config
from kit.data.records.batches import eval_batches
from kit.data.records.manifest import open_records
from kit.errors import TrainingError
from kit.stages import features as stage
from kit.stages.features import OutOfTime, features_of, sources
from kit.stages.model import build_frozen
from tests.backbones import registered
from tests.conftest import TINY

ARGUMENTS = {"backbone": ["tiny_map", "tiny_tokens"]}


@pytest.fixture(scope="module", autouse=True)
def _backbones(keras):
    with registered():
        yield


@pytest.fixture(scope="module")
def device(keras):
    from kit.config import RuntimeSettings
    from kit.runtime import devices

    return devices.set_up(RuntimeSettings())


@pytest.fixture
def records(toy_records, tmp_path):
    """The toy's records, to be written beside."""
    return open_records(shutil.copytree(toy_records.directory, tmp_path / "records"))


@pytest.fixture(scope="module")
def model(keras, toy_records):
    config = load_config("toy", [*TINY[:2], "model.name=features", f"model.arguments={ARGUMENTS}"])
    return build_frozen(config, toy_records.image, toy_records.labels, toy_records.task)[0]


@pytest.fixture
def get(records, model, device, tmp_path):
    """A function: cells -> (ids, features), with batches of 16 images."""

    def features(cells, records=records, arguments=ARGUMENTS, **more):
        every = sources(model, arguments, records, tmp_path / "run")
        return features_of(every, records, cells, 16, device, **more)

    return features


@pytest.fixture
def extracted(monkeypatch):
    """The numbers of images whose features were computed, one for each call."""
    counts, extract = [], stage._extract

    def counted(source, records, missing, *more):
        counts.append(sum(len(examples) for _, examples in missing))
        return extract(source, records, missing, *more)

    monkeypatch.setattr(stage, "_extract", counted)
    return counts


def test_what_is_kept_is_what_the_model_sees(get, records, model):
    from kit.models.frozen import head_of

    cells = [*range(5, 30)]
    ids, features = get(cells)
    assert ids == records.rows(cells)["id"].tolist()
    p = np.concatenate([model.predict_on_batch(b.images)[b.mask] for b in eval_batches(records, cells, 16)])
    assert np.abs(np.asarray(head_of(model)(features)) - p).max() < 1e-6


def test_each_image_goes_through_once(get, records, extracted):
    first = get([0, 1, 2, 3])
    everything = get([*range(records.cells)])
    assert extracted == [len(first[0])] * 2 + [len(everything[0]) - len(first[0])] * 2
    again = get([0, 1, 2, 3])
    assert extracted[4:] == [] and np.array_equal(again[1], first[1])
    assert np.abs(everything[1][: len(first[0])] - first[1]).max() < 1e-6
    ids, test = get(None)
    assert extracted[4:] == [len(ids)] * 2 and len(test) == len(ids) == 30
    every = [path for path in (records.directory / "features").rglob("*") if path.is_file()]
    assert len(every) == 2 * len(records.shards) and all(path.suffix == ".parquet" for path in every)


def test_what_is_killed_goes_on(get, records, extracted, monkeypatch):
    whole = get([*range(records.cells)])
    shutil.rmtree(records.directory / "features")
    pooled = stage.pooled

    def dying(*arguments):
        for n, batch in enumerate(pooled(*arguments)):
            if n == 2:
                raise KeyboardInterrupt
            yield batch

    with monkeypatch.context() as patched:
        patched.setattr(stage, "pooled", dying)
        with pytest.raises(KeyboardInterrupt):
            get([*range(records.cells)])
    again = get([*range(records.cells)])
    assert 0 < len(whole[0]) - extracted[3] <= 32  # the whole shards of two batches were kept
    assert again[0] == whole[0] and np.abs(again[1] - whole[1]).max() < 1e-6


def test_a_deadline_leaves_whole_shards(get, records, extracted):
    with pytest.raises(OutOfTime):
        get([*range(records.cells)], deadline=0.0)
    ids, _ = get([*range(records.cells)])
    assert 0 < len(ids) - extracted[1] <= 16


@pytest.mark.parametrize("damage", ["cut", "other", "ids", "nan"])
def test_what_is_damaged_or_of_other_content_is_computed_again(get, records, extracted, damage):
    import pyarrow as pa
    from pyarrow import parquet

    _, features = get([0])
    path = next((records.directory / "features").rglob("*.parquet"))
    table = parquet.read_table(path)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-20])
    elif damage == "other":
        parquet.write_table(table.replace_schema_metadata({"shard": "0" * 64}), path)
    elif damage == "ids":
        parquet.write_table(table.set_column(0, "id", pa.array(["x"] * len(table))), path)
    else:
        rows = np.full(np.asarray(table["mean"].combine_chunks().flatten()).shape, np.nan, np.float32)
        column = pa.FixedSizeListArray.from_arrays(pa.array(rows), len(rows) // len(table))
        parquet.write_table(table.set_column(table.column_names.index("mean"), "mean", column), path)
    _, again = get([0])
    assert len(extracted) == 3 and np.abs(again - features).max() < 1e-6


def test_folders_depend_on_weights_views_and_images(records, model, tmp_path):
    def folders(arguments=ARGUMENTS, records=records):
        return [source.folder for source in sources(model, arguments, records, tmp_path)]

    from kit.models.frozen import networks

    before = folders()
    other = records.fingerprints.model_copy(update={"image": "x", "training": "y"})
    assert not {*before} & {*folders({**ARGUMENTS, "views": "flips"})}
    assert not {*before} & {*folders(records=replace(records, fingerprints=other))}
    only_training = records.fingerprints.model_copy(update={"training": "y", "test": "z"})
    assert before == folders(records=replace(records, fingerprints=only_training))
    assert before == folders({**ARGUMENTS, "head": "mlp"})
    assert not {*before} & {*folders({**ARGUMENTS, "pool": ["gem"]})}
    kept = networks(model)[0].get_weights()
    networks(model)[0].set_weights([w + 1 for w in kept])
    after = folders()
    networks(model)[0].set_weights(kept)
    assert after[0] != before[0] and after[1] == before[1]


def test_records_that_cannot_be_written_to(records, model, tmp_path, monkeypatch):
    monkeypatch.setattr("kit.stages.features.os.access", lambda path, mode: False)
    folder = sources(model, ARGUMENTS, records, tmp_path / "runs" / "a")[0].folder
    assert folder.parent == tmp_path / "runs" / "features"


def test_features_that_are_not_finite_name_the_image(get, records, model):
    from kit.models.frozen import networks

    kept = networks(model)[0].get_weights()
    networks(model)[0].set_weights([np.full_like(w, np.nan) for w in kept])
    try:
        name = records.rows([0])["id"].iloc[0]
        with pytest.raises(TrainingError, match=f"the features of {name} are not finite"):
            get([0])
    finally:
        networks(model)[0].set_weights(kept)
    assert not [*files.leftovers(records.directory / "features")]
