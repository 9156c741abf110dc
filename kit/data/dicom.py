"""The DICOM half of reading images. So far only 8-bit files that show their grey levels or colours as they are."""

import io
from typing import Any

import numpy as np

from kit.errors import UnreadableImage

_JPEG_BASELINE = "1.2.840.10008.1.2.4.50"  # transfer syntax JPEG Baseline (Process 1), 8 bit
_LOOKUPS = ("ModalityLUTSequence", "RescaleSlope", "VOILUTSequence", "WindowCenter")


def is_dicom(data: bytes) -> bool:
    """Whether a file's bytes are DICOM with the 128-byte preamble (PS3.10, 7.1)."""
    return data[128:132] == b"DICM"


def read(data: bytes) -> np.ndarray | bytes:
    """What a DICOM file shows: a JPEG file where one can be had undecoded, else (height, width, 1 or 3) uint8 pixels.

    A single-frame, 8-bit, MONOCHROME2, baseline-JPEG file without lookup table, window or rescale in its header *is* a
    JPEG file in an envelope. Raises UnreadableImage for what is not 8 bit, not single-frame or broken.
    """
    dataset = _dataset(data)
    kind, bits, frames = (dataset.get(name) for name in ("PhotometricInterpretation", "BitsStored", "NumberOfFrames"))
    if kind not in ("MONOCHROME2", "RGB") or bits != 8 or int(frames or 1) != 1 or any(n in dataset for n in _LOOKUPS):
        raise UnreadableImage(f"a DICOM of {kind}, {bits} bit, {frames or 1} frames, or with a lookup is not read yet")
    try:
        if dataset.file_meta.get("TransferSyntaxUID") == _JPEG_BASELINE and kind == "MONOCHROME2":
            from pydicom.encaps import generate_frames

            return next(generate_frames(dataset.PixelData, number_of_frames=1))
        pixels = dataset.pixel_array
    except Exception as error:  # no pixels, a cut-off frame; and every decoder raises its own
        raise UnreadableImage(f"its pixels cannot be decoded: {error}") from error
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _dataset(data: bytes) -> Any:
    import pydicom  # here, because not everybody has DICOMs

    try:
        return pydicom.dcmread(io.BytesIO(data))
    except Exception as error:
        raise UnreadableImage(f"broken DICOM: {error}") from error
