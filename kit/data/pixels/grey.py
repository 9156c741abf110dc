"""Stored grey values of a DICOM -> what it shows, in 8 bit: modality LUT or rescale, then VOI LUT or window.

PS3.3, C.7.5.1.1.2, C.11.1 and C.11.2. What a header holds and cannot be used is passed over, with a remark.
"""

from typing import Any, NamedTuple

import numpy as np

from kit.config import DicomSettings
from kit.data.pixels import elements
from kit.data.pixels.remarks import remark
from kit.data.pixels.values import scaled
from kit.errors import UnreadableImage

_BIG_ENDIAN = "1.2.840.10008.1.2.2"


class Lookup(NamedTuple):
    """A lookup table: `data[0]` is for values up to `first`; entries have `bits` bits."""

    first: int
    bits: int
    data: np.ndarray
    name: str

    def apply(self, values: np.ndarray) -> np.ndarray:
        """The entries of the values."""
        wide = values.astype(np.int64 if values.dtype.kind in "iu" else np.float64)
        first = self.first - 2**16 if self.first >= 2**15 and wide.min() < 0 else self.first  # written as unsigned
        return self.data[np.clip(wide - first, 0, len(self.data) - 1).astype(np.intp)]

    def shown(self, values: np.ndarray) -> np.ndarray:
        """The values in 8 bit."""
        return scaled(self.apply(values), 0, 2**self.bits - 1)


class Window(NamedTuple):
    """A window with its function: LINEAR, LINEAR_EXACT or SIGMOID."""

    center: float
    width: float
    function: str
    name: str

    def shown(self, values: np.ndarray) -> np.ndarray:
        """The values in 8 bit (C.11.2.1.2.1, C.11.2.1.3)."""
        if self.function == "SIGMOID":
            with np.errstate(over="ignore"):  # at its far ends
                return scaled(1 / (1 + np.exp(-4 * (values - self.center) / self.width)), 0, 1)
        center, width = self.center, self.width
        if self.function == "LINEAR":
            center, width = center - 0.5, width - 1
        if width == 0:
            return scaled(values > center, 0, 1)
        return scaled(values, center - width / 2, center + width / 2)


class Display(NamedTuple):
    """What of a header turns stored values into shown ones: a modality LUT or a rescale, VOI LUTs and windows."""

    modality: list[Lookup]  # one at most
    rescale: tuple[float, float]  # slope, intercept
    luts: list[Lookup]
    windows: list[Window]
    unusable: list[str]  # names of LUTs and windows that are passed over

    @property
    def changes_nothing(self) -> bool:
        """Whether values are shown as they are stored."""
        return not (self.modality or self.luts or self.windows) and self.rescale == (1, 0)

    def modal(self, stored: np.ndarray) -> np.ndarray:
        """The stored values through the modality LUT or the rescale."""
        if self.modality:
            return self.modality[0].apply(stored)
        if self.rescale == (1, 0):
            return stored
        return stored.astype(np.float64) * self.rescale[0] + self.rescale[1]

    def chosen(self, name: str) -> Lookup | Window | None:
        """`first`: the first LUT, else the first window, else None; otherwise the one with this name."""
        views: list[Lookup | Window] = [*self.luts, *self.windows]
        if name == "first":
            return views[0] if views else None
        for view in views:
            if view.name.lower() == name.lower():
                return view
        if name.lower() in (other.lower() for other in self.unusable):
            raise UnreadableImage(f"the window {name!r} cannot be used: its center, width or table is broken")
        named = ", ".join(repr(view.name) for view in views if view.name) or "none with a name"
        raise UnreadableImage(f"no window is named {name!r}; the file has {named}")


class Greys(NamedTuple):
    """Grey values float64 [height, width] in the file's unit (as Hounsfield's), and the range that its window shows.

    `outside` (bool) are pixels of padding; `inverted`: the highest value is black.
    """

    values: np.ndarray
    outside: np.ndarray
    low: float
    high: float
    inverted: bool


def display(dataset: Any, settings: DicomSettings) -> Display:
    """What of the header applies with these settings: with percentiles, no window or VOI LUT does."""
    modality, _ = _lookups(dataset, "ModalityLUTSequence", "modality LUT")
    rescale = (1.0, 0.0) if modality else _rescale(dataset)
    if settings.percentiles is not None:
        return Display(modality[:1], rescale, [], [], [])
    luts, broken_luts = _lookups(dataset, "VOILUTSequence", "VOI LUT")
    is_fractional = not modality and (abs(rescale[0]) < 1 or "PixelData" not in dataset)
    windows, broken_windows = _windows(dataset, is_fractional)
    return Display(modality[:1], rescale, luts, windows, [*broken_luts, *broken_windows])


def rendered(stored: np.ndarray, padding: np.ndarray, how: Display, settings: DicomSettings) -> np.ndarray:
    """Stored grey values in 8 bit; those of padding are arbitrary.

    Without a window or VOI LUT, they are shown from the smallest to the largest.
    """
    values = how.modal(stored)
    kept = values[~padding]
    if not kept.size:
        return np.zeros(values.shape, np.uint8)
    if settings.percentiles:
        low, high = np.percentile(kept, settings.percentiles)
        return scaled(values, low, high)
    view = how.chosen(settings.window)
    return scaled(values, kept.min(), kept.max()) if view is None else view.shown(values)


def shown_range(values: np.ndarray, how: Display, settings: DicomSettings) -> tuple[float, float]:
    """The values that are shown in black and in white: the ends of the window, or of the values [n] where none is."""
    if not values.size:
        return 0.0, 1.0
    if settings.percentiles:
        low, high = np.percentile(values, settings.percentiles)
        return float(low), float(high)
    view = how.chosen(settings.window)
    if isinstance(view, Window):
        return view.center - view.width / 2, view.center + view.width / 2
    return float(values.min()), float(values.max())


