"""Tables in text files (CSV), read by the csv module: every cell as it is written, and the line where each row begins.

Unlike pandas, it moves no column when rows are longer than the header, and makes no number of an id, no gap of "NA".
"""

import csv
import gzip
import io
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import pandas as pd

from kit.errors import DataError, counted, some

_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_SAMPLE = 2**16  # characters that the delimiter is guessed from
_MOST_BYTES = 2**32  # of an unpacked table
_OTHERS = {
    b"PAR1": "a Parquet file",
    b"\xd0\xcf\x11\xe0": "an Excel workbook",
    b"%PDF": "a PDF",
    b"\x93NUM": "an array",
}
_EXCEL = re.compile(r'"?sep=([,;|\t])"?(\r\n|\r|\n)')  # a first line that Excel writes and reads


@dataclass(frozen=True)
class Delimited:
    """A table of text: its cells as strings, and as index `line` the line in the file where each row begins.

    `blank` are the lines of rows of empty cells, which are left out, `surplus` those of rows with empty cells beyond
    the header; `remarks` say what is odd about the file.
    """

    table: pd.DataFrame
    delimiter: str
    blank: tuple[int, ...]
    surplus: tuple[int, ...]
    remarks: tuple[str, ...]


def read_delimited(path: Path, columns: Iterable[str] = (), remedy: str = "") -> Delimited:
    """A table in a text file (or in a .gz or .zip of one) with at least these columns.

    The delimiter is that of , ; tab | which fits the header best. The text is UTF-8, UTF-16 with a mark, or
    Windows-1252. Spaces around names of columns do not count, nor do surplus empty cells at the end of a row. Raises
    DataError, naming the line, for files that are no such table and for columns that are repeated, or missing (with the
    `remedy`).
    """
    columns = [*columns]
    text, remarks = _text(path)
    start = _EXCEL.match(text)
    delimiter = start[1] if start else _guess(text, columns)
    if delimiter != ",":
        remarks.append(f"columns are separated by {_DELIMITERS[delimiter]}")
    rows: list[list[str]] = []
    lines: list[int] = []
    blank: list[int] = []
    surplus: list[int] = []
    header: list[str] = []
    for line, row in _records(path, text[start.end() if start else 0 :], delimiter, 1 if start else 0):
        if not any(map(str.strip, row)):
            if row and header:
                blank.append(line)
        elif header:
            rows.append(_fit(path, line, row, header))
            lines.append(line)
            if len(row) > len(header):
                surplus.append(line)
        else:
            header = _header(row)
    if not header:
        raise DataError(f"cannot read {path} as CSV: it is empty")
    _require(path, header, columns, remedy)
    table = pd.DataFrame(rows, pd.Index(lines, dtype="int64", name="line"), header, dtype=str)
    return Delimited(table, delimiter, tuple(blank), tuple(surplus), tuple(remarks))


def _text(path: Path) -> tuple[str, list[str]]:
    """The text of a file and what is odd about its encoding."""
    try:
        data = _unpacked(path, path.read_bytes())
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        raise DataError(f"cannot read {path} as CSV: {getattr(error, 'strerror', None) or error}") from error
    kind = _OTHERS.get(data[:4])
    if kind:
        raise DataError(f"{path} is {kind}, not CSV: save the table as CSV in UTF-8")
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    remarks = []
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        try:
            text = data.decode("cp1252" if encoding == "utf-8-sig" else "utf-8")
        except UnicodeDecodeError:
            raise DataError(f"{path} is not UTF-8 text: save it as CSV in UTF-8") from error
        remarks.append("its text is not UTF-8 and is read as Windows-1252")
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DataError(f"{path}, line {line}: a NUL byte: this is no text, or is damaged; save it as CSV in UTF-8")
    return text, remarks


