"""Breast ultrasound (BUSI, Al-Dhabyani et al. 2020) or mammograms in class folders: normal, benign or cancer?

Patients are unknown: every image is its own group, and images of one patient can be on both sides of a fold (BUSI has
780 images of 600 women). Expect a lower score on patients that the model has never seen.
"""

from pathlib import Path

from kit.competition import Competition, Target
from kit.competitions import folders
from kit.config import Source
from kit.data.table.examples import Examples
from kit.data.table.layout import find_layout
from kit.data.table.listing import found_in, require_folder
from kit.errors import DataError

LABELS = ("normal", "benign", "cancer")


def read(root: Path, source: Source) -> Examples:
    """Examples of the raw folder; raises DataError for another layout and other classes."""
    require_folder(root)
    if not find_layout(root).splits:
        raise DataError(f"{root} has no train/: expected train|val|test/{'|'.join(LABELS)}/*; found {found_in(root)}")
    rows, remarks = folders.list_classes(root)
    return folders.examples(rows, LABELS, LABELS, remarks=remarks)


COMPETITION = Competition(
    name="breast",
    title="Breast images: normal, benign, cancer",
    slug=None,
    targets={"classes": Target("multiclass", LABELS, "roc_auc")},
    read=read,
)
