"""`kit serve` under stress, and beside what a user might do instead.

    python scripts/bench/serve.py [--run RUN] [--uploads 1000] [--users 50] [--seconds 180] [--compare 300]

Without --run it trains a small network on 400 synthetic patches first. Parts: mutated files (none may end the server,
or get anything but a sentence); many users at once (memory, open files and threads of the server stay as they are; the
slowest twentieth of answers against that of one user's bare prediction times the queue); first answer, and throughput
beside the predictor's own; and a page with one `predict` a request on a development server (Werkzeug, which is
Flask's), this API, and ONNX Runtime in the script itself (needs werkzeug, onnxruntime and what `kit export` needs).
0 leaves a part out.
"""

import argparse
import http.client
import io
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import cv2
import numpy as np
import pydicom
from common import machine
from PIL import Image
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from pydicom.uid import SecondaryCaptureImageStorage as SecondaryCapture

from kit import pipeline
from kit.competitions import toy
from kit.predict.predictor import Predictor
from kit.run import Run

ROOT = Path(__file__).parents[2]
_AT_ONCE = 8  # requests of the comparison
_MANY = 32  # more than the largest batch
_ZIPPED = 100  # images


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--uploads", type=int, default=1000)
    parser.add_argument("--users", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--compare", type=int, default=300, help="requests of each way")
    arguments = parser.parse_args()
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        run = arguments.run or trained(Path(folder) / "toy")
        shape = Run(run).config.image
        print(f"{run}: {len(Run(run).trained_folds())} models, {shape.size} pixels, {shape.color}", flush=True)
        with served(run) as server:
            first_answer(server)
            if arguments.uploads:
                mutated(server, arguments.uploads)
            if arguments.seconds:
                many_users(server, arguments.users, arguments.seconds)
            throughput(server, run, max(arguments.compare, 300))
        if arguments.compare:
            compare(run, arguments.compare, Path(folder))


def trained(folder):
    toy.make(folder.parent / "data", train=400, test=20)
    settings = ["folds=2", "frozen_first=false", "train.epochs=1", "train.phases=[]", "evaluate.resamples=100"]
    settings += ["image.size=96", "model.name=pcam_cnn"]
    pipeline.run("toy", data=folder.parent / "data", run=folder, settings=settings, report=False)
    return folder


# ---- a server in a process of its own


class Server:
    """A server that a command starts, in a process of its own; a line that matches says its port."""

    def __init__(self, command, pattern):
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        line = next(line for line in self.process.stdout if re.search(pattern, line))
        self.port = int(re.search(r":(\d+)", line)[1])
        self._own = threading.local()

    def ask(self, data, path="/api/predict"):
        """Status and body of an answer; each thread keeps its connection, as browsers do."""
        if not hasattr(self._own, "connection"):
            self._own.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        connection = self._own.connection
        try:
            connection.request("POST" if data is not None else "GET", path, data)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except Exception:
            connection.close()
            raise

    @property
    def tree(self):
        """The process and its children."""
        found = subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True, check=False)
        return [self.process.pid, *map(int, found.stdout.split())]

    def use(self):
        """MiB of memory (its own share of what is shared), open files and threads, of all its processes."""
        memory = files = threads = 0
        for pid in self.tree:
            place = Path(f"/proc/{pid}")
            memory += int(re.search(r"^Pss:\s+(\d+)", (place / "smaps_rollup").read_text(), re.MULTILINE)[1])
            files += len([*(place / "fd").iterdir()])
            threads += len([*(place / "task").iterdir()])
        return memory / 1024, files, threads


@contextmanager
def served(run):
    server = Server([sys.executable, "-m", "kit", "serve", str(run), "--port", "0"], "^open ")
    try:
        yield server
    finally:
        server.process.terminate()
        server.process.wait(60)


# ---- what is sent


def picture(seed, side=96):
    """A smooth picture, as photographs are, uint8 RGB."""
    noise = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    return cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC)


def encoded(seed, kind="PNG", side=96):
    stream = io.BytesIO()
    Image.fromarray(picture(seed, side)).save(stream, kind)
    return stream.getvalue()


