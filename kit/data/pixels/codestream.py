"""What the codestream of a JPEG, JPEG-LS or JPEG 2000 frame says of itself before it is decoded."""

import struct
from typing import NamedTuple

_NO_SIZE = {0xC4, 0xC8, 0xCC}  # between the SOF markers: DHT, JPG, DAC
_ALONE = {0x01, *range(0xD0, 0xD9)}  # markers without a segment
_J2K = b"\xff\x4f\xff\x51"  # SOC, SIZ (ISO/IEC 15444-1, A.5.1); in a JP2 file it comes after boxes
_SEARCHED = 4096  # bytes


class Codestream(NamedTuple):
    """Rows, columns and components of a frame; whether it holds EXIF data, which a DICOM's reader has to ignore."""

    rows: int
    columns: int
    components: int
    has_exif: bool


def parse(stream: bytes) -> Codestream | None:
    """The codestream's own description; None where it is of another kind, or cut off."""
    try:
        return _jpeg(stream) if stream[:2] == b"\xff\xd8" else _jpeg_2000(stream)
    except (struct.error, IndexError):
        return None


def _jpeg(stream: bytes) -> Codestream | None:
    """The frame header of a JPEG or JPEG-LS (ITU-T T.81, B.2.2; T.87, C.2.2)."""
    at, has_exif = 2, False
    while stream[at] == 0xFF:
        marker = stream[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
        elif marker in _ALONE:
            at += 2
        elif (0xC0 <= marker <= 0xCF and marker not in _NO_SIZE) or marker == 0xF7:
            rows, columns, components = struct.unpack(">HHB", stream[at + 5 : at + 10])
            return Codestream(rows, columns, components, has_exif)
        else:
            has_exif = has_exif or (marker == 0xE1 and stream[at + 4 : at + 8] == b"Exif")
            at += 2 + int(struct.unpack(">H", stream[at + 2 : at + 4])[0])
    return None


def _jpeg_2000(stream: bytes) -> Codestream | None:
    at = stream.find(_J2K, 0, _SEARCHED)
    if at < 0:
        return None
    right, bottom, left, top = struct.unpack(">4I", stream[at + 8 : at + 24])
    (components,) = struct.unpack(">H", stream[at + 40 : at + 42])
    return Codestream(bottom - top, right - left, components, False)
