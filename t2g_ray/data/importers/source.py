"""Where rows come from: a file, a folder, or a data set of the Hugging Face hub.

Invariant: every unit of a source is yielded, as a Row or as a Rejection that names its place, and
every file of a folder is read, refused, or named in `left_out`. Splits are never mixed: `parts`
gives them one by one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from t2g_ray.data.importers.listing import (
    DATASET_MARKS,
    JSON_SUFFIXES,
    has_rows,
    is_side_file,
    split_in,
    visible_files,
)
from t2g_ray.data.importers.row import Rejection, Row
from t2g_ray.records.files import PACKED, UNPACKED_ENDINGS, TextFile, suffix_of
from t2g_ray.records.values import JsonFault
from t2g_ray.records.values import json_rows as rows_of_file

HUB_PREFIX = "hub:"
SAMPLE_ROWS = 100
SAMPLE_CHARS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What to import. `path` is None for a data set of the hub, named by `name`.

    `only` restricts a folder to some of its files.
    """

    name: str
    path: Path | None
    split: str | None = None
    subset: str | None = None
    only: frozenset[Path] | None = None
    read: set[Path] = field(default_factory=set, compare=False)
    """The files that were asked for so far, those of all parts together."""

    @classmethod
    def of(cls, name: str, *, split: str | None = None, subset: str | None = None) -> Source:
        """A path that exists, or hub:NAME. Raises ValueError for neither.

        A name without the prefix is never looked up on the hub: it may be a path with a mistake.
        """
        is_hub = name.startswith(HUB_PREFIX)
        path = None if is_hub else Path(name)
        if path is not None and not (name and path.exists()):
            raise ValueError(
                f"the source must be a file or a folder, found nothing at {name!r}; correct it, or "
                f"write {HUB_PREFIX}{name} for a data set of the hub"
            )
        source = cls(name=name.removeprefix(HUB_PREFIX), path=path, split=split, subset=subset)
        if subset is not None and not source.is_dataset:
            raise ValueError(f"--subset must go with a data set of the hub, found {name}")
        return source

    @property
    def is_dataset(self) -> bool:
        """Whether `datasets` reads it: a hub name, Parquet, or a folder that it wrote."""
        if self.path is None:
            return True
        if not self.path.is_dir():
            return suffix_of(self.path) == ".parquet"
        is_parquet = any(suffix_of(path) == ".parquet" for path in visible_files(self.path))
        if is_parquet and (others := [p for p in visible_files(self.path) if has_rows(p)]):
            raise ValueError(
                f"{self.path} must hold files of one kind, found Parquet and {others[0]}; give "
                "one of them"
            )
        return is_parquet or any((self.path / mark).is_file() for mark in DATASET_MARKS)

    def files(self, *suffixes: str) -> list[Path]:
        """The file itself, or the files of a folder with these endings (all when none is given).

        In order of their paths, without schema files. Upper case and packed files count. Raises
        ValueError when a folder has none, or one that is packed in a way that is not read.
        """
        if self.path is None:
            raise ValueError(f"this layout must be read from files, found the hub name {self.name}")
        if self.path.is_file():
            return [self.path]
        found = [
            path
            for path in visible_files(self.path)
            if (self.only is None or path in self.only)
            and (not suffixes or suffix_of(path) in suffixes)
            and not is_side_file(path)
        ]
        for path in visible_files(self.path):
            if path.suffix.lower() in UNPACKED_ENDINGS:
                raise ValueError(
                    f"{path} must be unpacked to be read (only {', '.join(PACKED)} are read "
                    "packed); unpack it, or move it elsewhere"
                )
        if not found and self.only is None:
            raise ValueError(
                f"{self.path} must hold files{' that end in ' * bool(suffixes)}"
                f"{' or '.join(suffixes)}, found none"
            )
        if suffixes:
            self.read.update(found)
        return found

    def left_out(self) -> list[str]:
        """The files of a folder that were not read, hidden and backup files among them."""
        if self.path is None or self.path.is_file() or self.is_dataset:
            return []
        return [
            str(path.relative_to(self.path))
            for path in sorted(self.path.rglob("*"))
            if path not in self.read and (path.is_symlink() or not path.is_dir())
        ]

    def inputs(self) -> list[Path]:
        """Files and folders that must not be written to: a folder, or a file and those that are
        read with it."""
        if self.path is None:
            return []
        if self.path.is_dir():
            return [self.path]
        stem = self.path.name.split(".")[0]
        beside = (path for path in self.path.parent.iterdir() if path.is_file())
        return [
            self.path,
            *(path for path in beside if is_side_file(path) or path.name.split(".")[0] == stem),
        ]

    def parts(self) -> list[tuple[str | None, Source]]:
        """The splits of the source by name, (None, the source) where it has one or none.

        Raises ValueError when a split is wanted that is not there.
        """
        if self.path is not None and self.path.is_file() and not self.is_dataset:
            if self.split is not None and suffix_of(self.path) not in JSON_SUFFIXES:
                raise ValueError(f"--split must go with several splits, found the file {self.path}")
            return [(None, self)]
        if self.is_dataset:
            names = [self.split] if self.split is not None else dataset_splits(self)
            groups: dict[str | None, Source] = {n: replace(self, split=n) for n in names}
        else:
            assert self.path is not None
            files: dict[str | None, set[Path]] = {}
            for path in self.files():
                files.setdefault(split_in(path.relative_to(self.path)), set()).add(path)
            groups = {name: replace(self, only=frozenset(paths)) for name, paths in files.items()}
        if self.split is not None and self.split not in groups:
            known = ", ".join(sorted(name for name in groups if name)) or "none"
            raise ValueError(f"{self.name} must have the split {self.split!r}, found {known}")
        if self.split is not None:
            return [(None, groups[self.split])]
        return [(None, self)] if len(groups) < 2 else [*groups.items()]

    def rows(self) -> Iterator[Row | Rejection]:
        """JSON objects: of a data set, of JSON arrays, or line by line."""
        if self.is_dataset:
            yield from dataset_rows(self)
            return
        for path in self.files(*JSON_SUFFIXES):
            is_file = self.path is not None and self.path.is_file()
            yield from json_rows(path, split=self.split if is_file else None)

    def side_file(self, pattern: str) -> Path | None:
        """The one file beside the source whose name matches. Raises ValueError for several."""
        if self.path is None:
            return None
        folder = self.path if self.path.is_dir() else self.path.parent
        found = self.side_files(folder, pattern)
        if len(found) > 1:
            raise ValueError(
                f"{folder} must hold one schema file {pattern}, found "
                f"{[path.name for path in found]}; name one with --schema"
            )
        return found[0] if found else None

    def side_files(self, folder: Path, pattern: str) -> list[Path]:
        """The schema files of a folder whose names match, in upper case and packed ones too."""
        found = [p for p in sorted(folder.glob("*")) if p.is_file() and is_side_file(p, pattern)]
        self.read.update(found)
        return found


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
    suffixes = frozenset(suffix_of(file) for file in files)
    rows: tuple[dict[str, Any], ...] = ()
    if source.is_dataset or any(suffix in JSON_SUFFIXES for suffix in suffixes):
        parts = (replace(part, read=set()) for _, part in source.parts())
        first = islice(chain.from_iterable(part.rows() for part in parts), SAMPLE_ROWS)
        found = list(first)
        values = [row.value for row in found if isinstance(row, Row)]
        rows = tuple(value for value in values if isinstance(value, dict))
        if not rows and found and isinstance(found[0], Rejection):
            raise ValueError(f"{found[0].place}: {found[0].message}")
    text = ""
    if files and not source.is_dataset:
        data = TextFile.read(files[0]).data[: 4 * SAMPLE_CHARS]
        text = data.decode(errors="replace")[:SAMPLE_CHARS]
    return SourcePreview(suffixes=suffixes, text=text, rows=rows)


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Line number (from 1) and line, without its end. Raises ValueError for what is no text."""
    file = TextFile.read(path)
    for number, line in file.lines():
        yield number, file.decoded(number, line)


def json_rows(path: Path, *, split: str | None = None) -> Iterator[Row | Rejection]:
    """The rows of a JSON file of any form, see `records.values`."""
    for found in rows_of_file(path, split=split):
        if isinstance(found, JsonFault):
            yield Rejection(
                place=found.place, reason="not_json", message=found.message, value=found.text
            )
        else:
            yield Row(place=found.place, value=found.value)


def dataset_splits(source: Source) -> list[str]:
    """The names of its splits."""
    return list(_dataset(source))


def dataset_rows(source: Source) -> Iterator[Row]:
    """Rows of a data set that `datasets` reads, all splits in turn unless one is named.

    Raises ValueError for a split that is not there.
    """
    splits = _dataset(source)
    if source.split is not None and source.split not in splits:
        raise ValueError(
            f"{source.name} must have the split {source.split!r}, found {sorted(splits)}"
        )
    for name in [source.split] if source.split is not None else list(splits):
        for number, value in enumerate(splits[name], start=1):
            yield Row(place=f"{source.name}[{name}], record {number}", value=value)


def _dataset(source: Source) -> dict[str, Any]:
    """The splits by name, "all" where there are none."""
    import datasets

    path = source.path
    if path is not None and path.is_dir() and not any(path.rglob("*.parquet")):
        loaded = datasets.load_from_disk(str(path))
    elif path is not None and path.is_file():
        loaded = datasets.load_dataset("parquet", data_files=str(path))
    else:
        loaded = datasets.load_dataset(source.name, source.subset)
    return dict(loaded) if isinstance(loaded, dict) else {"all": loaded}
