"""The JSON API on a server that is up: the predictor's own values, limits, and nothing that tells on anybody."""

import copy
import io
import json
import socket
import tempfile
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kit.predict.predictor import Predictor
from kit.serve.limits import Limits
from kit.serve.server import Options, Server
from tests.data.pixels.test_dicom import dicom_of
from tests.serve.conftest import ask, serving

pytestmark = pytest.mark.once
PLANTED = "PLANTED^WALDO"


def png(seed, side=40):
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def dicom(seed=0):
    pixels = np.random.default_rng(seed).integers(0, 4000, (64, 64)).astype(np.uint16)
    who = {"PatientName": PLANTED, "PatientID": PLANTED, "InstitutionName": PLANTED, "PatientComments": PLANTED}
    return dicom_of(pixels, WindowCenter=2000, WindowWidth=4000, **who)


def zipped(files, method=zipfile.ZIP_DEFLATED):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


@pytest.fixture(scope="module")
def files():
    return [*(png(seed) for seed in range(5)), dicom()]


@pytest.fixture(scope="module")
def expected(run, files, tmp_path_factory):
    """What `kit predict` says of these files: probability and decision."""
    folder = tmp_path_factory.mktemp("files")
    paths = [folder / str(n) for n in range(len(files))]
    for path, data in zip(paths, files, strict=True):
        path.write_bytes(data)
    table = Predictor.open(run.directory).predict(paths)
    return list(zip(table["p_tumour"], table["decision"], strict=True))


def told(image):
    return image["labels"][0]["probability"], image["decision"]


def test_it_says_what_kit_predict_says(served, files, expected):
    for data, (p, decision) in zip(files, expected, strict=True):
        answer = ask(f"{served.address}api/predict", data)
        (image,) = answer.content["images"]
        assert answer.status == 200 and told(image) == (pytest.approx(p, abs=1e-5), decision)
        assert image["labels"][0]["cut"] is not None and (image["width"], image["height"]) in ((40, 40), (64, 64))


def test_everyone_gets_their_own_answer(served, files, expected):
    order = np.random.default_rng(0).integers(0, len(files), 60)
    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(lambda n: ask(f"{served.address}api/predict", files[n]), order))
    for n, answer in zip(order, answers, strict=True):
        assert told(answer.content["images"][0])[0] == pytest.approx(expected[n][0], abs=1e-5)


def test_a_zip_is_answered_file_by_file(served, files, expected):
    bad = {"/etc/passwd": b"root", "__MACOSX/._0.png": b"junk", "inner.zip": zipped({"a": b"b"})}
    data = zipped({**{f"f/{n}.png": data for n, data in enumerate(files)}, **bad})
    answer = ask(f"{served.address}api/predict", data)
    images = answer.content["images"]
    assert [image["name"] for image in images] == [*(f"f/{n}.png" for n in range(6)), "/etc/passwd", "inner.zip"]
    assert [told(image)[0] for image in images[:6]] == pytest.approx([p for p, _ in expected], abs=1e-5)
    assert "zip in a zip" in images[7]["error"] and "no image that can be read" in images[6]["error"]
    picture = ask(f"{served.address}api/picture?member=5", data).content
    assert (picture["width"], picture["window"]["low"]) == (64, 0)
    assert "no such file" in ask(f"{served.address}api/picture?member=99", data).content["error"]


def test_a_picture_and_a_map(served, files):
    picture = ask(f"{served.address}api/picture", files[5]).content
    assert picture["image"].startswith("data:image/png;base64,") and picture["window"]["high"] == 4000
    found = ask(f"{served.address}api/map?label=tumour", files[5]).content
    assert (
        found["place"] == [0, 0, 1, 1]
        and found["empty"] in (True, False)
        and found["image"].startswith("data:image/png;base64,")
    )
    assert ask(f"{served.address}api/map?label=nothing", files[5]).status == 422


def test_examples_are_test_images_and_can_be_asked(served):
    model = ask(f"{served.address}api/model").content
    assert len(model["examples"]) == 6 and model["examples_are"].startswith("Test images")
    data = ask(f"{served.address}{model['examples'][5]}").content
    assert ask(f"{served.address}api/predict", data).status == 200
    assert ask(f"{served.address}api/examples/6").status == 404
    assert "Not for clinical use" in ask(served.address).content.decode()
    assert "<h2>Limits</h2>" in model["card"] and "must not be used" in model["card"]


