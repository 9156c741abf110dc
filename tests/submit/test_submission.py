import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.competitions.pcam import COMPETITION
from kit.competitions.rsna import COMPETITION as RSNA
from kit.errors import SubmissionError
from kit.submit.submission import check_submission, make_submission, read_submission

SAMPLE = pd.DataFrame({"id": ["a", "b", "c", "d"], "label": [0, 0, 0, 0]})
GOOD = SAMPLE.assign(label=[0.1, 0.2, 0.3, 0.9])


def test_a_good_one_passes_in_any_order():
    assert check_submission(COMPETITION, GOOD, SAMPLE) == []
    (remark,) = check_submission(COMPETITION, GOOD.iloc[::-1], SAMPLE)
    assert remark == "the rows are in another order than the sample's; they are matched by id"


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (GOOD.rename(columns={"label": "p"}), r"columns are \['id', 'p'\], the sample has \['id', 'label'\]"),
        (GOOD.assign(extra=1), "columns are"),
        (GOOD.iloc[:3], "1 id is missing: d"),
        (pd.concat([GOOD, GOOD.iloc[:1]]), "1 duplicate id: a .first in line 6."),
        (GOOD.assign(id=["a", "b", "c", "x"]), "1 id is missing: d; 1 id is not in the sample: x"),
        (pd.concat([GOOD, GOOD.iloc[:1].assign(id="x")]), "1 id is not in the sample: x .first in line 6."),
        (
            GOOD.assign(label=[0.1, np.nan, 0.3, 0.9]),
            r"1 value is not a finite number; the first is nan in line 3 \(b\)",
        ),
        (GOOD.assign(label=[0.1, 0.2, np.inf, 0.9]), r"not a finite number; .* in line 4 \(c\)"),
        (GOOD.assign(label=["0.1", "0.2", "high", "1"]), r"not a finite number; the first is 'high'"),
        (GOOD.assign(label=[0.1, 0.2, 0.3, 1.5]), r"outside 0\.\.1; the first is 1\.5 in line 5 \(d\)"),
        (GOOD.assign(label=[-0.1, 0.2, 0.3, 1]), "outside"),
        (GOOD.assign(label=[0, 1, 1, 0]), "holds only the values 0 and 1: pcam is scored by ROC AUC"),
        (SAMPLE, "column 'label' holds only 0: it ranks no image above another"),
        (GOOD.assign(label=[True, False, True, True]), "column 'label' holds True and False: submit numbers"),
    ],
)
def test_what_is_refused(bad, says):
    with pytest.raises(SubmissionError, match=says):
        check_submission(COMPETITION, bad, SAMPLE)


@given(st.permutations(["a", "b", "c", "d"]), st.lists(st.floats(0, 1), min_size=4, max_size=4, unique=True))
@settings(max_examples=50, deadline=None)
def test_what_is_made_passes_the_check_and_keeps_ids_with_their_values(ids, values):
    submission = make_submission(COMPETITION, pd.DataFrame({"id": ids, "p_tumour": values}), SAMPLE)
    check_submission(COMPETITION, submission, SAMPLE)
    assert submission["id"].tolist() == ["a", "b", "c", "d"]
    assert submission.set_index("id")["label"].to_dict() == dict(zip(ids, values, strict=True))


def test_an_image_that_could_not_be_read_gets_the_mean():
    predictions = pd.DataFrame({"id": ["a", "b", "c"], "p_tumour": [0.1, 0.2, 0.6]})
    assert make_submission(COMPETITION, predictions, SAMPLE)["label"].tolist() == pytest.approx([0.1, 0.2, 0.6, 0.3])


def test_files_that_are_no_submissions(tmp_path):
    with pytest.raises(SubmissionError, match="cannot read"):
        read_submission(tmp_path / "absent.csv", "id")
    (tmp_path / "x.csv").write_text("name,label\n1,2\n")
    with pytest.raises(SubmissionError, match="has no column 'id'; it has label, name"):
        read_submission(tmp_path / "x.csv", "id")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("id,label\na,.1\n,\nb,.2\n,\n", "2 rows are blank, in lines 3, 5: correct or delete them"),
        ("id,label\n" + ",\n" * 9 + "a,.1\n", "9 rows are blank, in lines 2, 3, 4, 5, 6 and 4 more"),
        ("id,label\na,.1\n,.2\n", "1 rows are without id, in lines 3"),
        ("id,label\na,.1,\nb,.2,\n", "2 rows are longer than the header, in lines 2, 3"),
        ("id,label\na,.1,0\n", "line 2 has 3 cells, the header 2"),
        ("id,label\na\n", "line 2 has 1 cell, the header 2"),
        ("id;label\na;0,1\n", "columns are separated by semicolons: a submission is CSV with commas, in UTF-8"),
        ("id,label\n\xe4,.1\n", "its text is not UTF-8"),
        ("id,label,label\na,.1,.1\n", "has 2 columns 'label'"),
    ],
)
def test_files_that_a_server_would_not_read_as_meant(tmp_path, text, says):
    (tmp_path / "x.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(SubmissionError, match=says):
        read_submission(tmp_path / "x.csv", "id")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ("0 1 1 0", "column 'label' holds only the values 0 and 1: pcam is scored by ROC AUC"),
        ("10 25 30 41", "4 values are outside 0..1; the first is 10 in line 2 .a."),
        ("True False True True", "holds True and False"),
        (".1 .2 NaN .4", "1 value is not a finite number; the first is nan in line 4 .c."),
        (".1 .2 high .4", "1 value is not a finite number; the first is 'high' in line 4 .c."),
        (".1 .2 inf .4", "1 value is not a finite number; the first is inf in line 4 .c."),
    ],
)
def test_values_in_a_file(tmp_path, values, says):
    rows = [f"{name},{value}" for name, value in zip("abcd", values.split(), strict=True)]
    (tmp_path / "x.csv").write_text("\n".join(["id,label", *rows]))
    with pytest.raises(SubmissionError, match=says):
        check_submission(COMPETITION, read_submission(tmp_path / "x.csv", "id"), SAMPLE)


