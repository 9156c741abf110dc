"""Reading DICOM files: the image that a file shows, in 8 bit.

Stored values -> modality LUT or rescale -> VOI LUT or window -> 8 bit -> MONOCHROME1 inverted -> padding black. pydicom
decodes (PS3.3, C.7.6.3); `grey` has the rest. pydicom's warnings and its errors over a broken header may quote the
header, and with it a patient: they are never shown.
"""

import io
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kit.config import DicomSettings
from kit.data.pixels import codestream, elements, grey, jpeg
from kit.data.pixels.reading import require_size
from kit.data.pixels.remarks import remark
from kit.data.pixels.shared import Shared, add_warnings_filter
from kit.data.pixels.values import scaled
from kit.errors import UnreadableImage

_JPEG_BASELINE = "1.2.840.10008.1.2.4.50"  # transfer syntax JPEG Baseline (Process 1), 8 bit
# What files without a preamble start with: (0008,0000) of four bytes in Implicit VR Little Endian (before PS3.10),
# the file meta information, or the first elements of a data set in Explicit VR
_NO_PREAMBLE = re.compile(
    rb"\x08\x00\x00\x00\x04\x00\x00\x00|\x02\x00[\x00-\x03\x10]\x00(?:UL|OB|UI)|\x08\x00[\x00\x05\x08\x16\x18]\x00(?:UL|CS|UI)"
)
_IMPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2"
_DEFLATED = "1.2.840.10008.1.2.1.99"
_RLE, _RLE_RATIO = "1.2.840.10008.1.2.5", 64  # two bytes become 128 at the most (PS3.5, G.3.1)
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_DEFAULT = DicomSettings()
PACKAGES, CONVERT = "pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg", "convert them to another syntax"
MAX_PIXELS = 2**30  # of an image
_LARGEST_DEFLATED = 2**31  # bytes


class Undecodable(NamedTuple):
    """A transfer syntax that no installed package decodes, how many files have it, and what to do."""

    syntax: str
    files: int
    remedy: str


class Layout(NamedTuple):
    """How the pixels of a file are stored."""

    kind: str  # photometric interpretation
    rows: int
    columns: int
    samples: int
    bits_allocated: int
    bits_stored: int
    signed: int  # 0 or 1
    frames: int


def is_dicom(data: bytes) -> bool:
    """Whether a file starts as a DICOM: with a 128-byte preamble (PS3.10, 7.1), or, as older files, with a data set."""
    return data[128:132] == b"DICM" or bool(_NO_PREAMBLE.match(data))


def read(data: bytes, settings: DicomSettings = _DEFAULT, max_pixels: int = MAX_PIXELS) -> np.ndarray | bytes:
    """The image that a DICOM file shows: (height, width, 1 or 3) uint8 pixels, or a JPEG file that is not decoded yet.

    A JPEG is returned where the file is nothing but its envelope: single-frame, 8-bit, MONOCHROME2, baseline JPEG, with
    a header that changes no value. Without a window or VOI LUT, 8-bit unsigned values without a rescale are shown as
    they are, others from the smallest to the largest. What is broken in a header and not needed for the pixels is
    passed over, with a remark. Raises UnreadableImage for files that are broken, that have no pixels, more than
    `max_pixels` or several frames of which none is chosen, or whose transfer syntax no installed package decodes.
    """
    with _QUIET, _reasons():
        dataset, layout, frame = _image(data, settings, max_pixels)
        if layout.samples > 1 or layout.kind == "PALETTE COLOR":
            return _colours(dataset, _stored(dataset, layout, frame), layout)
        how = grey.display(dataset, settings)
        as_stored = _is_shown_as_stored(dataset, layout, how, settings)
        if as_stored and (file := _jpeg_frame(dataset, layout)):
            return file
        stored = _stored(dataset, layout, frame)
        padding = grey.padding(dataset, stored, layout.bits_allocated)
        stored = np.nan_to_num(stored, posinf=0, neginf=0) if stored.dtype.kind == "f" else stored
        pixels = scaled(stored, 0, 255) if as_stored else grey.rendered(stored, padding, how, settings)
        if pixels.min() == pixels.max() and _differ(dataset, layout, stored):
            remark("DICOMs that are shown in a single grey although their values differ")
        if layout.kind == "MONOCHROME1":
            pixels = 255 - pixels
        pixels[padding] = 0
    return pixels[..., None]


