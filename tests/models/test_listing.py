import pytest

from kit.errors import ConfigError
from kit.models import listing

pytestmark = pytest.mark.once


def row(text, name):
    return next(" ".join(line.split()) for line in text.splitlines() if line.startswith(name + " "))


def test_what_a_model_is_and_needs():
    text = listing.as_text()
    assert row(text, "mobilenet").startswith("mobilenet 4,279,489 17 224 imagenet ImageNet Apache-2.0 a download keras")
    assert row(text, "squeezenet").startswith(
        "squeezenet 1,248,833 5 227 imagenet ImageNet MIT its file of weights arXiv"
    )
    assert row(text, "pcam_cnn").startswith("pcam_cnn 227,265 1 224 none a public")
    assert row(text, "hub/hf://microsoft/rad-dino").startswith(
        "hub/hf://microsoft/rad-dino 346 518 chest MIT, for research only keras-hub, a download "
        "MIMIC-CXR, CheXpert, NIH ChestX-ray14, PadChest, BRAX its model card"
    )


def test_the_columns_are_aligned():
    first, second, _ = listing.as_text().split("\n\n")
    for table, column in ((first, "licence"), (second, "domain")):
        lines = table.splitlines()
        at = lines[0].index(column)
        assert all(line[at - 2 : at].isspace() for line in lines if len(line) > at)


@pytest.mark.parametrize(
    ("part", "listed", "others"),
    [
        ("tissue", "hub/hf://histai/hibou-b", "rad-dino"),
        ("NON-COMMERCIAL", "hub/hf://owkin/phikon-v2", "hibou"),
        ("gpl", "", ""),
        ("squeeze", "squeezenet", "hf://microsoft"),
    ],
)
def test_a_filter_looks_into_every_column(part, listed, others):
    if not listed:
        with pytest.raises(ConfigError, match="no model has 'gpl' in its name, domain, licence or source"):
            listing.as_text(part)
        return
    text = listing.as_text(part)
    assert row(text, listed)
    assert others not in text


def test_a_slip_of_the_pen():
    with pytest.raises(ConfigError, match="did you mean 'chest'"):
        listing.as_text("chesst")