def dicom(seed, side=256):
    dataset = pydicom.Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID, dataset.file_meta.MediaStorageSOPInstanceUID = SecondaryCapture, "1.2.3"
    dataset.Rows = dataset.Columns = side
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 0
    dataset.WindowCenter, dataset.WindowWidth, dataset.PatientName = 2000, 4000, "PLANTED^WALDO"
    dataset.PixelData = (picture(seed, side)[..., 0].astype(np.uint16) * 16).tobytes()
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def broken(seed):
    """A file with some bytes changed, cut off or doubled, most of them near its beginning."""
    rng = np.random.default_rng(seed)
    kind = ("PNG", "JPEG", "TIFF", "DICOM")[seed % 4]
    data = bytearray(dicom(seed, 64) if kind == "DICOM" else encoded(seed, kind))
    for _ in range(rng.integers(1, 20)):
        reach = len(data) if rng.random() < 0.3 else min(len(data), 600)
        data[rng.integers(reach)] = rng.integers(256)
    if rng.random() < 0.3:
        data = data[: rng.integers(1, len(data))]
    if rng.random() < 0.1:
        place = rng.integers(len(data))
        data[place:place] = data[: rng.integers(1, 2000)]
    return bytes(data)


# ---- the parts


def first_answer(server):
    started = time.perf_counter()
    status, _ = server.ask(encoded(0))
    print(f"first answer after the page is up: {time.perf_counter() - started:.3f} s ({status})", flush=True)


def mutated(server, count):
    statuses, texts, odd = Counter(), Counter(), []
    label = quote(json.loads(server.ask(None, "/api/model")[1])["labels"][0])
    before, started = server.use(), time.perf_counter()
    for seed in range(count):
        path = ("/api/predict", "/api/picture", f"/api/map?label={label}")[seed % 3]
        status, body = server.ask(broken(seed), path)
        statuses[status] += 1
        text = body.decode()
        if status not in (200, 422) or "Traceback" in text or "WALDO" in text or "/tmp" in text:
            odd.append((seed, status, text[:200]))
        if status == 422:
            said = json.loads(text)
            texts[(said.get("error") or said["images"][0]["error"])[:70]] += 1
    alive = server.process.poll() is None and server.ask(encoded(0))[0] == 200
    print(f"\n{count} mutated uploads in {time.perf_counter() - started:.0f} s: {dict(statuses)}, answers on: {alive}")
    print(f"  odd: {odd or 'none'}; the most frequent sentences: {texts.most_common(3)}")
    print(f"  memory, files, threads: {shown(before)} before, {shown(server.use())} after", flush=True)


