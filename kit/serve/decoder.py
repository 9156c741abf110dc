"""The process that opens what was sent: files are read by many C libraries, and a broken one must cost no more than it.

Questions come on standard input, answers go to standard output: the lengths of a JSON header and of bytes, then these.
It is `python -m kit.serve.decoder`; it ends with its parent, and loads neither Keras nor TensorFlow.
"""

import contextlib
import json
import os
import signal
import struct
import sys
from collections.abc import Callable
from typing import IO, Any

import cv2
import numpy as np

from kit.config import ImageSettings
from kit.data.pixels import dicom
from kit.data.pixels.images import decode
from kit.data.pixels.prepared import prepare_bytes
from kit.data.pixels.sizes import size_in
from kit.errors import UnreadableImage

SIDE = 1024  # pixels of the longer side of a picture, at most
_SMALL = 512  # up to which pictures are kept without loss
_MEMORY = 8 * 2**30  # bytes of address space
_LENGTHS = struct.Struct(">IQ")
Answer = tuple[dict[str, Any], bytes]


def send(stream: IO[bytes], header: dict[str, Any], body: bytes) -> None:
    """Write a message."""
    text = json.dumps(header).encode()
    stream.write(_LENGTHS.pack(len(text), len(body)))
    stream.write(text)
    stream.write(body)
    stream.flush()


def receive(stream: IO[bytes]) -> tuple[dict[str, Any], bytes]:
    """Read a message; raises EOFError where the other side has ended."""
    head, body = _LENGTHS.unpack(_exactly(stream, _LENGTHS.size))
    header: dict[str, Any] = json.loads(_exactly(stream, head))
    return header, _exactly(stream, body)


def _exactly(stream: IO[bytes], count: int) -> bytes:
    content = stream.read(count)
    if len(content) < count:
        raise EOFError
    return content


def prepare(data: bytes, image: ImageSettings) -> Answer:
    """The image as the model takes it, uint8 [size, size, 1 or 3], and width and height of the file's."""
    pixels = prepare_bytes(data, image)
    return {"shape": pixels.shape, "size": _size(data)}, pixels.tobytes()


def picture(data: bytes, image: ImageSettings) -> Answer:
    """The image for people, JPEG or PNG, and of a grey DICOM its values.

    Values are a PNG whose red and green are the high and low byte of 16 bits from `least` to `most`, in the file's
    unit; `low` to `high` is the range of its window.
    """
    pixels = decode(data, image)
    height, width = pixels.shape[:2]
    header = {"width": width, "height": height, "values": None}
    shown, values = _encoded(_small(pixels)), b""
    greys = dicom.greys(data, image.dicom, image.max_pixels) if dicom.is_dicom(data) else None
    if greys is not None:
        inside = greys.values[~greys.outside]
        least, most = (float(inside.min()), float(inside.max())) if inside.size else (0.0, 1.0)
        scale = 65535 / ((most - least) or 1)
        wide = _small(np.clip((greys.values - least) * scale, 0, 65535).astype(np.float32)[..., None])
        deep = np.round(wide[..., 0]).astype(np.uint16)
        layers = [
            np.zeros(deep.shape, np.uint8),
            (deep & 255).astype(np.uint8),
            (deep >> 8).astype(np.uint8),
        ]  # B, G, R
        values = cv2.imencode(".png", np.dstack(layers))[1].tobytes()
        header["values"] = {
            **{"least": least, "most": most, "low": greys.low, "high": greys.high, "inverted": greys.inverted}
        }
    return {**header, "shown": len(shown)}, shown + values


_ANSWERS: dict[str, Callable[[bytes, ImageSettings], Answer]] = {"prepare": prepare, "picture": picture}


def _size(data: bytes) -> tuple[int, int]:
    try:
        return size_in(data)
    except UnreadableImage:  # an array, which has no header of an image
        shape = decode(data).shape
        return shape[1], shape[0]


def _small(pixels: np.ndarray) -> np.ndarray:
    """The image [H, W, C] with no side above `SIDE`."""
    scale = SIDE / max(pixels.shape[:2])
    if scale >= 1:
        return pixels
    size = max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA).reshape(size[1], size[0], pixels.shape[2])


def _encoded(pixels: np.ndarray) -> bytes:
    pixels = pixels if pixels.shape[2] == 1 else pixels[..., ::-1]
    if max(pixels.shape) <= _SMALL:
        return cv2.imencode(".png", pixels)[1].tobytes()
    return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()


def _answer(header: dict[str, Any], data: bytes, image: ImageSettings) -> Answer:
    try:
        return _ANSWERS[header["do"]](data, image)
    except UnreadableImage as error:
        return {"error": str(error)}, b""
    except MemoryError:
        return {"error": "it takes more memory to read than there is"}, b""
    except Exception:  # what an error says may quote the file, and with it a patient
        return {"error": "it is damaged in a way that kit does not know"}, b""


def _confine() -> None:
    """Bound this process's memory, and leave no image of it behind when it crashes."""
    cv2.setNumThreads(1)
    with contextlib.suppress(ImportError, ValueError, OSError):  # Windows, macOS
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))


def main() -> None:
    """Answer until the parent ends."""
    questions, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    for number in (signal.SIGINT, signal.SIGTERM):  # a Ctrl-C is the parent's to heed
        signal.signal(number, signal.SIG_IGN)
    _confine()
    settings, _ = receive(questions)
    image = ImageSettings.model_validate(settings["image"])
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            header, data = receive(questions)
            if hasattr(signal, "setitimer"):  # ends this process even in the middle of a library, and without a parent
                signal.setitimer(signal.ITIMER_REAL, settings["seconds"])
            answer = _answer(header, data, image)
            if hasattr(signal, "setitimer"):
                signal.setitimer(signal.ITIMER_REAL, 0)
            del data
            send(answers, *answer)


if __name__ == "__main__":
    main()