def greys(data: bytes, settings: DicomSettings = _DEFAULT, max_pixels: int = MAX_PIXELS) -> grey.Greys | None:
    """The grey values of a DICOM file, for another window than its own; None of one in colour. Raises as `read`."""
    with _QUIET, _reasons():
        dataset, layout, frame = _image(data, settings, max_pixels)
        if layout.samples > 1 or layout.kind == "PALETTE COLOR":
            return None
        how, stored = grey.display(dataset, settings), _stored(dataset, layout, frame)
        outside = grey.padding(dataset, stored, layout.bits_allocated)
        stored = np.nan_to_num(stored, posinf=0, neginf=0) if stored.dtype.kind == "f" else stored
        values = how.modal(stored).astype(np.float64)
        low, high = grey.shown_range(values[~outside], how, settings)
        return grey.Greys(values, outside, low, high, layout.kind == "MONOCHROME1")


def _image(data: bytes, settings: DicomSettings, max_pixels: int) -> tuple[Any, Layout, int]:
    """The data set, its layout, and the number of the frame to be read; raises UnreadableImage where there is none."""
    dataset = _dataset(data)
    layout = _described(dataset)
    if layout.frames > 1 and settings.frame is None:
        raise UnreadableImage(
            f"a DICOM with {layout.frames} frames: save one as a file of its own, or train with "
            "--set image.dicom.frame=0"
        )
    if (frame := settings.frame or 0) >= layout.frames:
        raise UnreadableImage(f"image.dicom.frame = {frame}, but there are {layout.frames} frames, counted from 0")
    require_size(layout.rows * layout.columns, max_pixels)
    return dataset, layout, frame


def describe(data: bytes) -> tuple[str, str]:
    """The transfer syntax and photometric interpretation of a DICOM file; raises UnreadableImage with the reason."""
    with _QUIET, _reasons():
        dataset = _dataset(data, specific_tags=["PhotometricInterpretation"], stop_before_pixels=True)
        return f"DICOM {syntax_name(dataset)}", elements.code(dataset, "PhotometricInterpretation") or "unknown"


@contextmanager
def opened(source: Path | bytes, keywords: list[str]) -> Iterator[Any]:
    """The data set of a file, or of its bytes, with these elements alone; in the block, pydicom is quiet.

    Raises UnreadableImage for a file that is not a DICOM, and in the place of any error in the block.
    """
    with _QUIET, _reasons():
        if isinstance(source, Path) and not source.is_file():
            raise UnreadableImage("not a file")
        with source.open("rb") if isinstance(source, Path) else io.BytesIO(source) as file:
            start = file.read(1024)
            if not is_dicom(start):
                raise UnreadableImage("not a DICOM")
            file.seek(0)
            content = file.read() if _is_deflated(start) else file
            yield _dataset(content, specific_tags=keywords, stop_before_pixels=True)


def undecodable(paths: Iterable[Path]) -> list[Undecodable]:
    """The transfer syntaxes of DICOM files that no installed package decodes; files of other kinds are skipped."""
    counts = Counter(uid for path in paths if (uid := _syntax_of(path)))
    syntaxes = []
    for uid, files in sorted(counts.items()):
        if not _is_decodable(uid):
            syntaxes.append(Undecodable(_name(uid), files, _remedy(uid)))
    return syntaxes


def _is_decodable(syntax: str) -> bool:
    from pydicom.pixels import get_decoder

    try:
        return bool(get_decoder(syntax).is_available)
    except NotImplementedError:  # a private syntax, a video
        return False


def _remedy(syntax: str) -> str:
    """What makes files of this transfer syntax readable: no package decodes videos and private syntaxes."""
    from pydicom.pixels import get_decoder

    try:
        get_decoder(syntax)
    except NotImplementedError:
        return CONVERT
    return PACKAGES


def syntax_name(dataset: Any) -> str:
    """The name of the transfer syntax, such as JPEG Baseline (Process 1)."""
    return _name(_syntax(dataset))


def _syntax_of(path: Path) -> str | None:
    """The transfer syntax of a file, or None when it is not a DICOM; reads the first bytes only."""
    from pydicom.filereader import read_file_meta_info

    try:
        if not path.is_file():  # opening a pipe would wait
            return None
        with path.open("rb") as file:
            if not is_dicom(file.read(132)):
                return None
        with _QUIET:
            return str(read_file_meta_info(path).get("TransferSyntaxUID", _IMPLICIT_LITTLE_ENDIAN))
    except Exception:  # the error is reported when the file is read
        return None


