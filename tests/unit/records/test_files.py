"""Files packed, in any Unicode, with any line ends: read as what they are, or refused as that."""

import bz2
import gzip
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2g_ray.records import files
from t2g_ray.records.files import TextFile, suffix_of

TEXT = "Zoë left.\n漢字 \U0001f600\n"
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}
MARKED = ("utf-8-sig", "utf-16", "utf-32")


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("ending", PACKERS)
@pytest.mark.parametrize("encoding", ["utf-8", *MARKED])
def test_a_file_is_read_packed_or_not_in_any_unicode(
    tmp_path: Path, ending: str, encoding: str
) -> None:
    data = PACKERS[ending](TEXT.encode(encoding))
    for name in (f"a.txt{ending}", f"A.TXT{ending.upper()}", "no_ending"):
        file = TextFile.read(write(tmp_path / name, data))
        assert file.text() == TEXT
        assert [file.decoded(*line) for line in file.lines()] == TEXT.splitlines()


# The mark of UTF-16 before a NUL is the mark of UTF-32.
@given(
    st.text(st.characters(exclude_categories=["Cs"])).filter(lambda text: text[:1] != "\0"),
    st.sampled_from(MARKED),
)
def test_a_marked_text_is_read_as_it_was_written(text: str, encoding: str) -> None:
    assert files._as_utf8(text.encode(encoding), Path("a")).decode() == text


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_unicode_without_a_mark_is_seen_by_its_first_character(
    tmp_path: Path, encoding: str
) -> None:
    assert TextFile.read(write(tmp_path / "a", TEXT.encode(encoding))).text() == TEXT


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_as_on_any_system(tmp_path: Path, end: str) -> None:
    file = TextFile.read(write(tmp_path / "a", f"a{end}{end}b\u2028c\x0bd".encode()))
    lines = [(number, line.decode()) for number, line in file.lines()]
    assert lines == [(1, "a"), (2, ""), (3, "b\u2028c\x0bd")]


def gzipped(data: bytes) -> bytes:
    """Without the time, so that all workers collect the same tests."""
    return gzip.compress(data, mtime=0)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (gzipped(TEXT.encode())[:-9], "must be a whole .gz file, found that"),
        (gzipped(TEXT.encode())[:-1] + b"x", "must be a whole .gz file"),
        (bz2.compress(TEXT.encode())[:-9], "must be a whole .bz2 file"),
        (lzma.compress(TEXT.encode())[:-9], "must be a whole .xz file"),
        (gzipped(gzipped(b"a")), "found it packed again"),
        (gzipped(b"PK\x03\x04"), "a zip file; unpack it"),
        (b"\x28\xb5\x2f\xfd\x00", "packed by zstd; unpack it with zstd -d"),
        (b"PAR1....", "Parquet"),
        (b"%PDF-1.7", "a PDF document"),
        (b"SQLite format 3\x00", "a SQLite database"),
        ("Zoë".encode("utf-16")[:-1], "must be text in utf-16-le, found that"),
        (b"\xff\xfe\x00\xd8", "must be text in utf-16-le, found that"),
    ],
)
def test_what_is_no_text_is_refused_as_what_it_is(
    tmp_path: Path, data: bytes, message: str
) -> None:
    with pytest.raises(ValueError, match=f"a.jsonl: .*{message}"):
        TextFile.read(write(tmp_path / "a.jsonl", data))


def test_archives_are_refused_as_such(tmp_path: Path) -> None:
    inside = write(tmp_path / "a.txt", TEXT.encode())
    with zipfile.ZipFile(tmp_path / "a.json", "w") as archive:
        archive.write(inside)
    with tarfile.open(tmp_path / "b.json", "w:gz") as packed:
        packed.add(inside)
    with pytest.raises(ValueError, match="a zip file"):
        TextFile.read(tmp_path / "a.json")
    with pytest.raises(ValueError, match="a tar archive"):
        TextFile.read(tmp_path / "b.json")


def test_a_file_that_fills_the_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MAX_BYTES", 1000)
    path = write(tmp_path / "a.gz", gzip.compress(b"x" * 10**6))
    with pytest.raises(ValueError, match="must hold at most 1000 bytes when unpacked"):
        TextFile.read(path)


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("latin-1", "Zoë Müller naïve café"),
        ("cp1252", "Zo\u00eb \u2014 \u201ccaf\u00e9\u201d"),
        ("cp1251", "Яша ушла"),
        ("shift_jis", "東京の人"),
        ("gb18030", "北京的人"),
        ("euc-kr", "서울 사람"),
    ],
)
def test_letters_are_never_guessed(tmp_path: Path, encoding: str, text: str) -> None:
    data = f"Ann\n{text}\n".encode(encoding)
    file = TextFile.read(write(tmp_path / "a.txt", data))
    with pytest.raises(
        ValueError, match=r"a\.txt:2: text must be UTF-8.* by a guess it is in .*iconv"
    ):
        file.text()
    with pytest.raises(ValueError, match=r"a\.txt:2: text must be UTF-8"):
        [file.decoded(*line) for line in file.lines()]


def test_the_kind_of_a_file_is_that_under_its_packing() -> None:
    assert suffix_of(Path("a/Train.JSONL.GZ")) == ".jsonl"
    assert suffix_of(Path("a.b.TXT")) == ".txt"
    assert suffix_of(Path("a.gz")) == ""
    assert suffix_of(Path("a.json.zst")) == ".zst"
