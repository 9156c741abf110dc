"""Bytes that were sent -> answers, without the network: what is said of an image, its picture, a map."""

import io
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import cv2
import numpy as np

from kit.boxes import Boxes
from kit.data.pixels.geometry import to_source
from kit.data.table.listing import is_junk
from kit.errors import ConfigError, UnreadableImage
from kit.files import escaped
from kit.predict.predictor import Predictor
from kit.serve.answers import answer
from kit.serve.engine import Engine
from kit.serve.facts import Facts
from kit.serve.limits import Limits, in_words
from kit.serve.pool import Picture, Pool

_ZIP, _ENTRY = b"PK\x03\x04", b"PK\x01\x02"  # how a zip begins, and each line of its directory
_AT_ONCE = 32  # files of a zip: a batch of the engine is computed while the next one is read
_MAP = 256  # pixels of the longer side of a map


class Refused(Exception):
    """Why something that was sent gets no answer, as a sentence; `status` is HTTP's."""

    def __init__(self, sentence: str, status: int = 422) -> None:
        super().__init__(sentence)
        self.status = status


class Map(NamedTuple):
    """A map for a label, a PNG with transparency, and its place on the image: x, y, width, height as shares of it.

    `empty`: nothing speaks for the label.
    """

    png: bytes
    place: tuple[float, float, float, float]
    empty: bool


class Service:
    """The predictor, the processes that read files for it, and the facts of its run. Threads may call it together."""

    def __init__(self, predictor: Predictor, facts: Facts, limits: Limits, workers: int) -> None:
        self.facts, self.limits, self._engine = facts, limits, Engine(predictor)
        self._pool, self._image = Pool(predictor.image, limits, workers), predictor.image

    def warm_up(self) -> None:
        """Make the first answer as fast as all others."""
        self._engine.warm_up()
        blank = cv2.imencode(".png", np.zeros((8, 8), np.uint8))[1].tobytes()
        with ThreadPoolExecutor(self._pool.workers) as threads:
            list(threads.map(self._pool.picture, [blank] * self._pool.workers))

    def predict(self, data: bytes) -> list[dict[str, Any]]:
        """An answer for each image: `kit.serve.answers`, or `error`, a sentence; `name` of those in a zip."""
        if not data.startswith(_ZIP):
            return [self._answered(data)]
        archive = _opened(data, self.limits)

        def of(name: str) -> dict[str, Any]:
            shown = escaped(name)
            try:
                return {"name": shown, **self._answered(self._member(archive, name))}
            except Refused as refusal:
                return {"name": shown, "error": str(refusal)}

        with archive, ThreadPoolExecutor(_AT_ONCE) as threads:
            return list(threads.map(of, self._members(archive)))

    def picture(self, data: bytes, member: int | None = None) -> Picture:
        """The image for people; `member` is the place in the answers for a zip. Raises Refused."""
        try:
            return self._pool.picture(self._one(data, member))
        except UnreadableImage as error:
            raise self._refusal(error) from error

    def map(self, data: bytes, label: str, member: int | None = None) -> Map:
        """What speaks for a label. Raises Refused, also where the network has no map."""
        labels = self.facts.decision.labels
        if label not in labels:
            raise Refused("there is no such label")
        try:
            image = self._pool.prepare(self._one(data, member))
            heat = self._engine.map(image, labels.index(label), self.limits.patience)
        except UnreadableImage as error:
            raise self._refusal(error) from error
        except ConfigError as error:
            raise Refused("this network has no map of what speaks for a label") from error
        return Map(_transparent(heat), self._place(image.size), not heat.any())

    def close(self) -> None:
        """End its thread and its processes."""
        self._pool.close()
        self._engine.close()

    def _answered(self, data: bytes) -> dict[str, Any]:
        try:
            image = self._pool.prepare(data)
        except UnreadableImage as error:
            return {"error": str(self._refusal(error))}
        row = self._engine.row(image, self.limits.patience)
        width, height = image.size
        content = answer(self.facts.decision, self.facts.scores, row, image.size)
        return {"width": width, "height": height, **content}

    def _refusal(self, error: UnreadableImage) -> Refused:
        return Refused(f"This is no image that can be read here: {in_words(str(error), self.limits)}.")

    def _one(self, data: bytes, member: int | None) -> bytes:
        if member is None or not data.startswith(_ZIP):
            return data
        with _opened(data, self.limits) as archive:
            names = self._members(archive)
            if not 0 <= member < len(names):
                raise Refused("the zip has no such file")
            return self._member(archive, names[member])

    def _members(self, archive: zipfile.ZipFile) -> list[str]:
        """The files of a zip, by name; raises Refused for one that holds too much."""
        every = [info for info in archive.infolist() if not info.is_dir() and not _is_junk(info.filename)]
        most, unpacked = self.limits.files, self.limits.unpacked
        if len(every) > most:
            raise Refused(f"This zip holds {len(every)} files: up to {most} are taken at a time.", 413)
        if sum(info.file_size for info in every) > unpacked:
            raise Refused(f"This zip holds more than {unpacked >> 20} MiB.", 413)
        if not every:
            raise Refused("This zip is empty.")
        return list(dict.fromkeys(info.filename for info in every))

    def _member(self, archive: zipfile.ZipFile, name: str) -> bytes:
        try:
            info = archive.getinfo(name)
            if info.file_size > self.limits.size:
                raise Refused(f"It is larger than {self.limits.size >> 20} MiB.", 413)
            if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise Refused("It is encrypted, or compressed in a way that is not read here.")
            content = archive.read(info)
        except Refused:
            raise
        except Exception as error:  # zipfile and zlib raise nearly everything over damaged files
            raise Refused("It is damaged.") from error
        if content.startswith(_ZIP):
            raise Refused("It is a zip in a zip, which is not opened.")
        return content

    def _place(self, size: tuple[int, int]) -> tuple[float, float, float, float]:
        """Where on an image of that width and height the part is that the model sees."""
        width, height = size
        whole = Boxes(1, np.zeros(1, np.int64), np.array([[0.0, 0, 1, 1]]), np.zeros(1, np.int64), np.ones(1))
        try:
            x, y, w, h = to_source(whole, np.array([height]), np.array([width]), self._image).xywh[0]
        except ConfigError:  # a crop after super-resolution: nobody knows of what
            return 0.0, 0.0, 1.0, 1.0
        return float(x / width), float(y / height), float(w / width), float(h / height)


def _opened(data: bytes, limits: Limits) -> zipfile.ZipFile:
    """A zip, open; raises Refused for one that holds far too many files, or is none."""
    if data.count(_ENTRY) > 4 * limits.files + 100:  # before memory is taken for a list of them
        raise Refused(f"This zip holds too many files: up to {limits.files} are taken at a time.", 413)
    try:
        return zipfile.ZipFile(io.BytesIO(data))
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError) as error:
        raise Refused("This zip is damaged.") from error


def _is_junk(name: str) -> bool:
    return any(map(is_junk, PurePosixPath(name).parts))


def _transparent(heat: np.ndarray) -> bytes:
    """A map float [h, w] in 0..1 as a PNG, transparent where it is 0 (as kit.report.pictures.with_map)."""
    scale = _MAP / max(heat.shape)
    size = max(1, round(heat.shape[1] * scale)), max(1, round(heat.shape[0] * scale))
    fine = np.clip(cv2.resize(heat, size, interpolation=cv2.INTER_CUBIC), 0, 1)
    colours = cv2.applyColorMap(np.round(fine * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    alpha = np.round(255 * fine**0.7).astype(np.uint8)
    return cv2.imencode(".png", np.dstack([colours, alpha]))[1].tobytes()