def _dataset(source: Any, **options: Any) -> Any:
    """The data set in a file's bytes, or in an open file."""
    import pydicom  # here: most competitions have no DICOMs

    if isinstance(source, bytes):
        if _is_deflated(source[:1024]):
            _require_inflatable(source)
        source = io.BytesIO(source)
    dataset = pydicom.dcmread(source, force=True, **options)  # force: also without preamble
    if not elements.texts(dataset.file_meta, "TransferSyntaxUID"):
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.UID(_IMPLICIT_LITTLE_ENDIAN)  # PS3.5, 10.1
    return dataset


def _is_deflated(start: bytes) -> bool:
    return _DEFLATED.encode() in start


def _require_inflatable(data: bytes) -> None:
    """Refuse a deflated data set (PS3.5, A.5) that would take more memory than the largest image."""
    inflater, size, rest = zlib.decompressobj(-zlib.MAX_WBITS), 0, data[_end_of_meta(data) :]
    while rest and not inflater.eof:
        size += len(inflater.decompress(rest, 2**26))
        rest = inflater.unconsumed_tail
        if size > _LARGEST_DEFLATED:
            raise UnreadableImage(f"a deflated DICOM of more than {_LARGEST_DEFLATED // 2**20} MiB")


def _end_of_meta(data: bytes) -> int:
    """Where the file meta information ends: group 2, always in Explicit VR Little Endian (PS3.10, 7.1)."""
    at = 132 if data[128:132] == b"DICM" else 0
    while data[at : at + 2] == b"\2\0":
        is_long = data[at + 4 : at + 6] in (b"OB", b"OW", b"UN", b"SQ", b"UT")
        length = data[at + 8 : at + 12] if is_long else data[at + 6 : at + 8]
        at += (12 if is_long else 8) + int.from_bytes(length, "little")
    return at


def _syntax(dataset: Any) -> str:
    return str(dataset.file_meta.TransferSyntaxUID)


def _name(syntax: str) -> str:
    from pydicom.uid import UID

    return UID(syntax).name


def _described(dataset: Any) -> Layout:
    """The layout of the pixels, which is also written into the data set as pydicom expects it.

    Raises UnreadableImage, with the name of the element, where one that pixels cannot be read without is unusable.
    """
    if all(elements.value(dataset, keyword) is None for keyword in _PIXELS):
        raise UnreadableImage("a DICOM without pixels")
    samples = elements.short(dataset, "SamplesPerPixel")
    kind = elements.code(dataset, "PhotometricInterpretation")
    samples = 1 if samples is None and (kind or "MONOCHROME").startswith(("MONOCHROME", "PALETTE")) else samples
    kind = "MONOCHROME2" if kind is None and samples == 1 else kind  # files before PS3.3 had neither
    allocated, frames = elements.short(dataset, "BitsAllocated"), elements.integer(dataset, "NumberOfFrames")
    if frames is None and not elements.is_absent(dataset, "NumberOfFrames"):
        remark("DICOMs whose NumberOfFrames cannot be used: read as one frame")
    stored = {
        "Rows": elements.short(dataset, "Rows"),
        "Columns": elements.short(dataset, "Columns"),
        "SamplesPerPixel": samples,
        "BitsAllocated": allocated,
        "BitsStored": elements.short(dataset, "BitsStored") or allocated,
        "PixelRepresentation": elements.short(dataset, "PixelRepresentation") if "PixelData" in dataset else 0,
        "NumberOfFrames": frames or 1,
    }
    numbers = {keyword: number for keyword, number in stored.items() if number is not None and number >= 0}
    absent = [*(stored.keys() - numbers.keys()), *(["PhotometricInterpretation"] if kind is None else [])]
    if kind is None or absent:
        raise UnreadableImage(f"a DICOM whose {min(absent)} is missing or cannot be used")
    for keyword, value in {**numbers, "PhotometricInterpretation": kind}.items():
        if keyword in dataset:
            del dataset[keyword]
        setattr(dataset, keyword, value)
    return Layout(kind, *numbers.values())


def _is_shown_as_stored(dataset: Any, layout: Layout, how: grey.Display, settings: DicomSettings) -> bool:
    """Whether grey values are 8-bit and unsigned, and header and settings change none of them, padding excepted."""
    eight_bit = "PixelData" in dataset and layout.bits_stored == 8 and not layout.signed
    return eight_bit and how.changes_nothing and settings.percentiles is None