def many_users(server, users, seconds):
    bodies = [encoded(seed) for seed in range(20)] + [dicom(seed) for seed in range(5)]
    alone = timed_answers(server, bodies, 1, min(20.0, seconds / 4))
    watch, stop = [], threading.Event()

    def observe():
        while not stop.wait(max(1.0, seconds / 20)):
            watch.append(server.use())

    threading.Thread(target=observe, daemon=True).start()
    crowd = timed_answers(server, bodies, users, seconds)
    stop.set()
    one, all_of_them = (np.percentile([each for each, _ in times], 95) for times in (alone, crowd))
    statuses = Counter(status for _, status in crowd)
    print(f"\n{users} users for {seconds:.0f} s: {len(crowd) / seconds:.1f} answers/s, {dict(statuses)}")
    print(f"  one user: {len(alone)} answers, median {np.median([t for t, _ in alone]):.3f} s, p95 {one:.3f} s")
    print(f"  {users} users: median {np.median([t for t, _ in crowd]):.3f} s, p95 {all_of_them:.3f} s", end="")
    print(f" = {all_of_them / (one * users):.2f} x one user's p95 times the queue")
    thirds = [watch[: len(watch) // 3], watch[-(len(watch) // 3) :]]
    for name, part in zip(("first third", "last third"), thirds, strict=True):
        print(f"  memory, files, threads, {name}: {shown(np.median(part, axis=0)) if part else '-'}")
    time.sleep(2)
    print(f"  afterwards: {shown(server.use())}", flush=True)


def timed_answers(server, bodies, users, seconds):
    """(seconds, status) of all answers to so many users, each of whom asks again when answered."""
    times, end = [], time.perf_counter() + seconds

    def user(number):
        n = number
        while time.perf_counter() < end:
            started = time.perf_counter()
            status, _ = server.ask(bodies[n % len(bodies)])
            times.append((time.perf_counter() - started, status))
            n += 7

    threads = [threading.Thread(target=user, args=(n,)) for n in range(users)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return times


def rate(ask, bodies, at_once=_AT_ONCE):
    """Answers a second, so many requests at a time."""
    waiting, lock = iter(bodies), threading.Lock()

    def work():
        while True:
            with lock:
                body = next(waiting, None)
            if body is None:
                return
            ask(body)

    threads = [threading.Thread(target=work) for _ in range(at_once)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(bodies) / (time.perf_counter() - started)


def throughput(server, run, count):
    bodies = [encoded(seed) for seed in range(count)]
    predictor = Predictor.open(run)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{n}.png" for n in range(count)]
        for path, body in zip(paths, bodies, strict=True):
            path.write_bytes(body)
        predictor.predict(paths)  # compiled
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as whole:
            for path in paths[:_ZIPPED]:
                whole.write(path, path.name)
        ways = {
            f"{_AT_ONCE} requests at a time": lambda: rate(server.ask, bodies),
            f"{_MANY} requests at a time": lambda: rate(server.ask, bodies, _MANY),
            f"a zip of {_ZIPPED}": lambda: _ZIPPED * rate(server.ask, [archive.getvalue()]),
        }
        own, page = [], {name: [] for name in ways}
        for _ in range(3):  # in turn
            started = time.perf_counter()
            predictor.predict(paths)
            own.append(count / (time.perf_counter() - started))
            for name, way in ways.items():
                page[name].append(way())
    alone = statistics.median(own)
    print(f"\n{count} images: the predictor {alone:.1f} images/s")
    for name, rates in page.items():
        print(
            f"  this API, {name}: {statistics.median(rates):.1f}, {statistics.median(rates) / alone:.2f} of it",
            flush=True,
        )


PLAIN = """
import io, logging, sys
import numpy as np
from PIL import Image
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response
from kit.predict.predictor import Predictor
predictor = Predictor.open(sys.argv[1])
@Request.application
def page(request):
    image = np.asarray(Image.open(io.BytesIO(request.get_data())).convert("RGB"))
    row = predictor.predict([image]).iloc[0]
    return Response(str(row.to_dict()))
logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = make_server("127.0.0.1", 0, page, threaded=True)
print(f"up on :{server.server_port}", flush=True)
server.serve_forever()
"""


def compare(run, count, folder):
    bodies = [encoded(seed) for seed in range(count)]
    rows = []
    plain = Server([sys.executable, "-c", PLAIN, str(run)], "^up on ")
    try:
        rows.append(("one predict a request (Werkzeug)", *measured(plain, bodies, "/")))
    finally:
        plain.process.kill()
        plain.process.wait()
    with served(run) as server:
        rows.append(("kit serve", *measured(server, bodies, "/api/predict")))
    rows.append(("onnxruntime, behind nothing", *with_onnx(run, bodies, folder)))
    print(f"\n{count} requests, {_AT_ONCE} at a time")
    for name, speed, memory in rows:
        print(f"  {name:36} {speed:8.1f} requests/s   {memory:7.0f} MiB", flush=True)


def measured(server, bodies, path):
    rate(lambda body: server.ask(body, path), bodies[: 4 * _AT_ONCE])  # warm
    speed = statistics.median(rate(lambda body: server.ask(body, path), bodies) for _ in range(3))
    return speed, server.use()[0]


ONNX = """
import io, json, re, statistics, sys, threading, time
import numpy as np, onnxruntime
from PIL import Image
sys.path.insert(0, sys.argv[1])
from serve import encoded, rate
session = onnxruntime.InferenceSession(sys.argv[2])
size = session.get_inputs()[0].shape[1:]
def ask(body):
    image = Image.open(io.BytesIO(body)).convert("L" if size[2] == 1 else "RGB").resize(size[1::-1])
    session.run(None, {session.get_inputs()[0].name: np.asarray(image).reshape(1, *size)})
bodies = [encoded(seed) for seed in range(int(sys.argv[3]))]
rate(ask, bodies[:32])
speed = statistics.median(rate(ask, bodies) for _ in range(3))
pss = int(re.search(r"^Pss:\\s+(\\d+)", open("/proc/self/smaps_rollup").read(), re.M)[1]) / 1024
print(json.dumps([speed, pss]))
"""


def with_onnx(run, bodies, folder):
    out = folder / "onnx"
    command = [sys.executable, "-m", "kit", "export", str(run), "--format", "onnx", "--out", str(out)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(command, check=True, capture_output=True, env=environment)
    arguments = [str(Path(__file__).parent), str(out / "model.onnx"), str(len(bodies))]
    done = subprocess.run(
        [sys.executable, "-c", ONNX, *arguments], check=True, capture_output=True, text=True, env=environment
    )
    return json.loads(done.stdout.splitlines()[-1])


def shown(use):
    memory, files, threads = use
    return f"{memory:.0f} MiB, {files:.0f} files, {threads:.0f} threads"


if __name__ == "__main__":
    main()
