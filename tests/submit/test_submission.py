import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.competitions.pcam import COMPETITION
from kit.errors import SubmissionError
from kit.submit.submission import check_submission, make_submission, read_submission

SAMPLE = pd.DataFrame({"id": ["a", "b", "c", "d"], "label": [0, 0, 0, 0]})
GOOD = SAMPLE.assign(label=[0.1, 0.2, 0.3, 0.9])


def test_a_good_one_passes_in_any_order():
    check_submission(COMPETITION, GOOD, SAMPLE)
    check_submission(COMPETITION, GOOD.iloc[::-1], SAMPLE)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (GOOD.rename(columns={"label": "p"}), r"columns are \['id', 'p'\], the sample has \['id', 'label'\]"),
        (GOOD.assign(extra=1), "columns are"),
        (GOOD.iloc[:3], "1 ids are missing: d"),
        (pd.concat([GOOD, GOOD.iloc[:1]]), "1 duplicate ids: a"),
        (GOOD.assign(id=["a", "b", "c", "x"]), "1 ids are missing: d"),
        (pd.concat([GOOD, GOOD.iloc[:1].assign(id="x")]), "1 ids are not in the sample: x"),
        (
            GOOD.assign(label=[0.1, np.nan, 0.3, 0.9]),
            r"1 values are not a finite number; the first is .*nan.* in line 3 \(b\)",
        ),
        (GOOD.assign(label=[0.1, 0.2, np.inf, 0.9]), r"not a finite number; .* in line 4 \(c\)"),
        (GOOD.assign(label=["0.1", "0.2", "high", "1"]), r"not a finite number; the first is 'high'"),
        (GOOD.assign(label=[0.1, 0.2, 0.3, 1.5]), r"outside 0\.\.1; the first is .*1.5.* in line 5 \(d\)"),
        (GOOD.assign(label=[-0.1, 0.2, 0.3, 1]), "outside"),
        (GOOD.assign(label=[0, 1, 1, 0]), r"only the values \[.*0.*1.*\]: pcam is scored by ROC AUC"),
        (SAMPLE, "only the values"),
    ],
)
def test_what_is_refused(bad, says):
    with pytest.raises(SubmissionError, match=says):
        check_submission(COMPETITION, bad, SAMPLE)


@given(st.permutations(["a", "b", "c", "d"]), st.lists(st.floats(0, 1), min_size=4, max_size=4, unique=True))
@settings(max_examples=50, deadline=None)
def test_what_is_made_passes_the_check_and_keeps_ids_with_their_values(ids, values):
    made = make_submission(COMPETITION, pd.DataFrame({"id": ids, "p_tumour": values}), SAMPLE)
    check_submission(COMPETITION, made, SAMPLE)
    assert made["id"].tolist() == ["a", "b", "c", "d"]
    assert made.set_index("id")["label"].to_dict() == dict(zip(ids, values, strict=True))


def test_an_image_that_could_not_be_read_gets_the_mean():
    predictions = pd.DataFrame({"id": ["a", "b", "c"], "p_tumour": [0.1, 0.2, 0.6]})
    assert make_submission(COMPETITION, predictions, SAMPLE)["label"].tolist() == pytest.approx([0.1, 0.2, 0.6, 0.3])


def test_files_that_are_no_submissions(tmp_path):
    with pytest.raises(SubmissionError, match="cannot read"):
        read_submission(tmp_path / "absent.csv", "id")
    (tmp_path / "x.csv").write_text("name,label\n1,2\n")
    with pytest.raises(SubmissionError, match="has no column 'id'; it has label, name"):
        read_submission(tmp_path / "x.csv", "id")


def test_ids_are_read_as_text(tmp_path):
    (tmp_path / "x.csv").write_text("id,label\n007,0.5\n")
    assert read_submission(tmp_path / "x.csv", "id")["id"].tolist() == ["007"]


def test_without_a_sample_every_label_is_a_column():
    from kit.competitions.breast import COMPETITION as BREAST

    labels = BREAST.labels
    predictions = pd.DataFrame({"id": ["a", "b"], **{f"p_{label}": [0.2, 0.6] for label in labels}})
    made = make_submission(BREAST, predictions, None)
    assert list(made) == ["id", "normal", "benign", "cancer"]
    check_submission(BREAST, made, made)
    with pytest.raises(SubmissionError, match="column 'benign': 1 values are outside"):
        check_submission(BREAST, made.assign(benign=[2.0, 0.1]), made)