def _jpeg_frame(dataset: Any, layout: Layout) -> bytes | None:
    """The JPEG file that the DICOM is an envelope of; None where its pixels need more than being decoded."""
    plain = layout.frames == 1 and layout.kind == "MONOCHROME2" and _syntax(dataset) == _JPEG_BASELINE
    if not plain or "PixelPaddingValue" in dataset:
        return None
    frame = _encoded(dataset, layout, 0)
    own = codestream.parse(frame)
    return frame if own and own.components == 1 and not own.has_exif else None


def _encoded(dataset: Any, layout: Layout, index: int) -> bytes:
    """The bytes of a compressed frame; raises UnreadableImage for one that is not of the size in the header."""
    from pydicom.encaps import get_frame

    with _reasons("its pixels cannot be decoded: {error}"):
        frame = get_frame(dataset.PixelData, index, number_of_frames=layout.frames)
    own = codestream.parse(frame)
    if own and (own.rows, own.columns) != (layout.rows, layout.columns) and own.rows:
        raise UnreadableImage(
            f"its frame has {own.columns} x {own.rows} pixels, but its header {layout.columns} x {layout.rows}"
        )
    size = layout.rows * layout.columns * layout.samples * layout.bits_allocated // 8
    if _syntax(dataset) == _RLE and size > _RLE_RATIO * len(frame):
        raise UnreadableImage(f"its frame is cut off: {len(frame)} bytes for {layout.columns} x {layout.rows} pixels")
    return frame


def _stored(dataset: Any, layout: Layout, frame: int) -> np.ndarray:
    """The stored values of a frame: (height, width), or (height, width, 3) RGB."""
    from pydicom.pixels import pixel_array

    if not _is_decodable(syntax := _syntax(dataset)):
        raise UnreadableImage(f"no installed package decodes {_name(syntax)}: {_remedy(syntax)}")
    if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        encoded = _encoded(dataset, layout, frame)
        if _syntax(dataset) == _JPEG_BASELINE:  # Pillow makes pixels up where the data are corrupt
            jpeg.decode(jpeg.parse(encoded), 8, grey=True)
    else:
        _require_frames(dataset, layout)
    # Pillow decodes baseline JPEG 2 to 4 times as fast as the packages that pydicom would try first
    plugin = "pillow" if _syntax(dataset) == _JPEG_BASELINE else ""
    with _reasons("its pixels cannot be decoded: {error}"):
        return pixel_array(dataset, index=frame if layout.frames > 1 else None, decoding_plugin=plugin)


def _differ(dataset: Any, layout: Layout, stored: np.ndarray) -> bool:
    """Whether there are different values, also in the bits that the header says are not used."""
    if layout.bits_stored == layout.bits_allocated or dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        return bool(stored.min() != stored.max())
    content, size = dataset.PixelData, layout.bits_allocated // 8
    return content[size : stored.size * size] != content[: (stored.size - 1) * size]


def _require_frames(dataset: Any, layout: Layout) -> None:
    """Refuse pixel data that hold more frames than the header declares: its sizes or their number are wrong."""
    content = next(content for keyword in _PIXELS if (content := elements.value(dataset, keyword)) is not None)
    bits = layout.rows * layout.columns * layout.samples * layout.bits_allocated
    bits = bits * 2 // 3 if layout.kind == "YBR_FULL_422" else bits
    if bits and (frames := 8 * len(content) // bits) > layout.frames:
        raise UnreadableImage(f"its pixel data hold {frames} frames, but its header declares {layout.frames}")


def _colours(dataset: Any, stored: np.ndarray, layout: Layout) -> np.ndarray:
    """RGB in 8 bit."""
    from pydicom.pixels import apply_color_lut

    if layout.kind != "PALETTE COLOR":
        return scaled(stored, 0, 2**layout.bits_stored - 1)
    with _reasons("its colour palette is broken ({kind})"):
        colours = apply_color_lut(stored, dataset)[..., :3]
        return scaled(colours, 0, np.iinfo(colours.dtype).max)


@contextmanager
def _reasons(reason: str = "broken DICOM ({kind})") -> Iterator[None]:
    """Turn any error into an UnreadableImage; only errors of decoders, which see no patient, are quoted."""
    try:
        yield
    except UnreadableImage:
        raise
    except Exception as error:
        text = re.sub(r" ?<[\w.]+ object at 0x\w+>", " it", " ".join(str(error).split()))
        raise UnreadableImage(reason.format(error=text, kind=type(error).__name__)) from error


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
