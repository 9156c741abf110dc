"""JPEG files and frames: their header, whether their data are whole, their pixels.

OpenCV and Pillow decode with the same library, libjpeg-turbo, to the same pixels. OpenCV lets its messages out, by
which corrupt data show: libjpeg does not fail over them, but makes up the rest of the picture.
"""

import re
from typing import NamedTuple

import cv2
import numpy as np

from kit.data.pixels.exif import orientation
from kit.data.pixels.messages import MESSAGES
from kit.errors import UnreadableImage

_JFIF, _EXIF, _ADOBE, _SCAN, _COMMENT, _END = 0xE0, 0xE1, 0xEE, 0xDA, 0xFE, 0xD9
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # the markers of a frame header (T.81, table B.1)
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # that ends a scan
_HUFFMAN = (0xC0, 0xC1, 0xC2)  # baseline, extended, progressive: what every decoder reads
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD9)}
_PLAIN_JFIF = b"\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0"
_PADDING = re.compile(r"Corrupt JPEG data: (\d+) extraneous bytes before marker 0xd9")
_REDUCED = {
    1: (cv2.IMREAD_GRAYSCALE, cv2.IMREAD_COLOR),
    2: (cv2.IMREAD_REDUCED_GRAYSCALE_2, cv2.IMREAD_REDUCED_COLOR_2),
    4: (cv2.IMREAD_REDUCED_GRAYSCALE_4, cv2.IMREAD_REDUCED_COLOR_4),
    8: (cv2.IMREAD_REDUCED_GRAYSCALE_8, cv2.IMREAD_REDUCED_COLOR_8),
}


class Jpeg(NamedTuple):
    """A JPEG: size and components, the marker of its frame, how it is turned (EXIF), and what decides its pixels."""

    width: int
    height: int
    components: int
    frame: int
    orientation: int
    data: bytes  # without metadata, over whose damage decoders would stumble
    scans: int  # where in `data` the first scan begins
    is_clean: bool  # whether nothing stands between the segments

    @property
    def is_whole(self) -> bool:
        """Whether the data end with the end-of-image marker, maybe padded."""
        return self.data[-64:].rstrip(b"\0\r\n").endswith(b"\xff\xd9")


def is_jpeg(data: bytes) -> bool:
    """Whether a file starts as a JPEG."""
    return data.startswith(b"\xff\xd8\xff")


def parse(data: bytes) -> Jpeg:
    """The header of a JPEG; raises UnreadableImage where it is cut off."""
    parts, start, clean, turned = [b"\xff\xd8"], 2, True, 1
    width = height = components = frame = 0
    while True:
        mark = data.find(b"\xff", start)
        while mark >= 0 and data[mark + 1 : mark + 2] in (b"\xff", b"\0"):  # fill bytes, and no markers at all
            mark = data.find(b"\xff", mark + 1)
        if mark < 0 or mark + 4 > len(data):
            raise UnreadableImage("the header of the JPEG is cut off")
        clean = clean and not data[start:mark].strip(b"\xff")
        marker, length = data[mark + 1], int.from_bytes(data[mark + 2 : mark + 4], "big")
        if marker == _SCAN:
            parts.append(data[mark:])
            break
        if marker == _END:
            raise UnreadableImage("a JPEG without an image")
        start = mark + 2 + (0 if marker in _WITHOUT_LENGTH else length)
        segment = data[mark:start]
        if marker == _JFIF and segment[4:9] == b"JFIF\0":
            parts.append(_PLAIN_JFIF)
        elif marker == _EXIF and segment[4:10] == b"Exif\0\0" and turned == 1:
            turned = orientation(segment[10:])
        elif marker == _ADOBE or not (0xE0 <= marker <= 0xEF or marker == _COMMENT):
            parts.append(segment)
        if marker in _FRAMES and len(segment) >= 10:
            frame, height, width = marker, *(int.from_bytes(segment[n : n + 2], "big") for n in (5, 7))
            components = segment[9]
    if not width or not height:
        raise UnreadableImage("a JPEG without a size in its header")
    scans = sum(map(len, parts[:-1]))
    return Jpeg(width, height, components, frame, turned, b"".join(parts), scans, clean)


