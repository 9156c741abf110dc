"""What encodings cost: PNG settings (size, encoding, decoding), and decoding JPEGs at a reduced scale.

    python scripts/bench/encodings.py FOLDER [--size 224] [--images 300]

FOLDER holds images or DICOMs of any kind. For the first part they are brought to --size; for the second, those that
are larger JPEGs are decoded in full and averaged over areas, and at the scale that leaves 1, 2 or 4 times the size,
which is compared in grey levels. One thread; decoding is TensorFlow's in the first part, Pillow's in the second.
"""

import argparse
import io
import time
from pathlib import Path

import cv2
import numpy as np
from common import machine
from PIL import Image

from kit.data.pixels import dicom, images
from kit.errors import UnreadableImage
from kit.runtime.devices import import_tensorflow


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--images", type=int, default=300)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    files = sorted(path for path in options.folder.rglob("*") if path.is_file() and path.suffix != ".csv")[
        : options.images
    ]
    print(machine(), f"{len(files)} files of {options.folder.name}, {options.size} px", sep="\n")
    pixels = [images.decode(path.read_bytes()) for path in files]
    png([images.resize(p, options.size, "area") if p.shape[:2] != (options.size,) * 2 else p for p in pixels])
    reduced([path.read_bytes() for path in files], options.size)


def png(pixels):
    tf = import_tensorflow()

    def level_6(image):
        buffer = io.BytesIO()
        images._to_pillow(image).save(buffer, "PNG", compress_level=6)
        return buffer.getvalue()

    def opencv(image):
        return cv2.imencode(".png", image)[1].tobytes()

    ways = {"kit": lambda image: images.encode(image, "png"), "Pillow, level 6": level_6, "OpenCV's default": opencv}
    for name, encode in ways.items():
        seconds, encoded = timed(lambda encode=encode: [encode(image) for image in pixels])
        took, _ = timed(lambda encoded=encoded: [tf.io.decode_png(data) for data in encoded])
        size, count = np.mean([len(data) for data in encoded]), len(pixels)
        print(f"png, {name:16} {size:8.0f} bytes   encodes {count / seconds:6.0f}/s   decodes {count / took:6.0f}/s")


def reduced(files, size):
    frames = [dicom.read(data) if dicom.is_dicom(data) else data for data in files]
    jpegs = [f for f in frames if isinstance(f, bytes) and f.startswith(b"\xff\xd8") and is_larger(f, size)]
    if not jpegs:
        print("no JPEG is larger than that")
        return
    full_time, full = timed(lambda: [images.resize(grey(data), size, "area").astype(int) for data in jpegs])
    print(f"full scale, then areas            {len(jpegs) / full_time:6.0f}/s")
    for times in (1, 2, 4):
        took, results = timed(lambda times=times: [images.resize(grey(d, times * size), size, "area") for d in jpegs])
        off = np.abs(np.stack(results) - np.stack(full))
        quantile = np.quantile(off, 0.999)
        print(
            f"a scale that leaves {times} x the size   {len(jpegs) / took:6.0f}/s   grey levels off: "
            f"mean {off.mean():.2f}, 99.9 % at most {quantile:.0f}, the worst {off.max():.0f}"
        )


def is_larger(data, size):
    try:
        return min(Image.open(io.BytesIO(data)).size) > size
    except OSError as error:
        raise UnreadableImage(str(error)) from error


def grey(data, at_least=None):
    image = Image.open(io.BytesIO(data))
    if at_least:
        image.draft("L", (at_least, at_least))
    return np.asarray(image.convert("L"))[..., None]


def timed(work, repeats=5):
    """Median seconds of some work, and what it returned."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        result = work()
        times.append(time.perf_counter() - started)
    return float(np.median(times)), result


if __name__ == "__main__":
    main()
