"""Reading DICOM files: the image that a file shows, in 8 bit, and the few columns of its header that are kept.

Stored values -> modality LUT or rescale -> VOI LUT or window -> 8 bit -> MONOCHROME1 inverted -> padding black. pydicom
decodes and does the arithmetic (PS3.3, C.7.6.3, C.11.1, C.11.2). Its warnings and its errors over a broken header may
quote the header, and with it a patient: they are never shown.
"""

import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kit.config import DicomSettings
from kit.data.pixels.shared import Shared, add_warnings_filter
from kit.errors import UnreadableImage

_JPEG_BASELINE = "1.2.840.10008.1.2.4.50"  # transfer syntax JPEG Baseline (Process 1), 8 bit
_NO_PREAMBLE = b"\x08\0\0\0\x04\0\0\0"  # (0008,0000) of four bytes, in Implicit VR Little Endian: files before PS3.10
_IMPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2"
_DEFAULT = DicomSettings()
_REMEDY = "pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg"
_CODE = re.compile(r"[A-Z0-9_ ]{1,16}")  # the value representation CS (PS3.5, 6.2)
_AGE_UNITS = {"D": 365.25, "W": 365.25 / 7, "M": 12, "Y": 1}  # how many make a year

# The columns taken from a header: an allow-list, so that no name, number, date or free text of a patient is ever kept.
HEADER = {
    "PatientSex": "sex",
    "PatientAge": "age",
    "ViewPosition": "view_position",
    "PixelSpacing": "pixel_spacing",
    "PhotometricInterpretation": "photometric_interpretation",
    "Columns": "width",
    "Rows": "height",
}


class Undecodable(NamedTuple):
    """A transfer syntax that no installed package decodes, and the number of files that have it."""

    syntax: str
    files: int


def is_dicom(data: bytes) -> bool:
    """Whether a file starts as a DICOM: with a 128-byte preamble (PS3.10, 7.1), or, as older files, with a data set."""
    return data[128:132] == b"DICM" or data.startswith(_NO_PREAMBLE)


def read(data: bytes, settings: DicomSettings = _DEFAULT) -> np.ndarray | bytes:
    """The image that a DICOM file shows: (height, width, 1 or 3) uint8 pixels, or a JPEG file that is not decoded yet.

    A JPEG is returned where the file is nothing but its envelope: single-frame, 8-bit, MONOCHROME2, baseline JPEG, with
    a header that changes no value. Without a window or VOI LUT, 8-bit unsigned values without a rescale are shown as
    they are, others from the smallest to the largest. Raises UnreadableImage for files that are broken, that have no
    pixels or several frames of which none is chosen, or whose transfer syntax no installed package decodes.
    """
    with _QUIET, _reasons():
        dataset = _dataset(io.BytesIO(data))
        kind, frames = dataset.get("PhotometricInterpretation"), int(dataset.get("NumberOfFrames") or 1)
        if frames > 1 and settings.frame is None:
            raise UnreadableImage(f"a DICOM with {frames} frames: choose one with --set image.dicom.frame=0")
        if (frame := settings.frame or 0) >= frames:
            raise UnreadableImage(f"image.dicom.frame = {frame}, but there are {frames} frames, counted from 0")
        as_stored = _is_shown_as_stored(dataset, settings)
        is_jpeg = frames == 1 and kind == "MONOCHROME2" and _syntax(dataset) == _JPEG_BASELINE
        if as_stored and is_jpeg and "PixelPaddingValue" not in dataset:
            return _jpeg_frame(dataset)
        stored = _stored(dataset, frame)
        if kind == "PALETTE COLOR":
            return _palette(dataset, stored)
        if stored.ndim == 3:
            return _scaled(stored, 0, 2 ** int(dataset.BitsStored) - 1)
        grey = _scaled(stored, 0, 255) if as_stored else _rendered(dataset, stored, settings)
        if kind == "MONOCHROME1":
            grey = 255 - grey
        grey[_padding(dataset, stored)] = 0
    return grey[..., None]


def describe(data: bytes) -> tuple[str, str]:
    """The transfer syntax and photometric interpretation of a DICOM file; raises UnreadableImage with the reason."""
    with _QUIET, _reasons():
        dataset = _dataset(io.BytesIO(data), specific_tags=["PhotometricInterpretation"], stop_before_pixels=True)
        return f"DICOM {_name(_syntax(dataset))}", str(dataset.get("PhotometricInterpretation"))