@pytest.mark.parametrize(
    ("data", "status", "text"),
    [
        (b"\0garbage", 422, "no image that can be read here"),
        (b"PK\x03\x04garbage", 422, "This zip is damaged"),
        (zipped({}) + b"", 422, "no image that can be read here"),
        (zipped({f"{n}.png": b"" for n in range(201)}), 413, "This zip holds 201 files"),
        (zipped({"zeros": bytes(600 * 2**20)}), 413, "This zip holds more than 500 MiB"),
        (b"\x80\x04\x95cbuiltins\nexit\n", 422, "no image that can be read here"),
    ],
)
def test_a_bad_file_gets_a_sentence(served, data, status, text):
    answer = ask(f"{served.address}api/predict", data)
    sentence = answer.content.get("error") or answer.content["images"][0]["error"]
    assert (answer.status, text in sentence) == (status, True) and len(sentence) < 200
    assert "Traceback" not in sentence and "/" not in sentence


def test_nothing_or_too_much(served):
    assert ask(f"{served.address}api/predict", b"").status in (405, 422)
    with socket.create_connection(("127.0.0.1", served.port)) as connection:
        connection.sendall(b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999999\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Origin": "http://evil.example"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
    ],
)
def test_pages_elsewhere_may_not_ask(served, headers):
    answer = ask(f"{served.address}api/predict", png(0), headers)
    assert answer.status == 403 and answer.headers["content-security-policy"].startswith("default-src 'none'")


def test_a_link_from_elsewhere_opens_the_page(served):
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    answer = ask(served.address, headers=headers)
    assert answer.status == 200 and "frame-ancestors 'self'" in answer.headers["content-security-policy"]
    assert not [name for name in answer.headers if name.lower() in ("server", "access-control-allow-origin")]


def test_a_planted_name_is_found_nowhere(run, capfd, caplog, tmp_path, monkeypatch):
    """Not in answers, not in what is printed or logged, and nothing that was sent becomes a file."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    data, broken = dicom(), dicom()[:-4000]
    with serving(run.directory) as up:
        requests = [(what, body) for what in ("predict", "picture", "map?label=tumour") for body in (data, broken)]
        requests.append(("predict", zipped({"a.dcm": data, "b.dcm": broken})))
        answers = [ask(f"{up.address}api/{what}", body).content for what, body in requests]
        left = [str(path) for path in tmp_path.rglob("*")]
    printed = capfd.readouterr()
    for text in (json.dumps(answers), printed.out, printed.err, caplog.text):
        assert "WALDO" not in text
    assert left == []


@pytest.fixture
def fake(served):
    """A function: what stands in for the service's `predict`, and limits -> the address of a server of it."""
    servers = []

    def make(predict, **limits):
        service = copy.copy(served._service)
        service.limits, service.predict, service.close = Limits(**limits), predict, lambda: None
        servers.append(Server(service, socket.create_server(("127.0.0.1", 0)), Options()))
        return servers[-1].address

    yield make
    for server in servers:
        server.stop()


def test_a_server_that_is_busy_says_so_and_forgets_nothing(fake):
    address = fake(lambda data: [{"decision": "yes"}], held=5000, size=10_000)
    assert ask(f"{address}api/predict", bytes(20_000)).status == 413
    assert ask(f"{address}api/predict", bytes(9000)).status == 503
    for _ in range(3):
        assert ask(f"{address}api/predict", bytes(4000)).status == 200  # what was held is free again


def test_what_takes_too_long_is_told(fake):
    address = fake(lambda data: time.sleep(2), patience=0.2)
    answer = ask(f"{address}api/predict", b"0")
    assert (answer.status, answer.content["error"].startswith("It took too long")) == (503, True)


def test_an_error_that_should_not_happen_tells_nothing(fake, capfd):
    def fail(data):
        raise ValueError(PLANTED)

    answer = ask(f"{fake(fail)}api/predict", b"0")
    printed = capfd.readouterr()
    assert answer.status == 500 and PLANTED not in str(answer.content) + printed.out + printed.err


def test_visitors_who_leave_cost_nothing(served, files, expected):
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", served.port)) as connection:
            connection.sendall(b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50000\r\n\r\nabc")
    answer = ask(f"{served.address}api/predict", files[0])
    assert told(answer.content["images"][0])[0] == pytest.approx(expected[0][0], abs=1e-5)


def test_threads_and_files_stay_as_many(served, files):
    def count():
        return threading.active_count(), len([*Path("/proc/self/fd").iterdir()])

    def round_of_requests():
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda n: ask(f"{served.address}api/predict", files[n % 6]), range(40)))

    if not Path("/proc/self/fd").exists():
        pytest.skip("no /proc here")
    round_of_requests()
    before = count()
    for _ in range(3):
        round_of_requests()
    assert np.all(np.subtract(count(), before) <= 8)
