"""Files as people have them -> lines of UTF-8: packed or not, in any form of Unicode.

Invariant: a file is read as what it says it is, or refused with what it is and what to do. No
encoding is guessed, since a wrong guess changes letters without a word; it is only named.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

MAX_BYTES = 8 * 2**30
"""A packed file may hold this much; more is taken for one that was made to fill the memory."""
GUESS_BYTES = 50_000
MAX_GUESSES = 3
PACKED = {".gz": b"\x1f\x8b", ".bz2": b"BZh", ".xz": b"\xfd7zXZ\x00"}
UNREADABLE = {
    b"\x28\xb5\x2f\xfd": "packed by zstd; unpack it with zstd -d",
    b"PK\x03\x04": "a zip file; unpack it",
    b"7z\xbc\xaf\x27\x1c": "a 7z file; unpack it",
    b"\x04\x22\x4d\x18": "packed by lz4; unpack it with lz4 -d",
    b"Rar!": "a rar file; unpack it",
    b"SQLite format": "a SQLite database; export its rows as JSON",
    b"%PDF": "a PDF document; extract its text",
    b"ARROW1": "an Arrow file; give its folder, or save it as JSON or Parquet",
    b"PAR1": "Parquet; let its name end in .parquet",
}
TAR_MARK = (257, b"ustar")
UNPACKED_ENDINGS = (".zst", ".zip", ".7z", ".lz4", ".rar", ".tar", ".tgz", ".tbz2", ".txz")
"""Endings of packed files that are refused rather than left out of a folder."""
MARKS = (
    (codecs.BOM_UTF8, None),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # begins with the mark of UTF-16
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def suffix_of(path: Path) -> str:
    """The ending that says what a file holds, in lower case: `.jsonl` of Train.JSONL.gz."""
    name = path.name.lower()
    for ending in PACKED:
        name = name.removesuffix(ending)
    return Path(name).suffix


@dataclass(frozen=True)
class TextFile:
    """A file, unpacked; `data` is UTF-8 where it is what it should be."""

    path: Path
    data: bytes

    @classmethod
    def read(cls, path: Path) -> TextFile:
        """Read a file in the form of Unicode that its first bytes show.

        Raises ValueError for a file that is no text or not whole.
        """
        return cls(path, _as_utf8(unpacked(path), path))

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Number (from 1) and bytes of every line, without its end, which may be any of the three
        that systems use."""
        data = self.data
        if b"\n" not in data:
            data = data.replace(b"\r", b"\n")
        for number, line in enumerate(io.BytesIO(data), start=1):
            yield number, line.rstrip(b"\r\n")

    def text_lines(self) -> list[str]:
        """All lines without their ends; bytes that are not UTF-8 become U+DC80 to U+DCFF."""
        return [line.decode("utf-8", "surrogateescape") for _, line in self.lines()]

    def text(self) -> str:
        """The whole text. Raises ValueError where it is not UTF-8."""
        try:
            return self.data.decode()
        except UnicodeDecodeError as error:
            number = self.data.count(b"\n", 0, error.start) + 1
            raise ValueError(f"{self.path}:{number}: {self.fault(error)}") from None

    def decoded(self, number: int, line: bytes) -> str:
        """A line as text. Raises ValueError with its place."""
        try:
            return line.decode()
        except UnicodeDecodeError as error:
            raise ValueError(f"{self.path}:{number}: {self.fault(error)}") from None

    def fault_in(self, text: str) -> str | None:
        """What is wrong with a text of `text_lines` where it held bytes that are not UTF-8."""
        try:
            text.encode("utf-8", "surrogateescape").decode()
        except UnicodeDecodeError as error:
            return self.fault(error)
        return None

    def fault(self, error: UnicodeDecodeError) -> str:
        """What is wrong with bytes that are not UTF-8, and what they seem to be."""
        guess = f"; by a guess it is in {' or '.join(self._likely)}" if self._likely else ""
        return (
            "text must be UTF-8, or UTF-16 with its mark, found the byte 0x"
            f"{error.object[error.start]:02x} at position {error.start}{guess}; convert it (iconv "
            "-f ENCODING -t utf-8) and look at its letters"
        )

    @cached_property
    def _likely(self) -> list[str]:
        from charset_normalizer import from_bytes

        found = (match.encoding for match in from_bytes(self.data[:GUESS_BYTES]))
        return [name for name in found if name not in ("utf_8", "ascii")][:MAX_GUESSES]


def unpacked(path: Path) -> bytes:
    """The bytes of a file, unpacked by what it is and not by its name. Raises ValueError."""
    with path.open("rb") as file:
        head = file.read(512)
    _check_kind(path, head)
    for ending, mark in PACKED.items():
        if head.startswith(mark):
            data = _unpack(path, ending)
            _check_kind(path, data[:512])
            if data.startswith(tuple(PACKED.values())):
                raise ValueError(f"{path}: must be packed once, found it packed again; unpack it")
            return data
    return path.read_bytes()


def _unpack(path: Path, ending: str) -> bytes:
    kinds: dict[str, type[gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile]]
    kinds = {".gz": gzip.GzipFile, ".bz2": bz2.BZ2File, ".xz": lzma.LZMAFile}
    try:
        with kinds[ending](path) as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise ValueError(f"{path}: must be a whole {ending} file, found that {error}") from None
    if len(data) > MAX_BYTES:
        raise ValueError(
            f"{path}: must hold at most {MAX_BYTES} bytes when unpacked, found more; unpack and "
            "cut it"
        )
    return data


def _check_kind(path: Path, head: bytes) -> None:
    place, mark = TAR_MARK
    if head[place : place + len(mark)] == mark:
        raise ValueError(f"{path}: must be text, found a tar archive; unpack it")
    for mark, what in UNREADABLE.items():
        if head.startswith(mark):
            raise ValueError(f"{path}: must be text, found that it is {what}")


def _as_utf8(data: bytes, path: Path) -> bytes:
    mark, encoding = next(
        ((mark, name) for mark, name in MARKS if data.startswith(mark)),
        (b"", _unmarked_unicode(data[:4])),
    )
    data = data[len(mark) :]
    if encoding is None:
        return data
    try:
        return data.decode(encoding).encode()
    except (UnicodeError, ValueError) as error:
        raise ValueError(f"{path}: must be text in {encoding}, found that {error}") from None


def _unmarked_unicode(head: bytes) -> str | None:
    """UTF-16 or UTF-32 without a mark: the first character is ASCII, and its other bytes are 0."""
    zeros = tuple(byte == 0 for byte in head)
    for found, encoding in (
        ((False, True, True, True), "utf-32-le"),
        ((True, True, True, False), "utf-32-be"),
        ((False, True), "utf-16-le"),
        ((True, False), "utf-16-be"),
    ):
        if zeros[: len(found)] == found:
            return encoding
    return None
