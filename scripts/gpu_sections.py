"""The sections of gpu_rehearsal.py, each a process: python gpu_sections.py SECTION WORK SECONDS."""

import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from kit import log

sys.path.insert(0, str(Path(__file__).parent / "bench"))

STARTED = time.monotonic()
WORK = Path(sys.argv[2])
PLAN = json.loads((WORK / "plan.json").read_text())
SECONDS = float(sys.argv[3])
HOST = f"host, {len(os.sched_getaffinity(0))} cores"

# TFLOP/s of NVIDIA's data sheets, dense, by part of the device's name: float32 (as JAX computes it, in TF32 where the
# device has that), bfloat16.
PEAKS = {
    "H100 PCIe": (378, 756),
    "H100 NVL": (418, 835),
    "H100": (494, 989),
    "H200": (494, 989),
    "A100": (156, 312),
    "L4": (60, 121),
    "T4": (8.1, None),
}


def main():
    log.show()
    {
        "records": records,
        "input": reading,
        "train": training,
        "resume": resume,
        "one_fit": one_fit,
        "system_b": system_b,
        "pipeline": pipeline,
    }[sys.argv[1]]()


def say(what, **values):
    print("RESULT " + json.dumps({"what": what, **values}), flush=True)


def left(reserve=0.0):
    """Seconds of this section that are left."""
    return SECONDS - (time.monotonic() - STARTED) - reserve


# --- images


def records():
    """Records of made-up JPEGs, of two sizes; how fast they are built."""
    from kit.competitions import folders
    from kit.config import DataSettings, ImageSettings, Source
    from kit.data.records.build import build_records
    from kit.data.table.examples import validate

    for side, count in PLAN["sets"]:
        raw = WORK / f"raw{side}"
        write_images(raw, side, count)
        examples = validate(folders.read(raw, Source()), 0)
        settings = ImageSettings(size=side, encoding="jpeg:95", color="rgb")
        started = time.perf_counter()
        built = build_records("folders", examples, raw, WORK / f"records{side}", settings, DataSettings())
        rate = len(built.table) / (time.perf_counter() - started)
        size = sum(shard.bytes for shard in built.shards) / len(built.table)
        say(f"build, jpeg of {side} px", **{"images/s": rate, "kB an image": size / 1e3, "on": HOST})