def _unpacked(path: Path, data: bytes) -> bytes:
    """The bytes of a table: as they are, or out of gzip or of a zip of one file."""
    if data.startswith(b"\x1f\x8b"):
        with gzip.open(io.BytesIO(data)) as stream:
            return _limited(path, stream.read(_MOST_BYTES + 1))
    if not data.startswith(b"PK\x03\x04"):
        return data
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = archive.namelist()
        if len(names) != 1:
            kind = "an Excel workbook" if "[Content_Types].xml" in names else f"a zip of {len(names)} files"
            raise DataError(f"{path} is {kind}, not CSV: save the table as CSV in UTF-8")
        with archive.open(names[0]) as member:
            return _limited(path, member.read(_MOST_BYTES + 1))


def _limited(path: Path, data: bytes) -> bytes:
    if len(data) > _MOST_BYTES:
        raise DataError(f"{path} unpacks to more than {_MOST_BYTES >> 30} GiB: it is no table of labels")
    return data


def _guess(text: str, columns: list[str]) -> str:
    """The delimiter whose header has most of `columns`, then whose rows fit the header best; the comma among equals."""
    head = text[:_SAMPLE]

    def fit(delimiter: str) -> tuple[int, float, int]:
        rows = [row for row in csv.reader(io.StringIO(head, newline=""), delimiter=delimiter) if any(row)]
        header = [name.strip() for name in rows[0]] if rows else []
        rows = rows[1:-1] or rows[1:]  # the last may be cut
        fitting = sum(len(row) == len(header) for row in rows) / max(len(rows), 1)
        return len({*columns} & {*header}), round(fitting, 1) if len(header) > 1 else 0, len(header)

    return max(_DELIMITERS, key=fit)


def _records(path: Path, text: str, delimiter: str, skipped: int) -> Iterator[tuple[int, list[str]]]:
    """The records of a text, each with the line where it begins, the first being `skipped` + 1."""
    csv.field_size_limit(2**31 - 1)  # masks written as numbers are longer than the default
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    line = skipped + 1
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:
            what = str(error)
            if what == "unexpected end of data":
                what = "a quotation mark that opens in this row is never closed"
            raise DataError(f"cannot read {path} as CSV: line {line}: {what}") from error
        if row is None:
            return
        yield line, row
        line = skipped + reader.line_num + 1


def _header(row: list[str]) -> list[str]:
    """The names of columns, without those missing at the end; others that are missing are named as pandas does."""
    names = [name.strip() for name in row]
    while not names[-1]:
        names.pop()
    return [name or f"Unnamed: {n}" for n, name in enumerate(names)]


def _fit(path: Path, line: int, row: list[str], header: list[str]) -> list[str]:
    """The row, as long as the header."""
    surplus = row[len(header) :]
    if len(row) < len(header) or any(map(str.strip, surplus)):
        more = f": {some(map(repr, surplus))} stands in no column" if surplus else ""
        raise DataError(
            f"{path}, line {line} has {counted(len(row), 'cell')}, the header {len(header)} ({', '.join(header[:4])}"
            f"{', ...' * (len(header) > 4)}){more}. Complete the row, or put a cell that holds a delimiter in quotes"
        )
    return row[: len(header)]


def _require(path: Path, header: list[str], columns: list[str], remedy: str) -> None:
    repeated = [name for name, count in Counter(header).items() if count > 1]
    if repeated:
        raise DataError(f"{path} has {header.count(repeated[0])} columns {repeated[0]!r}: rename or delete one")
    absent = sorted({*columns} - {*header})
    if absent:
        close = dict.fromkeys(name for column in absent for name in _close(column, header))
        hint = f"; did you mean {' and '.join(map(repr, close))}? It has " if close else "; it has "
        first = "" if {*columns} & {*header} else " (the names of columns are taken from the first line)"
        advice = f": {remedy}" if remedy else ""
        raise DataError(f"{path} has no column {some(map(repr, absent))}{hint}{some(header, 6)}{first}{advice}")


def _close(column: str, header: list[str]) -> list[str]:
    """The name in a header that is most like that of a column; none where all are very different."""
    same = [name for name in header if name.strip().casefold() == column.casefold()]
    return same[:1] or get_close_matches(column, header, n=1, cutoff=0.5)
