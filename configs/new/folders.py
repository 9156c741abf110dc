"""Moles: images in folders by class."""

from kit.competition import Competition, Target
from kit.competitions import folders

CLASSES = ("benign", "malignant")  # folders of train/; the images of test/, without such folders, are predicted
LABELS = ("malignant",)  # of two classes the positive one, of more all of them
PATIENT = r"^([^_]+)"  # in the name of a file, such as p12_left.png


def read(root, source):
    """The raw folder as examples: one row per image with id, group, split and a column y_<label>."""
    rows, remarks = folders.list_classes(root)
    groups = rows["name"].str.split("/").str[-1].str.extract(PATIENT, expand=False)  # never in two folds
    return folders.examples(rows, CLASSES, LABELS, groups, remarks)


COMPETITION = Competition(
    name="moles",
    title="Moles",
    slug=None,  # of a competition on Kaggle what follows kaggle.com/competitions/, of a dataset OWNER/NAME
    targets={"malignant": Target("binary", LABELS, "roc_auc")},  # of more classes "multiclass"
    read=read,
)
