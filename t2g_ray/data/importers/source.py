"""Where rows come from: a file, a folder, or a data set of the Hugging Face hub.

Invariant: every unit of a source is yielded, as a Row or as a Rejection that names its place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from t2g_ray.data.importers.row import Rejection, Row

HUB_PREFIX = "hub:"
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
JSON_SUFFIXES = (".json", ".jsonl")
SIDE_FILES = ("*ontology.json", "*types.json", "*rel_info.json")
"""Schema files that data sets keep beside their rows."""
SAMPLE_ROWS = 100
SAMPLE_CHARS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What to import. `path` is None for a data set of the hub, named by `name`."""

    name: str
    path: Path | None
    split: str | None = None
    subset: str | None = None

    @classmethod
    def of(cls, name: str, *, split: str | None = None, subset: str | None = None) -> Source:
        """A path that exists, else a name of the hub. Raises ValueError for neither."""
        path = Path(name)
        is_hub = name.startswith(HUB_PREFIX) or (
            HUB_NAME.fullmatch(name) is not None and not path.exists() and not path.suffix
        )
        if not is_hub and not path.exists():
            raise ValueError(
                f"the source must be a file, a folder or a hub name (owner/name), found nothing at "
                f"{name!r}; correct it, or write {HUB_PREFIX}NAME for a data set of the hub"
            )
        plain = name.removeprefix(HUB_PREFIX)
        return cls(name=plain, path=None if is_hub else path, split=split, subset=subset)

    @property
    def is_dataset(self) -> bool:
        """Whether `datasets` reads it: a hub name, Parquet, or a folder that it wrote."""
        if self.path is None:
            return True
        if not self.path.is_dir():
            return self.path.suffix == ".parquet"
        marks = ("state.json", "dataset_dict.json", "**/*.parquet")
        return any(next(self.path.glob(mark), None) is not None for mark in marks)

    def files(self, *suffixes: str) -> list[Path]:
        """The file itself, or the files of a folder with these suffixes (all when none is given).

        In order of their paths, without schema files. Raises ValueError when a folder has none.
        """
        if self.path is None:
            raise ValueError(f"this layout must be read from files, found the hub name {self.name}")
        if self.path.is_file():
            return [self.path]
        found = sorted(
            path
            for path in self.path.rglob("*")
            if (not suffixes or path.suffix in suffixes)
            and path.is_file()
            and not any(path.match(pattern) for pattern in SIDE_FILES)
        )
        if not found:
            raise ValueError(
                f"{self.path} must hold files{' that end in ' * bool(suffixes)}"
                f"{' or '.join(suffixes)}, found none"
            )
        return found

    def rows(self) -> Iterator[Row | Rejection]:
        """JSON objects: of a data set, of JSON arrays, or line by line."""
        if self.is_dataset:
            yield from dataset_rows(self)
            return
        for path in self.files(*JSON_SUFFIXES):
            yield from json_rows(path)

    def side_file(self, pattern: str) -> Path | None:
        """The one file beside the source whose name matches. Raises ValueError for several."""
        if self.path is None:
            return None
        folder = self.path if self.path.is_dir() else self.path.parent
        found = sorted(folder.glob(pattern))
        if len(found) > 1:
            raise ValueError(
                f"{folder} must hold one schema file {pattern}, found "
                f"{[path.name for path in found]}; name one with --schema"
            )
        return found[0] if found else None


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcePreview:
    """The beginning of a source, to recognise its layout by. `text` is that of the first file."""

    suffixes: frozenset[str]
    text: str
    rows: tuple[dict[str, Any], ...]

    def has_keys(self, *keys: str) -> bool:
        """Whether there are rows and all of them have these keys."""
        return bool(self.rows) and all(key in row for row in self.rows for key in keys)


def preview_of(source: Source) -> SourcePreview:
    """Read the first rows and characters."""
    files = [] if source.path is None else source.files()
    suffixes = frozenset(file.suffix for file in files)
    rows: tuple[dict[str, Any], ...] = ()
    if source.is_dataset or any(path.suffix in JSON_SUFFIXES for path in files):
        first = islice(source.rows(), SAMPLE_ROWS)
        values = [row.value for row in first if isinstance(row, Row)]
        rows = tuple(value for value in values if isinstance(value, dict))
    text = ""
    if files and not source.is_dataset:
        with files[0].open(encoding="utf-8", errors="replace") as file:
            text = file.read(SAMPLE_CHARS)
    return SourcePreview(suffixes=suffixes, text=text, rows=rows)


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Line number (from 1) and line, without its end. Raises ValueError for what is not UTF-8."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield number, line.decode("utf-8-sig").rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise ValueError(f"{path}:{number}: a line must be UTF-8, found {error}") from None


def json_rows(path: Path) -> Iterator[Row | Rejection]:
    """The items of a JSON array (record numbers from 1), else the lines of JSON Lines.

    Raises ValueError when a JSON array cannot be read; a line that cannot is one rejection.
    """
    with path.open("rb") as file:
        is_array = file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")
    if is_array:
        try:
            items = json.loads(path.read_bytes().decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}: must be a JSON array in UTF-8, found {error}") from None
        for number, item in enumerate(items, start=1):
            yield Row(place=f"{path}, record {number}", value=item)
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield _json_line(line, f"{path}:{number}")


def _json_line(line: bytes, place: str) -> Row | Rejection:
    try:
        return Row(place=place, value=json.loads(line.decode("utf-8-sig")))
    except (ValueError, RecursionError) as error:
        message = f"a line must be one JSON object in UTF-8, found {error}"
        value = line.decode("utf-8", "backslashreplace").rstrip("\n")
        return Rejection(place=place, reason="not_json", message=message, value=value)


def dataset_rows(source: Source) -> Iterator[Row]:
    """Rows of a data set that `datasets` reads, all splits in turn unless one is named.

    Raises ValueError for a split that is not there.
    """
    import datasets

    path = source.path
    if path is not None and path.is_dir() and not any(path.rglob("*.parquet")):
        loaded = datasets.load_from_disk(str(path))
    elif path is not None and path.is_file():
        loaded = datasets.load_dataset("parquet", data_files=str(path))
    else:
        loaded = datasets.load_dataset(source.name, source.subset)
    splits = dict(loaded) if isinstance(loaded, dict) else {"all": loaded}
    if source.split is not None and source.split not in splits:
        raise ValueError(
            f"{source.name} must have the split {source.split!r}, found {sorted(splits)}"
        )
    for name in [source.split] if source.split is not None else list(splits):
        for number, value in enumerate(splits[name], start=1):
            yield Row(place=f"{source.name}[{name}], record {number}", value=value)
