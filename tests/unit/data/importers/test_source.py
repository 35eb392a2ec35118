"""Sources as people have them: packed, in upper case, in splits, among other files."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from t2g_ray.data.importers.run import ImportResult, import_source
from t2g_ray.data.importers.source import Source


def row(text: str) -> dict[str, Any]:
    return {
        "tokens": text.split(),
        "entities": [{"type": "Peop", "start": 0, "end": 1}],
        "relations": [],
    }


def write(path: Path, *texts: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = json.dumps([row(text) for text in texts], ensure_ascii=False).encode(encoding)
    path.write_bytes(gzip.compress(data) if path.suffix.lower() == ".gz" else data)
    return path


def read(path: Path, **options: Any) -> ImportResult:
    return import_source(Source.of(str(path), **options))


def texts(result: ImportResult) -> list[str]:
    return [record.text for record in result.records]


@pytest.mark.parametrize("name", ["a.json", "A.JSON", "a.json.gz", "A.JSON.GZ"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_a_source_is_read_whatever_its_name_and_unicode(
    tmp_path: Path, name: str, encoding: str
) -> None:
    write(tmp_path / "data" / name, "Zoë left", encoding=encoding)
    for source in (tmp_path / "data" / name, tmp_path / "data"):
        assert texts(read(source)) == ["Zoë left"]


def test_lines_of_columns_are_read_packed_and_in_utf_16(tmp_path: Path) -> None:
    lines = "Zoë B-PER\nleft O\n\nAnn B-PER\nstayed O\n"
    (tmp_path / "a.TXT.gz").write_bytes(gzip.compress(lines.encode("utf-16")))
    assert texts(read(tmp_path / "a.TXT.gz")) == ["Zoë left", "Ann stayed"]
    assert texts(read(tmp_path)) == ["Zoë left", "Ann stayed"]


def test_splits_of_a_folder_are_kept_apart(tmp_path: Path) -> None:
    write(tmp_path / "train.json", "Ann left", "Bo left")
    write(tmp_path / "dev" / "part1.json", "Cy left")
    write(tmp_path / "more.json", "Di left")
    result = read(tmp_path)
    assert {r.text: r.extra.get("split") for r in result.records} == {
        "Ann left": "train",
        "Bo left": "train",
        "Cy left": "dev",
        "Di left": None,
    }
    assert result.splits == {"train": 2, "dev": 1}
    assert texts(read(tmp_path, split="dev")) == ["Cy left"]
    with pytest.raises(ValueError, match=r"must have the split 'test', found dev, train"):
        read(tmp_path, split="test")


def test_one_split_needs_no_key(tmp_path: Path) -> None:
    write(tmp_path / "train_1.json", "Ann left")
    write(tmp_path / "train_2.json", "Bo left")
    (tmp_path / "README.md").write_text("# About")
    result = read(tmp_path)
    assert [record.extra for record in result.records] == [{}, {}]
    assert result.left_out == ["README.md"]


def test_splits_of_one_file_are_chosen_by_name(tmp_path: Path) -> None:
    path = tmp_path / "all.json"
    path.write_text(json.dumps({"train": [row("Ann left")], "test": [row("Bo left")]}))
    assert texts(read(path, split="test")) == ["Bo left"]
    with pytest.raises(ValueError, match="must be one split, found train, test"):
        read(path)


@pytest.mark.parametrize("name", ["a.json", "a.txt"])
def test_a_split_of_a_file_that_has_none_is_refused(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, "Ann left")
    if name == "a.txt":
        path.write_text("Ann B-PER\nleft O\n")
    assert texts(read(path)) == ["Ann left"]
    with pytest.raises(ValueError, match="--split"):
        read(path, split="train")
    with pytest.raises(ValueError, match="--subset"):
        read(path, subset="x")


def test_files_that_are_not_read_are_named(tmp_path: Path) -> None:
    write(tmp_path / "a.json", "Ann left")
    write(tmp_path / ".ipynb_checkpoints" / "a-checkpoint.json", "Bo left")
    write(tmp_path / "__MACOSX" / "a.json", "Cy left")
    write(tmp_path / "a.json~", "Di left")
    (tmp_path / "away").symlink_to(tmp_path.parent)
    (tmp_path / "gone.json").symlink_to(tmp_path / "nothing")
    result = read(tmp_path)
    assert texts(result) == ["Ann left"]
    assert result.left_out == [
        ".ipynb_checkpoints/a-checkpoint.json",
        "__MACOSX/a.json",
        "a.json~",
        "away",
        "gone.json",
    ]


@pytest.mark.parametrize("name", ["b.json.zst", "b.ZIP", "b.tar", "b.tgz", "b.7z"])
def test_a_folder_with_packed_files_that_are_not_read_is_refused(tmp_path: Path, name: str) -> None:
    write(tmp_path / "a.json", "Ann left")
    (tmp_path / name).write_bytes(b"?")
    with pytest.raises(ValueError, match=rf"{name} must be unpacked to be read"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ('{"text": "Zo\u00eb"}'.encode("latin-1"), "text must be UTF-8.*iconv -f"),
        (b"a,b\n1,2\n", "a.json:1: must be JSON"),
        (b"\x28\xb5\x2f\xfd", "packed by zstd"),
        ('[{"text": "Zo\u00eb"}]'.encode("latin-1"), "must be a JSON array: text must be UTF-8"),
    ],
)
def test_a_file_without_a_row_is_refused_for_its_first_fault(
    tmp_path: Path, data: bytes, reason: str
) -> None:
    (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(ValueError, match=reason):
        read(tmp_path / "a.json")


def test_schema_files_are_found_in_upper_case_and_packed(tmp_path: Path) -> None:
    row = {
        "title": "a",
        "sents": [["Ann", "left", "Rome"]],
        "vertexSet": [
            [{"name": "Ann", "sent_id": 0, "pos": [0, 1], "type": "PER"}],
            [{"name": "Rome", "sent_id": 0, "pos": [2, 3], "type": "LOC"}],
        ],
        "labels": [{"h": 0, "t": 1, "r": "P1", "evidence": []}],
    }
    (tmp_path / "dev.json").write_text(json.dumps([row]))
    (tmp_path / "more_types.json").write_text("[]")
    (tmp_path / "Rel_Info.JSON.gz").write_bytes(gzip.compress(b'{"P1": "left"}'))
    result = read(tmp_path)
    assert [r.type for r in result.records[0].graph.relations] == ["left"]
    assert result.left_out == ["more_types.json"]


def test_parquet_beside_json_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.json", "Ann left")
    (tmp_path / "b.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match="must hold files of one kind"):
        read(tmp_path)


def test_what_lies_beside_a_file_and_belongs_to_it_is_an_input(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "Ann left")
    for name in ("a.ann", "rel_info.json", "b.json"):
        (tmp_path / name).write_text("")
    names = {found.name for found in Source.of(str(path)).inputs()}
    assert names == {"a.txt", "a.ann", "rel_info.json"}
    assert Source.of(str(tmp_path)).inputs() == [tmp_path]
    assert Source.of("hub:owner/set").inputs() == []