def write_images(folder, side, count):
    """Class folders of smooth noise, which compresses about as tissue does."""

    def write(n):
        rng = np.random.default_rng(n)
        coarse = cv2.resize(rng.integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8), (side, side))
        image = cv2.add(coarse, rng.integers(0, 12, (side, side, 3), dtype=np.uint8))
        cv2.imwrite(str(folder / "ab"[n % 2] / f"{n:05}.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 95])

    for name in "ab":
        (folder / name).mkdir(parents=True)
    with ThreadPoolExecutor() as pool:
        list(pool.map(write, range(count)))


def open_set(side):
    from kit.data.records.manifest import open_records

    return open_records(WORK / f"records{side}")


def reader(records, batch):
    """`batches(epoch, parts)` as kit.train.fit.Feed has it."""
    from kit.data.records.batches import train_batches

    cells = list(range(records.cells))
    return lambda epoch, parts: train_batches(records, cells, batch, 0, epoch, parts=parts)


def reading():
    """Batches of uint8 images on the host, and what one thread decodes."""
    for side, _ in PLAN["sets"]:
        records = open_set(side)
        batch = min(PLAN["batch"], len(records.table))
        batches = reader(records, batch)
        alone = rate_of(bare_decoding(records), PLAN["seconds_of_reading"] / 2)
        source = iter(batches(0, 1))
        next(source)
        speed = rate_of((len(next(source)[0]["image"]) for _ in itertools.count()), PLAN["seconds_of_reading"])
        say(f"jpeg of {side} px", **{"images/s": speed, "one thread of OpenCV": alone, "on": HOST})


def rate_of(counts, seconds):
    """Images a second of an endless iterator over numbers of images."""
    started, images = time.perf_counter(), 0
    while (took := time.perf_counter() - started) < seconds:
        images += next(counts)
    return images / took


def bare_decoding(records):
    from kit.data.records import tfrecord

    path = records.shard_paths(list(range(records.cells)))[0]
    images = [tfrecord.parse(data)["image"][0] for data in tfrecord.read_records(path)]
    for image in itertools.cycle(images):
        cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR_RGB)
        yield 1


# --- training


def set_up(precision="auto"):
    from kit.config import RuntimeSettings
    from kit.runtime import devices

    device = devices.set_up(RuntimeSettings(backend="jax", precision=precision, devices=1))
    return device, device.names[0] if device.kind != "CPU" else "CPU: no figure of a GPU"


def feed_of(records, batch):
    """The records' training batches."""
    from kit.data.records.batches import steps_per_epoch
    from kit.tables import truth
    from kit.train.fit import Feed

    cells = list(range(records.cells))
    batches = reader(records, batch)
    labels = truth(records.rows(cells), records.labels).astype(np.float32)
    return Feed(batches, steps_per_epoch(records, cells, batch), labels)


def fitted(model, feed, train, state, device, callbacks, augment=None):
    """kit's own fit, without validation."""
    from kit.config import AugmentSettings
    from kit.train.fit import fit

    return fit(
        model,
        feed,
        lambda: {"val_score": 0.0},
        monitor="val_score",
        task="binary",
        train=train,
        augment=augment or AugmentSettings(),
        seed=0,
        state=state,
        jit_compile=device.jit_compile,
        steps_per_execution=device.steps_per_execution,
        callbacks=callbacks,
    )


def network(name, side):
    """An untrained network; `tiny`, which compiles fast, is not kit's but scripts/bench/train.py's."""
    import keras
    from train import tiny

    from kit.models import registry

    shape = (side, side, 3)
    return tiny(keras, shape) if name == "tiny" else registry.build(name, shape=shape, outputs=1)


def epoch_times(until):
    """A callback with the seconds of the steps of each epoch; after two of them it stops in time, and comes last.

    (A deadline of fit's would take the first epoch, which compiles, as the measure of the next.)
    """
    import keras

    class Epochs(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.seconds = []

        def on_epoch_begin(self, epoch, logs=None):
            self.began, self.before = time.perf_counter(), time.monotonic()

        def on_train_batch_end(self, batch, logs=None):
            self.last = time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):
            self.seconds.append(self.last - self.began)
            now = time.monotonic()
            self.model.stop_training = len(self.seconds) > 1 and now + (now - self.before) > until

    return Epochs()


def training():
    """Images a second of kit's fit against a bare compiled loop, epochs in turn; memory after each epoch."""
    jobs = [(backbone, precision) for backbone in PLAN["backbones"] for precision in ("mixed_bfloat16", "float32")]
    for n, job in enumerate(jobs):
        try:
            train_one(*job, seconds=left(5) / (len(jobs) - n))
        except Exception as error:  # the other networks may still do
            say(f"{job[0]}, {job[1]}", failed=f"{type(error).__name__}: {error}"[:300])


def train_one(name, precision, seconds):
    import jax
    import keras
    from train import bare_classifier, flops_of, jax_step  # scripts/bench/train.py

    from kit.config import TrainSettings

    until = time.monotonic() + seconds
    device, where = set_up(precision)
    keras.utils.clear_session()
    side, batch, epochs = PLAN["side"], PLAN["batch"], PLAN["epochs"]
    feed = feed_of(open_set(side), batch)

    keras.utils.set_random_seed(1)
    bare, loss_of, batches = bare_classifier(keras, network(name, side), batch, (side, side, 3))
    optimizer = keras.optimizers.Adam(1e-3)
    optimizer.build(bare.trainable_variables)
    batches = jax.device_put(batches)
    traced, values = jax_step(bare, optimizer, loss_of, batches[0])
    compiling = ThreadPoolExecutor(1).submit(timed, lambda: traced.lower().compile())  # while fit compiles its own
    alone, memory = [], []
    state = {"values": values}
    times = epoch_times(until)

    class Turns(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            step, _ = compiling.result()
            started = time.perf_counter()
            for n in range(feed.steps):
                loss, state["values"] = step(state["values"], *batches[n % 8])
            float(loss)
            alone.append(time.perf_counter() - started)
            memory.append(in_use(jax))

    train = TrainSettings(epochs=epochs, schedule="constant", batch_size=batch)
    folder = WORK / f"state-{name}-{precision}"
    fitted(network(name, side), feed, train, folder, device, [Turns(), times])

    images = feed.steps * batch
    kit_rate = images / statistics.median(times.seconds[1:])
    bare_rate = images / statistics.median(alone[1:])
    gflops = flops_of(traced.jaxpr.jaxpr) / batch / 1e9
    row = {"images/s": kit_rate, "bare loop": bare_rate, "share": kit_rate / bare_rate, "GFLOP an image": gflops}
    if peak := peak_of(where, precision):
        row["share of the peak, bare"] = gflops * bare_rate / 1e3 / peak
        row["peak, TFLOP/s"] = peak
    row |= {
        "batch": batch,
        "epochs": len(times.seconds),
        "first epoch, s": times.seconds[0],
        "bare compiled in, s": compiling.result()[1],
    }
    names = ("device MiB", "host MiB")
    for n, kind in enumerate(names):
        if memory[0][n] is not None:
            row[f"{kind}, epoch by epoch"] = " ".join(f"{m[n] / 2**20:.0f}" for m in memory)
    say(f"{name}, {side} px, {precision}, random weights", **row, on=where)


def timed(call):
    started = time.perf_counter()
    return call(), time.perf_counter() - started


def in_use(jax):
    """Bytes in use: of the device (None on a CPU), of this process."""
    stats = jax.local_devices()[0].memory_stats() or {}
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return stats.get("bytes_in_use"), pages * os.sysconf("SC_PAGESIZE")


def peak_of(device, precision):
    """TFLOP/s, or None for a device that is not in the table."""
    return next((peaks[precision != "float32"] for name, peaks in PEAKS.items() if name in device), None)


# --- kill and resume


def resume():
    """Train with and without a kill -9 in the third epoch, on the same device at the same time; compare the weights."""
    environment = dict(os.environ)
    flags = "--xla_gpu_deterministic_ops=true --xla_gpu_autotune_level=0"  # or two processes choose different kernels
    environment["XLA_FLAGS"] = f"{environment.get('XLA_FLAGS', '')} {flags}".strip()

    def start(name, *more):
        command = [sys.executable, __file__, "one_fit", str(WORK), str(SECONDS), name, *more]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)

    whole, killed = start("whole"), start("killed", "stall")
    for line in killed.stdout:
        if line.startswith("STALLED"):
            break
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    started = time.perf_counter()
    output, _ = start("killed").communicate()
    took = time.perf_counter() - started
    whole.communicate()
    weights = [np.load(WORK / f"{name}.npz") for name in ("whole", "killed")]
    difference = max(float(np.abs(weights[0][key] - weights[1][key]).max()) for key in weights[0])
    notes = dict(line.split(": ", 1) for line in output.splitlines() if line.startswith(("FIRST: ", "DEVICE: ")))
    say(
        "kill -9 in epoch 3",
        **{
            "ended by": signal.Signals(-killed.returncode).name if killed.returncode < 0 else "itself",
            "resumed in epoch": notes["FIRST"],
            "largest difference of a weight": difference,
            "same weights": "yes" if difference == 0 else "no",
            "resumed run, s": took,
            "flags": flags,
            "on": notes["DEVICE"],
        },
    )


def one_fit():
    """One of the fits of `resume`: its name, and `stall` if it is to wait in the third epoch to be killed."""
    import keras

    from kit.config import AugmentSettings, TrainSettings

    name, stall = sys.argv[4], "stall" in sys.argv[5:]
    device, where = set_up()
    print("DEVICE:", where)
    feed = feed_of(open_set(PLAN["side"]), PLAN["batch"])

    class Watch(keras.callbacks.Callback):
        first = None

        def on_epoch_begin(self, epoch, logs=None):
            if self.first is None:
                self.first = epoch
                print("FIRST:", epoch + 1, flush=True)

        def on_train_batch_end(self, batch, logs=None):
            if stall and len(seen) >= 2:
                print("STALLED", flush=True)
                time.sleep(600)

        def on_epoch_end(self, epoch, logs=None):
            seen.append(epoch)

    seen = []
    keras.utils.set_random_seed(1)
    model = network(PLAN["small"], PLAN["side"])
    train = TrainSettings(epochs=4, batch_size=PLAN["batch"])
    augment = AugmentSettings(horizontal_flip=True, brightness=0.1)  # drawn by seed and epoch
    fitted(model, feed, train, WORK / f"state-{name}", device, [Watch()], augment=augment)
    np.savez(WORK / f"{name}.npz", *model.get_weights())


# --- system B


TRAIN, TEST = 220_025, 57_458  # images of the competition
TRIALS, TRIAL_EPOCHS = 26, 20  # of its Hyperband search: at most, as it stops most trials early


def system_b():
    """How long a public PCam notebook's protocol would take here: from measured epochs, with the arithmetic.

    It took 37 to 40 hours in all. Every recipe is run to its last epoch; early stopping would make it shorter.
    """
    from kit.config import load_config

    total, search = 0.0, 0.0
    for n, recipe in enumerate(PLAN["recipes"]):
        config = load_config(recipe)
        train, predict, first, batch, where = measured(config, left(5) / (len(PLAN["recipes"]) - n))
        epochs, folds = sum(phase.epochs for phase in config.train.all_phases), config.folds
        fitting, validation = TRAIN * (folds - 1) / folds, TRAIN / folds
        an_epoch = fitting / train + validation / predict
        seconds = folds * (first + epochs * an_epoch + TEST / predict)
        total += seconds
        sum_of = (
            f"{folds} folds x ({first:.0f} s compiling + {epochs} epochs x ({fitting:,.0f} / {train:,.0f} + "
            f"{validation:,.0f} / {predict:,.0f}) s + {TEST:,} / {predict:,.0f} s) = {seconds / 3600:.2f} h"
        )
        rates = {"training images/s": train, "predicting images/s": predict, "batch": batch}
        say(
            recipe + (f" ({PLAN['model']} network)" if PLAN["model"] else ""),
            **rates,
            arithmetic=sum_of,
            hours=seconds / 3600,
            on=where,
        )
        if recipe == PLAN["recipes"][-1]:
            search = TRIALS * (first + TRIAL_EPOCHS * an_epoch)
            sum_of = (
                f"{TRIALS} trials x ({first:.0f} s + {TRIAL_EPOCHS} epochs x {an_epoch:.1f} s) = "
                f"{search / 3600:.2f} h, if Hyperband stopped none"
            )
            say("search", arithmetic=sum_of, hours=search / 3600, on=where)
    say(
        "all of it",
        **{"hours": (total + search) / 3600, "the notebook's": "37 to 40 h", "not in it": "records, super-resolution"},
        arithmetic=f"{total / 3600:.2f} h of folds + {search / 3600:.2f} h of search",
    )


def measured(config, seconds):
    """Of a recipe: images/s trained and predicted, seconds that the first epoch takes longer, batch, device."""
    import keras

    until = time.monotonic() + seconds
    device, where = set_up()
    keras.utils.clear_session()
    side, batch = PLAN["side"], min(config.train.batch_size, PLAN["batch"])
    feed = feed_of(open_set(side), batch)
    model = network(PLAN["model"] or config.model.name, side)
    phase = config.train.all_phases[0].model_copy(update={"epochs": PLAN["epochs"]})
    train = config.train.model_copy(
        update={"phases": (phase,), "schedule": "constant", "patience": None, "batch_size": batch}
    )
    times = epoch_times(until - 0.2 * seconds)
    folder = WORK / f"state-{config.recipe}"
    fitted(model, feed, train, folder, device, [times], config.augment)
    epoch = statistics.median(times.seconds[1:])
    images = np.zeros((batch, side, side, 3), np.uint8)
    model.predict_on_batch(images)  # compiles
    limit = max(0.2, min(3.0, until - time.monotonic()))
    predict = rate_of((len(model.predict_on_batch(images)) for _ in itertools.count()), limit)
    return feed.steps * batch / epoch, predict, max(0.0, times.seconds[0] - epoch), batch, where


# --- the whole


def pipeline():
    """kit demo, from made-up images to a submission, without TensorFlow."""
    command = [sys.executable, "-m", "kit", "demo", "--out", str(WORK / "demo")]
    started = time.perf_counter()
    # Not in a checkout, whose kit has no configs in it.
    process = subprocess.run(command, cwd=WORK, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    took = time.perf_counter() - started
    print(process.stdout)
    lines = [line for line in process.stdout.splitlines() if line.strip()]
    if process.returncode:
        say("kit demo", failed=f"exit code {process.returncode}: {lines[-1] if lines else ''}")
    else:
        say("kit demo", seconds=took, last=lines[-1])


if __name__ == "__main__":
    main()
