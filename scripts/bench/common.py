"""What the benchmarks share: variants measured in turn in one run, medians and ratios, the machine by name."""

import contextlib
import io
import os
import platform
import statistics
import time
from pathlib import Path

import numpy as np

from kit.competitions import folders
from kit.config import Source


def in_turn(variants, repeats):
    """Images a second of every variant, `repeats` of each, taken in turn so that a drifting machine hits all alike.

    A variant is a function without arguments that does its work once and returns how many images that was. One more
    turn, before the others, is not counted: compilers compile, caches fill.
    """
    speeds = {name: [] for name in variants}
    for turn in range(repeats + 1):
        for name, work in variants.items():
            started = time.perf_counter()
            images = work()
            if turn:
                speeds[name].append(images / (time.perf_counter() - started))
    return speeds


def show(title, speeds, against):
    """Print a table: median, extremes, and the ratio of the medians to that of the variant `against`."""
    print(f"\n{title}")
    base = statistics.median(speeds[against])
    for name, values in speeds.items():
        middle = statistics.median(values)
        spread = f"{min(values):.0f} to {max(values):.0f}"
        print(f"  {name:46} {middle:8.0f} images/s   ({spread:>16})   {middle / base:6.3f} of {against}", flush=True)


def machine():
    """This machine in a line."""
    known = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":")[1].strip() for line in known if "model name" in line), "")
    return f"{cpu or platform.processor()}, {len(os.sched_getaffinity(0))} cores, {platform.platform()}"


def class_folders(root):
    """Examples of a folder with one folder of images per class."""
    return folders.read(Path(root), Source())


def prepared_by_tfds(rows, shape, encoding, out):
    """A TFDS builder that has written `rows` of (name, pixels or path, label) below `out`."""
    import tensorflow_datasets as tfds

    class Bench(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")
        pkg_dir_path = out

        def _info(self):
            image = tfds.features.Image(shape=shape, encoding_format=encoding)
            return self.dataset_info_from_configs(
                features=tfds.features.FeaturesDict({"image": image, "label": np.float32})
            )

        def _split_generators(self, download):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for name, image, label in rows:
                yield name, {"image": image, "label": label}

    out.mkdir(parents=True)
    tfds.disable_progress_bar()
    builder = Bench(data_dir=out)
    with contextlib.redirect_stdout(io.StringIO()):
        builder.download_and_prepare()
    return builder
