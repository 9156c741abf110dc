"""Ask a server that is up for its page and for one answer."""

import json
import time
import urllib.request

import cv2
import numpy as np

from kit.serve.server import Server

_PATIENCE = 60.0  # seconds
_SIDE = 512  # pixels: more than a crop takes


def check(server: Server) -> str:
    """What it answered, in words; raises OSError where it does not."""
    image = np.random.default_rng(0).integers(0, 256, (_SIDE, _SIDE, 3), np.uint8)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # it is this machine
    with opener.open(server.address, timeout=_PATIENCE) as page:
        size = len(page.read())
    began = time.monotonic()
    body = cv2.imencode(".png", image)[1].tobytes()
    with opener.open(f"{server.address}api/predict", body, _PATIENCE) as answer:
        (said,) = json.load(answer)["images"]
    seconds = time.monotonic() - began
    return f"a page of {size:,} bytes; a random image is answered in {seconds:.2f} s ({said['decision']})"