def test_ids_are_read_as_text(tmp_path):
    (tmp_path / "x.csv").write_text("id,label\n007,0.5\n")
    assert read_submission(tmp_path / "x.csv", "id")["id"].tolist() == ["007"]


def test_without_a_sample_every_label_is_a_column():
    from kit.competitions.breast import COMPETITION as BREAST

    labels = BREAST.target.labels
    predictions = pd.DataFrame({"id": ["a", "b"], **{f"p_{label}": [0.2, 0.6] for label in labels}})
    submission = make_submission(BREAST, predictions, None)
    assert list(submission) == ["id", "normal", "benign", "cancer"]
    check_submission(BREAST, submission, submission)
    with pytest.raises(SubmissionError, match="column 'benign': 1 value is outside"):
        check_submission(BREAST, submission.assign(benign=[2.0, 0.1]), submission)


def labelled(rows=200, seed=0):
    rng = np.random.default_rng(seed)
    means = {"normal": 0.6, "benign": 0.3, "cancer": 0.02}
    table = {label: np.clip(rng.normal(mean, mean / 4, rows), 0, 1) for label, mean in means.items()}
    return pd.DataFrame({"id": [f"i{n}" for n in range(rows)], **table})


def test_exchanged_columns_are_found_by_their_means():
    from kit.competitions.breast import COMPETITION as BREAST

    sent, oof = labelled(), labelled(seed=1).rename(columns=lambda name: name if name == "id" else f"p_{name}")
    assert check_submission(BREAST, sent, sent, oof) == []
    exchanged = sent.assign(benign=sent["cancer"], cancer=sent["benign"])
    with pytest.raises(SubmissionError, match="columns 'benign' and 'cancer' look exchanged: their means are 0"):
        check_submission(BREAST, exchanged, exchanged, oof)
    # another prevalence in the test set is no exchange
    other = sent.assign(benign=sent["benign"] * 0.5, cancer=sent["cancer"] * 3)
    assert check_submission(BREAST, other, other, oof) == []


@given(st.integers(0, 10**6), st.floats(0.5, 2))
@settings(max_examples=50, deadline=None)
def test_columns_in_their_place_are_never_refused(seed, shift):
    from kit.competitions.breast import COMPETITION as BREAST

    rng = np.random.default_rng(seed)
    means = rng.uniform(0.02, 0.45, 3)
    sent = pd.DataFrame({"id": [f"i{n}" for n in range(20)]})
    oof = pd.DataFrame()
    for label, mean in zip(BREAST.target.labels, means, strict=True):
        sent[label], oof[f"p_{label}"] = rng.uniform(0.5, 1.5, 20) * mean * shift / 2, rng.uniform(0.5, 1.5, 20) * mean
    check_submission(BREAST, sent, sent, oof)


def test_a_sample_that_asks_for_something_else_is_refused():
    predictions = pd.DataFrame({"id": ["a", "b"], "p_tumour": [0.1, 0.2]})
    with pytest.raises(
        SubmissionError, match=r"the sample has the columns .*'target'.*; the predictions have no target"
    ):
        make_submission(COMPETITION, predictions, pd.DataFrame({"id": ["a", "b"], "target": 0}))
    sample = pd.DataFrame({"patientId": ["a", "b"], "PredictionString": ""})
    with pytest.raises(
        SubmissionError, match=r"have no PredictionString: rsna asks for the target boxes .--set target="
    ):
        make_submission(RSNA, predictions, sample)
    with pytest.raises(SubmissionError, match="the sample has 1 duplicate id: a"):
        make_submission(COMPETITION, predictions, pd.DataFrame({"id": ["a", "a"], "label": 0}))