def scale_for(jpeg: Jpeg, at_least: int | None) -> int:
    """The largest reduction (in the DCT) of 1, 2, 4 and 8 that leaves `at_least` pixels a side; None: 1."""
    fits = min(jpeg.width, jpeg.height) // at_least if at_least else 1
    return next(scale for scale in (8, 4, 2, 1) if scale <= max(1, fits))


def decode(jpeg: Jpeg, scale: int = 1, grey: bool = False) -> np.ndarray:
    """(height, width, 3) RGB or (height, width, 1) grey pixels, uint8, as stored: not turned; 1/`scale` of the size.

    With `grey`, a colour JPEG gives its luma plane. Raises UnreadableImage when data are missing or corrupt.
    """
    pixels, messages = _decoded(jpeg, scale, grey or jpeg.components == 1)
    if reason := next((line for line in messages if _is_damage(line, jpeg.data)), None):
        raise UnreadableImage(reason)
    if pixels is None:
        cut = b"\xff\xd9" not in jpeg.data
        raise UnreadableImage("the JPEG is truncated" if cut else "the JPEG cannot be decoded: corrupt, or a rare kind")
    return pixels[..., None] if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def can_be_kept(jpeg: Jpeg) -> bool:
    """Whether any decoder, such as TensorFlow's, reads it to the same upright pixels, and has nothing to remark.

    It is decoded at an eighth of its size for that, which finds what a whole decoding would: .07 ms for 224 x 224
    pixels. Raises UnreadableImage when data are missing or corrupt.
    """
    if not (jpeg.frame in _HUFFMAN and jpeg.components in (1, 3) and not 2 <= jpeg.orientation <= 8 and jpeg.is_clean):
        return False
    if not jpeg.is_whole:
        return False
    pixels, messages = _decoded(jpeg, 8, grey=True)
    if reason := next((line for line in messages if _is_damage(line, jpeg.data)), None):
        raise UnreadableImage(reason)
    return pixels is not None and not messages


def damage(data: bytes) -> str | None:
    """Why a JPEG that is stored as it is cannot be decoded as a whole; None if it can."""
    try:
        jpeg = parse(data)
        if not jpeg.is_whole:
            return "the JPEG is cut off"
        decode(jpeg, 8, grey=True)
    except UnreadableImage as error:
        return str(error)
    return None


def _decoded(jpeg: Jpeg, scale: int, grey: bool) -> tuple[np.ndarray | None, list[str]]:
    if not _has_all_scans(jpeg):
        raise UnreadableImage("the JPEG is truncated: its last scans are missing")
    buffer = np.frombuffer(jpeg.data, np.uint8)
    flags = _REDUCED[scale][0 if grey else 1] | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        return MESSAGES.during(lambda: cv2.imdecode(buffer, flags))
    except cv2.error as error:
        raise UnreadableImage(f"the JPEG cannot be decoded: {error.err}") from error


def _has_all_scans(jpeg: Jpeg) -> bool:
    """Whether the scans give all coefficients of all components, to the last bit (T.81, B.2.3 and G.1.1.1).

    A JPEG that ends between two scans is no error to libjpeg: details or colours are missing, and are smoothed over.
    """
    missing: dict[int, list[int]] = {}  # component -> how many bits of each coefficient are to come
    data, at = jpeg.data, jpeg.scans
    while at + 10 <= len(data):
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == _SCAN:
            count = data[at + 4]
            first, last, bits = (*data[at + 5 + 2 * count : at + 8 + 2 * count], 0, 0, 0)[:3]
            if jpeg.frame not in _PROGRESSIVE:
                first, last, bits = 0, 63, 0
            for component in data[at + 5 : at + 5 + 2 * count : 2]:
                coefficients = missing.setdefault(component, [1] * 64)
                coefficients[first : last + 1] = [bits & 15] * len(coefficients[first : last + 1])
            if len(missing) == jpeg.components and not any(map(any, missing.values())):
                return True
        following = _MARKER.search(data, at + 2 + length)
        if following is None or following[0] == b"\xff\xd9":
            return False
        at = following.start()
    return False


def _is_damage(message: str, data: bytes) -> bool:
    """Whether a message of libjpeg says that pixels are lost: padding before the end marker loses none."""
    if padding := _PADDING.match(message):
        end = data.rfind(b"\xff\xd9")
        return len({*data[max(0, end - int(padding[1])) : end]}) > 1
    return message.startswith(("Corrupt JPEG data", "Premature end of JPEG"))