def header(path: Path) -> dict[str, Any]:
    """The allowed columns of a file's header: strings or None; `width` and `height` int, `pixel_spacing` (of rows) mm.

    `age` is in years, NaN where the text is not an age; `age_unit` is D, W, M, Y,
    or empty for a bare number, which counts as years. `compression` is the name of the transfer syntax. Raises
    UnreadableImage for a file that is not a DICOM.
    """
    with _QUIET, _reasons(), path.open("rb") as file:
        if not is_dicom(file.read(132)):
            raise UnreadableImage("not a DICOM")
        file.seek(0)
        dataset = _dataset(file, specific_tags=[*HEADER], stop_before_pixels=True)
        values: dict[str, Any] = {}
        for keyword, column in HEADER.items():
            try:
                value = dataset.get(keyword)
            except Exception:  # not a valid value of its kind: missing
                value = None
            values[column] = None if value is None or value == "" else value
        for size in ("width", "height"):
            values[size] = int(values[size]) if values[size] else None
        values["pixel_spacing"] = float(values["pixel_spacing"][0]) if values["pixel_spacing"] else None
        values["age_unit"] = None
        if values["age"] is not None:
            values["age"], values["age_unit"] = age_years(str(values["age"]))
        for code in ("sex", "view_position", "photometric_interpretation"):  # only what can be a code
            values[code] = str(values[code]) if _CODE.fullmatch(str(values[code] or "")) else None
        values["sex"] = values["sex"] if values["sex"] in ("M", "F", "O") else None
        return {**values, "compression": _name(_syntax(dataset))}


def age_years(text: str) -> tuple[float, str | None]:
    """Years and unit of a DICOM age such as `058Y`, `011M`, `003W`, `020D` (PS3.5, 6.2).

    A bare number counts as years, with an empty unit; any other text is NaN without a unit.
    """
    age = re.fullmatch(r"(\d{3})([DWMY])|(\d{1,3})", text)
    if age is None:
        return float("nan"), None
    return int(age[1] or age[3]) / _AGE_UNITS[age[2] or "Y"], age[2] or ""


def undecodable(paths: Iterable[Path]) -> list[Undecodable]:
    """The transfer syntaxes of DICOM files that no installed package decodes; files of other kinds are skipped."""
    from pydicom.pixels import get_decoder

    counts = Counter(uid for path in paths if (uid := _syntax_of(path)))
    syntaxes = []
    for uid, files in sorted(counts.items()):
        try:
            available = get_decoder(uid).is_available
        except NotImplementedError:  # a private syntax, a video
            available = False
        if not available:
            syntaxes.append(Undecodable(_name(uid), files))
    return syntaxes


def _syntax_of(path: Path) -> str | None:
    """The transfer syntax of a file, or None when it is not a DICOM; reads the first bytes only."""
    from pydicom.filereader import read_file_meta_info

    try:
        with path.open("rb") as file:
            if not is_dicom(file.read(132)):
                return None
        with _QUIET:
            return str(read_file_meta_info(path).get("TransferSyntaxUID", _IMPLICIT_LITTLE_ENDIAN))
    except Exception:  # the error is reported when the file is read
        return None


def _dataset(source: Any, **options: Any) -> Any:
    import pydicom  # here: most competitions have no DICOMs

    dataset = pydicom.dcmread(source, force=True, **options)  # force: also without preamble
    if "TransferSyntaxUID" not in dataset.file_meta:
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.UID(_IMPLICIT_LITTLE_ENDIAN)  # PS3.5, 10.1
    # Some writers leave elements empty: they change nothing.
    for name in ("ModalityLUTSequence", "VOILUTSequence"):
        if name in dataset and not any(item.get("LUTDescriptor") for item in dataset[name].value or []):
            del dataset[name]
    for name in ("RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth"):
        if name in dataset and dataset[name].is_empty:
            del dataset[name]
    return dataset


def _syntax(dataset: Any) -> str:
    return str(dataset.file_meta.TransferSyntaxUID)


def _name(syntax: str) -> str:
    from pydicom.uid import UID

    return UID(syntax).name


def _is_shown_as_stored(dataset: Any, settings: DicomSettings) -> bool:
    """Whether grey values are 8-bit and unsigned, and header and settings change none of them, padding excepted."""
    rescale = (float(dataset.get("RescaleSlope") or 1), float(dataset.get("RescaleIntercept") or 0))
    lookups = ("ModalityLUTSequence", "VOILUTSequence", "WindowCenter")
    return (
        dataset.get("BitsStored") == 8
        and dataset.get("PixelRepresentation") == 0
        and rescale == (1, 0)
        and settings.percentiles is None
        and not any(name in dataset for name in lookups)
    )


def _jpeg_frame(dataset: Any) -> bytes:
    from pydicom.encaps import generate_frames

    _require_pixels(dataset)
    with _reasons("its pixels cannot be decoded: {error}"):
        return next(generate_frames(dataset.PixelData, number_of_frames=1))


