import pytest

from kit.data.table.labels import positive_class
from kit.errors import ConfigError


@pytest.mark.parametrize(
    ("negative", "positive"),
    [
        ("nein", "ja"),
        ("no", "yes"),
        ("non", "oui"),
        ("0", "1"),
        ("n", "y"),
        ("FALSE", "TRUE"),
        ("benign", "malignant"),
        ("NORMAL", "PNEUMONIA"),
        ("gesund", "krank"),
        ("Normal", "Abnormal"),
        ("non-COVID", "COVID"),
        ("Not sick", "Sick"),
        ("no tumor", "tumor"),
        ("without_mask", "with_mask"),
        ("No Finding", "Edema"),
        ("healthy", "glaucoma"),
        ("nevus", "melanoma"),
        ("Uninfected", "Parasitized"),
        ("tumor_negative", "tumor_positive"),
        ("control", "brca"),
    ],
)
def test_the_positive_one_of_two_classes_by_its_name(negative, positive):
    assert positive_class([negative, positive], None) == positive
    assert positive_class([positive, negative], None) == positive
    assert positive_class([positive, negative], negative) == negative


@pytest.mark.parametrize("classes", [("cat", "dog"), ("f", "m"), ("1", "2"), ("benign", "normal"), ("left", "right")])
def test_names_that_leave_the_positive_class_open(classes):
    says = f"which of the classes '{classes[0]}' and '{classes[1]}' is the positive one, .*--set target={classes[0]} or"
    with pytest.raises(ConfigError, match=says):
        positive_class(classes, None)
    with pytest.raises(ConfigError, match="target = 'x' is not one of the classes"):
        positive_class(classes, "x")
