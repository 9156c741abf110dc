"""Labels mixed with what heads say of them: what no head may have seen, and what training then reads."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from kit.config import load_config
from kit.data.records import tfrecord
from kit.data.records.manifest import verify_records
from kit.errors import ConfigError, LeakError
from kit.evaluate.metrics import METRICS
from kit.run import Run
from kit.stages.relabel import relabelled, soft_labels, source_of
from kit.stages.resume import refuse_other_settings
from kit.stages.train import start_run, train_fold
from kit.tables import truth
from tests.backbones import registered
from tests.conftest import TINY

HEADS = ["folds=3", "model.name=features", "model.arguments={}", "model.backbone=[tiny_map, tiny_tokens]"]
OTHERS = [s for s in TINY if not s.startswith(("model", "train", "folds"))]
NETWORK = [*(s for s in TINY if not s.startswith("folds")), "folds=3", "train.epochs=1"]


@pytest.fixture(scope="module", autouse=True)
def _backbones(keras):
    with registered():
        yield


@pytest.fixture
def source(toy_records, tmp_path):
    run = Run(tmp_path / "heads")
    start_run(load_config("toy", [*OTHERS, *HEADS]), toy_records, run)
    return run


def folds(records, run, source, *settings):
    return start_run(load_config("toy", [*NETWORK, f"train.relabel.run={source}", *settings]), records, run)


def flipped(fold, cells):
    """The fold with records whose truth is the opposite in some cells."""
    table = fold.records.table.copy()
    inside = table["cell"].isin(cells)
    table.loc[inside, "y_tumour"] = 1 - table.loc[inside, "y_tumour"]
    return replace(fold, records=replace(fold.records, table=table))


def test_a_label_comes_from_a_head_that_saw_neither_its_fold_nor_that_of_the_model(toy_records, source, tmp_path):
    fold = folds(toy_records, Run(tmp_path / "run"), source)[1]
    soft = soft_labels(fold, source.config).set_index("id")["p_tumour"]
    rows = fold.records.rows(fold.train)
    assert set(soft.index) == set(rows["id"]) and soft.between(0, 1).all()
    # The truth of what the model is validated on says nothing to what it is trained on.
    again = soft_labels(flipped(fold, fold.valid), source.config).set_index("id")["p_tumour"]
    pd.testing.assert_series_equal(again, soft)
    # Nor does a label say anything to what takes its place: here those of fold 0 ...
    own = soft_labels(flipped(fold, fold.cells[0]), source.config).set_index("id")["p_tumour"]
    of_first = rows["id"][rows["cell"].isin(fold.cells[0])]
    pd.testing.assert_series_equal(own[of_first], soft[of_first])
    of_last = rows["id"][rows["cell"].isin(fold.cells[2])]
    assert not np.allclose(own[of_last], soft[of_last])  # ... which teach the head that speaks of fold 2


def test_every_image_has_a_label_for_each_fold_that_trains_on_it(toy_records, source, tmp_path):
    each = folds(toy_records, Run(tmp_path / "run"), source)
    tables = [soft_labels(fold, source.config).set_index("id")["p_tumour"] for fold in each]
    assert len(tables[0]) + len(tables[1]) + len(tables[2]) == 2 * len(toy_records.rows([*range(toy_records.cells)]))


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_what_training_reads(toy_records, source, tmp_path, weight):
    fold = folds(toy_records, Run(tmp_path / "run"), source, f"train.relabel.weight={weight}")[0]
    soft = soft_labels(fold, source.config).set_index("id")["p_tumour"]
    changed = relabelled(fold)
    before, after = (each.records.table.set_index("id")["y_tumour"] for each in (fold, changed))
    inside = changed.records.rows(fold.train)["id"]
    expected = (1 - weight) * before[inside] + weight * soft[inside]
    assert after[inside].to_numpy() == pytest.approx(expected.to_numpy(), abs=1e-6)
    others = after.index.difference(inside)
    pd.testing.assert_series_equal(after[others], before[others])
    verify_records(changed.records)  # the shards hold what the table says
    stored = {}
    for path in changed.records.shard_paths(fold.train):
        for data in tfrecord.read_records(path):
            example = tfrecord.parse(data)
            stored[example["id"][0].decode()] = example["label"][0]
    assert stored == pytest.approx(after[inside].to_dict(), abs=1e-6)
    assert changed.records.shard_paths(fold.valid) == fold.records.shard_paths(fold.valid)
    again = relabelled(fold)  # as after a kill: from the labels that are kept
    assert [shard.sha256 for shard in again.records.shards] == [shard.sha256 for shard in changed.records.shards]


def test_unknown_labels_stay_unknown(toy_records, source, tmp_path):
    fold = folds(toy_records, Run(tmp_path / "run"), source)[0]
    table = fold.records.table.copy()
    hidden = table.index[table["cell"].isin(fold.train)][:3]
    table.loc[hidden, "y_tumour"] = np.nan
    changed = relabelled(replace(fold, records=replace(fold.records, table=table)))
    assert np.isnan(truth(changed.records.table.loc[hidden])).all()


def test_a_network_is_trained_on_them_and_needs_the_heads_no_more(toy_records, source, tmp_path, capsys):
    run = Run(tmp_path / "run")
    first = folds(toy_records, run, source)[0]
    assert train_fold(first, METRICS["roc_auc"], None)
    assert "labels of 80 training images mixed with 0.3 of what heads" in capsys.readouterr().out
    assert first.is_trained() and not first.files.state.folder.exists()
    stamp = first.files.done.stat().st_mtime_ns
    source.directory.rename(tmp_path / "elsewhere")
    assert first.is_trained() and train_fold(first, METRICS["roc_auc"], None)
    assert first.files.done.stat().st_mtime_ns == stamp
    with pytest.raises(ConfigError, match=r"train.relabel.weight: 0.3 → 0.5"):
        settings = [*NETWORK, f"train.relabel.run={tmp_path / 'moved'}", "train.relabel.weight=0.5"]
        refuse_other_settings(load_config("toy", settings), run)


def test_sources_that_are_refused(toy_records, source, tmp_path):
    fold = folds(toy_records, Run(tmp_path / "run"), source)[0]
    network = Run(tmp_path / "network")
    start_run(load_config("toy", NETWORK), toy_records, network)

    def refused(error, words, *settings, run=source):
        config = load_config("toy", [*NETWORK, f"train.relabel.run={run}"])
        if settings:
            run.write_config(load_config("toy", [*OTHERS, *HEADS, *settings]))
        with pytest.raises(error, match=words):
            source_of(config, replace(fold, config=config))

    refused(ConfigError, "trains networks: labels come from heads on frozen features", run=network)
    refused(ConfigError, "is not a run directory", run=Run(tmp_path / "nowhere"))
    refused(LeakError, "has learnt from another run", f"pseudo.run={network}")
    refused(LeakError, "has learnt from another run", "model.weights=run:somewhere")
    refused(ConfigError, "builds on something outside it", "model.weights=there.weights.h5")
    source.write_config(load_config("toy", [*OTHERS, *HEADS]))
    split = source.folds.model_copy(update={"image": "other"})
    source.prepare(source.config, source.examples(), split)
    refused(ConfigError, "has other records")


def test_two_folds_are_too_few(toy_records, source, tmp_path):
    fold = folds(toy_records, Run(tmp_path / "run"), source, "folds=2")[0]
    with pytest.raises(ConfigError, match="needs 3 folds or more"):
        relabelled(fold)