def padding(dataset: Any, stored: np.ndarray, bits: int) -> np.ndarray:
    """Which pixels are padding, not part of the image: bool, of the shape of `stored`.

    The value is compared modulo 2 ** BitsAllocated: some writers give that of signed pixels as an unsigned number.
    """
    outside = ~np.isfinite(stored) if stored.dtype.kind == "f" else np.zeros(stored.shape, bool)
    if elements.is_absent(dataset, "PixelPaddingValue") or stored.dtype.kind == "f":
        return outside
    value = elements.short(dataset, "PixelPaddingValue")
    limit = elements.short(dataset, "PixelPaddingRangeLimit")
    if value is None:
        remark("DICOMs whose PixelPaddingValue cannot be used: passed over")
        return outside
    low, high = sorted(
        _wrapped(end, bits, stored.dtype.kind == "i") for end in (value, value if limit is None else limit)
    )
    marked = (stored >= low) & (stored <= high)
    if marked.all() and stored.min() != stored.max():
        remark("DICOMs whose padding would be the whole image: passed over")
        return outside
    return marked


def _rescale(dataset: Any) -> tuple[float, float]:
    """Slope and intercept; 1 and 0 where the header has none that can be used."""
    slope, intercept = elements.number(dataset, "RescaleSlope"), elements.number(dataset, "RescaleIntercept")
    if slope and intercept is not None:
        return slope, intercept
    if slope == 0:
        remark("DICOMs whose RescaleSlope is 0: read as without a rescale")
    elif not all(
        elements.is_absent(dataset, name) or value == neutral
        for name, value, neutral in (("RescaleSlope", slope, 1), ("RescaleIntercept", intercept, 0))
    ):
        remark("DICOMs whose rescale cannot be used: read as without")
    return 1, 0


def _lookups(dataset: Any, keyword: str, what: str) -> tuple[list[Lookup], list[str]]:
    """The tables of a sequence that can be used, and the names of the others. Items that are left empty are neither."""
    items = elements.items(dataset, keyword)
    filled = [item for item in items or [] if not elements.is_absent(item, "LUTDescriptor")]
    lookups = [_lookup(dataset, item) for item in filled]
    if items is None or None in lookups:
        remark(f"DICOMs whose {what} cannot be used: passed over")
    broken = [_name(item, "LUTExplanation") for item, lookup in zip(filled, lookups, strict=True) if lookup is None]
    return [lookup for lookup in lookups if lookup is not None], broken


def _lookup(dataset: Any, item: Any) -> Lookup | None:
    """The table of an item; None for one that is cut off, maps all values to one or is described by other numbers."""
    descriptor = elements.numbers(item, "LUTDescriptor")
    if len(descriptor) != 3 or not all(part.is_integer() for part in descriptor) or not 8 <= descriptor[2] <= 16:
        return None
    entries, first, bits = int(descriptor[0]) % 2**16 or 2**16, int(descriptor[1]), int(descriptor[2])
    content = elements.value(item, "LUTData")
    if isinstance(content, bytes):
        order = ">" if dataset.file_meta.get("TransferSyntaxUID") == _BIG_ENDIAN else "<"
        kind = "u1" if bits == 8 and len(content) < 2 * entries else f"{order}u2"
        data = np.frombuffer(content[: len(content) // np.dtype(kind).itemsize * np.dtype(kind).itemsize], kind)
    else:
        data = np.array(elements.numbers(item, "LUTData"))
    data = data[:entries].astype(np.int64) % 2**16
    if len(data) < entries or data.min() == data.max():
        return None
    return Lookup(first, bits, data, _name(item, "LUTExplanation"))


def _windows(dataset: Any, is_fractional: bool) -> tuple[list[Window], list[str]]:
    """The windows that can be used, and the names of the others.

    A LINEAR window is at least 1 wide, as it counts whole values. With fractional ones, as of PET or parametric maps, a
    narrower one is meant as LINEAR_EXACT.
    """
    if elements.is_absent(dataset, "WindowCenter") and elements.is_absent(dataset, "WindowWidth"):
        return [], []
    centers, widths = elements.numbers(dataset, "WindowCenter"), elements.numbers(dataset, "WindowWidth")
    names = elements.texts(dataset, "WindowCenterWidthExplanation")
    function = elements.code(dataset, "VOILUTFunction") or "LINEAR"
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        remark("DICOMs whose VOILUTFunction is unknown: read as LINEAR")
        function = "LINEAR"
    count = len(centers) if len(centers) == len(widths) else 0
    names += [""] * (count - len(names))
    usable, broken = [], [] if count else names
    for center, width, name in zip(centers[:count], widths[:count], names, strict=False):
        exact = function == "LINEAR" and width <= 1 and is_fractional
        if width > 0 and (width >= 1 or exact or function != "LINEAR"):
            usable.append(Window(center, width, "LINEAR_EXACT" if exact else function, name))
        else:
            broken.append(name)
    if len(usable) < max(count, 1):
        remark("DICOMs whose window cannot be used: passed over")
    return usable, broken


def _name(item: Any, keyword: str) -> str:
    return " ".join(elements.texts(item, keyword))


def _wrapped(value: int, bits: int, signed: bool) -> int:
    """A number modulo 2 ** bits, in the range of signed or unsigned pixels."""
    value %= 2**bits
    return value - 2**bits if signed and value >= 2 ** (bits - 1) else value
