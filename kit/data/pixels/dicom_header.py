"""The few columns that are kept of the header of a DICOM file."""

import re
from pathlib import Path
from typing import Any

from kit.data.pixels import elements
from kit.data.pixels.dicom import opened, syntax_name

_AGE_UNITS = {"D": 365.25, "W": 365.25 / 7, "M": 12, "Y": 1}  # how many make a year

# An allow-list, so that no name, number, date or free text of a patient is ever kept.
HEADER = {
    "PatientSex": "sex",
    "PatientAge": "age",
    "ViewPosition": "view_position",
    "PixelSpacing": "pixel_spacing",
    "PhotometricInterpretation": "photometric_interpretation",
    "Columns": "width",
    "Rows": "height",
}


def header(path: Path) -> dict[str, Any]:
    """The allowed columns of a file's header: strings or None; `width` and `height` int, `pixel_spacing` (of rows) mm.

    `age` is in years, NaN where the text is not an age; `age_unit` is D, W, M, Y,
    or empty for a bare number, which counts as years. `compression` is the name of the transfer syntax. An element that
    is broken costs its own column alone. Raises UnreadableImage for a file that is not a DICOM.
    """
    with opened(path, [*HEADER]) as dataset:
        spacing = elements.numbers(dataset, "PixelSpacing")
        columns: dict[str, Any] = {
            "sex": elements.code(dataset, "PatientSex"),
            "age": None,
            "view_position": elements.code(dataset, "ViewPosition"),
            "pixel_spacing": spacing[0] if spacing and spacing[0] > 0 else None,
            "photometric_interpretation": elements.code(dataset, "PhotometricInterpretation"),
            "width": _size(dataset, "Columns"),
            "height": _size(dataset, "Rows"),
            "age_unit": None,
        }
        columns["sex"] = columns["sex"] if columns["sex"] in ("M", "F", "O") else None
        if not elements.is_absent(dataset, "PatientAge"):
            columns["age"], columns["age_unit"] = age_years("\\".join(elements.texts(dataset, "PatientAge")))
        return {**columns, "compression": syntax_name(dataset)}


def age_years(text: str) -> tuple[float, str | None]:
    """Years and unit of a DICOM age such as `058Y`, `011M`, `003W`, `020D` (PS3.5, 6.2).

    A bare number counts as years, with an empty unit; any other text is NaN without a unit.
    """
    age = re.fullmatch(r"(\d{3})([DWMY])|(\d{1,3})", text)
    if age is None:
        return float("nan"), None
    return int(age[1] or age[3]) / _AGE_UNITS[age[2] or "Y"], age[2] or ""


def _size(dataset: Any, keyword: str) -> int | None:
    pixels = elements.short(dataset, keyword)
    return pixels if pixels and pixels > 0 else None
