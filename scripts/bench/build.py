"""Building records: kit against a TFDS builder and the loops of the notebooks; then growth and memory up to 220,000.

    python scripts/bench/build.py --pcam DIR --xrays DIR --dicoms DIR [--repeats 5] [--growth 27500] [--only growth]
                                  [--share .01]

--pcam is a folder in the PCam layout (96 px .tif), --xrays one of class folders with JPEGs of 224 px, --dicoms one of
1024 px DICOMs; their files are listed several times, under new ids. From a warm page cache to a local disk; every turn
writes into a new folder. TFDS is left out, and named, when it is not installed. Growth builds the PCam set at N, 2N, 4N
and 8N images, each in a process of its own, and prints the most memory (PSS, all of its processes together) that was
seen on the way, fifty times a second.
"""

import argparse
import multiprocessing
import shutil
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from common import class_folders, in_turn, machine, prepared_by_tfds, show

from kit.competitions import pcam
from kit.config import DataSettings, ImageSettings, Source
from kit.data.records.build import build_records
from kit.data.table.examples import Examples, validate


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pcam", type=Path, required=True)
    parser.add_argument("--xrays", type=Path, required=True)
    parser.add_argument("--dicoms", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--growth", type=int, default=27_500, metavar="N")
    parser.add_argument("--share", type=float, default=1, help="of the images that are built, for a quick try")
    parser.add_argument("--only", choices=["pcam", "xrays", "dicoms", "growth"])
    options = parser.parse_args()
    print(machine())
    patches = validate(pcam.COMPETITION.read(options.pcam, Source()), 0)
    xrays, dicoms, grey = (
        class_folders(options.xrays),
        dicom_files(options.dicoms),
        ImageSettings(size=224, color="gray"),
    )
    sets = {  # as many images as kit builds in some seconds
        "pcam": (
            tiled(patches, round(10_000 * options.share)),
            options.pcam,
            ImageSettings(size=96),
            "PCam .tif 96 px -> png",
        ),
        "xrays": (tiled(xrays, round(40_000 * options.share)), options.xrays, grey, "JPEG 224 px, as is"),
        "dicoms": (tiled(dicoms, round(3_000 * options.share)), options.dicoms, grey, "DICOM 1024 px -> 224 px png"),
    }
    with tempfile.TemporaryDirectory() as scratch:
        for name, (examples, root, image, title) in sets.items():
            if options.only in (None, name):
                variants = {
                    "kit": with_kit,
                    "kit, 1 worker": partial(with_kit, workers=1),
                    "TFDS": with_tfds,
                    "plain loop": plain_loop,
                }
                if name == "dicoms":
                    variants["as the notebooks do: whole PNGs, then 224 px"] = by_way_of_png
                try:
                    import tensorflow_datasets  # noqa: F401
                except ImportError as error:
                    print(f"left out: TFDS ({error})")
                    del variants["TFDS"]
                jobs = {n: in_new_folder(work, examples, root, image, Path(scratch)) for n, work in variants.items()}
                show(f"{title}, {len(examples.table)} images", in_turn(jobs, options.repeats), "kit")
        if options.only in (None, "growth"):
            print("\nPCam, growth: images, images/s, peak memory")
            for times in (1, 2, 4, 8):
                grown = tiled(patches, times * options.growth)
                seconds, peak = watched(with_kit, grown, options.pcam, ImageSettings(size=96), Path(scratch) / "grown")
                count = len(grown.table)
                print(f"  {count:8} {count / seconds:8.0f} images/s {peak / 2**20:8.0f} MiB", flush=True)


def dicom_files(root):
    paths = sorted(root.rglob("*.dcm"))
    ids = [path.stem for path in paths]
    table = {"id": ids, "path": [str(p.relative_to(root)) for p in paths], "bytes": [p.stat().st_size for p in paths]}
    labels = np.arange(len(paths), dtype=np.float32) % 2
    return Examples(pd.DataFrame({**table, "split": "train", "group": ids, "y_any": labels}), ("any",), "binary")


def tiled(examples, count):
    """`count` examples: the same files again and again, under new ids."""
    table = examples.table.iloc[np.arange(count) % len(examples.table)].reset_index(drop=True)
    ids = table["id"] + [f"-{n // len(examples.table)}" for n in range(count)]
    return replace(examples, table=table.assign(id=ids, group=ids))


def in_new_folder(work, examples, root, image, scratch):
    """A variant that builds into a folder of its own, which is removed before its next turn.

    The loops, which no start-up weighs on, get a tenth of the images.
    """
    out = scratch / "out"
    if work in (plain_loop, by_way_of_png):
        examples = replace(examples, table=examples.table.iloc[: len(examples.table) // 10])

    def build():
        shutil.rmtree(out, ignore_errors=True)
        work(examples, root, image, out)
        return len(examples.table)

    return build


def with_kit(examples, root, image, out, workers=None):
    build_records("bench", examples, root, out, image, DataSettings(max_rejected=0), workers)


def pixels_of(path, size):
    """What a notebook writes: OpenCV for images, pydicom for DICOMs, then a resize."""
    if path.suffix == ".dcm":
        import pydicom

        pixels = pydicom.dcmread(path).pixel_array
    else:
        pixels = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB if path.suffix == ".tif" else cv2.IMREAD_GRAYSCALE)
    if pixels.shape[0] != size:
        pixels = cv2.resize(pixels, (size, size), interpolation=cv2.INTER_AREA)
    return pixels.reshape(size, size, -1)


def write_tfrecord(images, out):
    """The loop of the TFRecord tutorial: one process, one file, PNG."""
    import tensorflow as tf

    out.mkdir(parents=True)
    with tf.io.TFRecordWriter(str(out / "all.tfrecord")) as writer:
        for name, label, pixels in images:
            png = tf.io.encode_png(pixels).numpy()
            feature = {
                "id": tf.train.Feature(bytes_list=tf.train.BytesList(value=[name.encode()])),
                "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[png])),
                "label": tf.train.Feature(float_list=tf.train.FloatList(value=[label])),
            }
            writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())


def rows_of(examples):
    label = examples.table.filter(regex="^y_").columns[0]
    return zip(examples.table["id"], examples.table["path"], examples.table[label], strict=True)


def plain_loop(examples, root, image, out):
    write_tfrecord(((name, y, pixels_of(root / path, image.size)) for name, path, y in rows_of(examples)), out)


def by_way_of_png(examples, root, image, out):
    import pydicom

    pngs = out / "png"
    pngs.mkdir(parents=True)
    for name, path, _ in rows_of(examples):
        cv2.imwrite(str(pngs / f"{name}.png"), pydicom.dcmread(root / path).pixel_array)
    write_tfrecord(
        ((name, y, pixels_of(pngs / f"{name}.png", image.size)) for name, _, y in rows_of(examples)), out / "records"
    )


def with_tfds(examples, root, image, out):
    shape = (image.size, image.size, 1 if image.color == "gray" else 3)
    as_is = examples.table["path"].str.endswith(".jpeg").all()  # a path is stored as the file's bytes, undecoded

    def image_of(path):
        return str(root / path) if as_is else pixels_of(root / path, image.size)

    rows = ((name, image_of(path), y) for name, path, y in rows_of(examples))
    prepared_by_tfds(rows, shape, "jpeg" if as_is else "png", out)


def watched(work, *arguments):
    """Seconds of a piece of work in a process of its own, and the most bytes of memory (PSS) all its processes took."""
    process = multiprocessing.get_context("spawn").Process(target=work, args=arguments)
    started, peak = time.perf_counter(), 0
    process.start()
    while process.is_alive():
        peak = max(peak, sum(map(proportional_memory, family(process.pid))))
        time.sleep(0.02)
    process.join()
    assert process.exitcode == 0
    shutil.rmtree(arguments[-1])
    return time.perf_counter() - started, peak


def family(pid):
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return [pid]
    return [pid, *(member for child in children for member in family(child))]


def proportional_memory(pid):
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has just ended
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


if __name__ == "__main__":
    main()