def _stored(dataset: Any, frame: int) -> np.ndarray:
    """The stored values of a frame: (height, width), or (height, width, 3) RGB."""
    from pydicom.pixels import get_decoder, pixel_array

    _require_pixels(dataset)
    if not get_decoder(_syntax(dataset)).is_available:
        raise UnreadableImage(f"no installed package decodes {_name(_syntax(dataset))}: {_REMEDY}")
    # Pillow decodes baseline JPEG 2 to 4 times as fast as the packages that pydicom would try first
    plugin = "pillow" if _syntax(dataset) == _JPEG_BASELINE else ""
    several = int(dataset.get("NumberOfFrames") or 1) > 1
    with _reasons("its pixels cannot be decoded: {error}"):
        return pixel_array(dataset, index=frame if several else None, decoding_plugin=plugin)


def _require_pixels(dataset: Any) -> None:
    if not any(name in dataset for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise UnreadableImage("a DICOM without pixels")


def _palette(dataset: Any, stored: np.ndarray) -> np.ndarray:
    from pydicom.pixels import apply_color_lut

    colours = apply_color_lut(stored, dataset)
    return _scaled(colours, 0, np.iinfo(colours.dtype).max)


def _rendered(dataset: Any, stored: np.ndarray, settings: DicomSettings) -> np.ndarray:
    """Grey values in 8 bit: through the modality LUT, then the window, VOI LUT or percentiles."""
    from pydicom.pixels import apply_modality_lut, apply_voi, apply_windowing

    values = apply_modality_lut(stored, dataset)
    kept = values[~_padding(dataset, stored)]
    if not kept.size:
        return np.zeros(values.shape, np.uint8)
    if settings.percentiles:
        return _scaled(values, *np.percentile(kept, settings.percentiles))
    chosen = _chosen_window(dataset, settings.window)
    if chosen is None:
        return _scaled(values, kept.min(), kept.max())
    if chosen[0] == "lut":
        bits = int(dataset.VOILUTSequence[chosen[1]].LUTDescriptor[2])
        return _scaled(apply_voi(values, dataset, chosen[1]), 0, 2**bits - 1)
    with np.errstate(over="ignore"):  # a sigmoid's far ends
        ends = apply_windowing(np.array([-1e9, 1e9]), dataset, chosen[1])  # what a window maps to depends on the header
        return _scaled(apply_windowing(values, dataset, chosen[1]), *ends)


def _chosen_window(dataset: Any, window: str) -> tuple[str, int] | None:
    """("lut" or "window", its index), or None where the header has neither; a LUT goes before a window."""
    luts = [str(item.get("LUTExplanation", "")) for item in dataset.get("VOILUTSequence") or []]
    centers = dataset.get("WindowCenter")
    count = 0 if centers is None or centers == "" else len(_several(centers))
    names = [str(name) for name in _several(dataset.get("WindowCenterWidthExplanation", ""))]
    names = (names + [""] * count)[:count]
    if window == "first":
        return ("lut", 0) if luts else ("window", 0) if names else None
    for kind, explanations in (("lut", luts), ("window", names)):
        for index, name in enumerate(explanations):
            if name.strip().lower() == window.lower():
                return kind, index
    named = ", ".join(repr(name) for name in [*luts, *names] if name) or "none with a name"
    raise UnreadableImage(f"no window is named {window!r}; the file has {named}")


def _several(value: Any) -> list[Any]:
    from pydicom.multival import MultiValue

    return list(value) if isinstance(value, (MultiValue, list)) else [value]


def _padding(dataset: Any, stored: np.ndarray) -> np.ndarray:
    """Which pixels are padding, not part of the image (PS3.3, C.7.5.1.1.2): bool, of the shape of `stored`."""
    if (value := dataset.get("PixelPaddingValue")) is None:
        return np.zeros(stored.shape, bool)
    ends = sorted((int(value), int(dataset.get("PixelPaddingRangeLimit", value))))
    return (stored >= ends[0]) & (stored <= ends[1])


def _scaled(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """uint8: `low` becomes 0 and `high` 255, values beyond are clipped; rounded to the nearest."""
    if values.dtype == np.uint8 and (low, high) == (0, 255):
        return values.copy()
    share = (values.astype(np.float64) - low) / ((high - low) or 1)
    return np.rint(np.clip(share, 0, 1) * 255).astype(np.uint8)


@contextmanager
def _reasons(reason: str = "broken DICOM ({kind})") -> Iterator[None]:
    """Turn any error into an UnreadableImage; only errors of decoders, which see no patient, are quoted."""
    try:
        yield
    except UnreadableImage:
        raise
    except Exception as error:
        raise UnreadableImage(reason.format(error=error, kind=type(error).__name__)) from error


def _silence() -> Callable[[], None]:
    """Let no warning out, and have pydicom take values as they are in the file; returns the function that ends this."""
    from pydicom import config

    mode, remove_filter = config.settings.reading_validation_mode, add_warnings_filter("ignore")
    config.settings.reading_validation_mode = config.IGNORE

    def end() -> None:
        config.settings.reading_validation_mode = mode
        remove_filter()

    return end


_QUIET = Shared(_silence)
