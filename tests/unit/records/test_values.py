"""A JSON file of any form gives its rows; what cannot be read is a fault with its place."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2g_ray.records.values import JsonFault, JsonRow, json_rows, read_rows

ROWS = [{"a": 1, "b": "}{"}, {"a": [2, {"c": "ü\n"}]}, {"a": None}]
LINES = "\n".join(json.dumps(row) for row in ROWS)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "text",
    [
        LINES,
        f"\n{LINES}\n\n",
        LINES.replace("\n", "\r\n"),
        "".join(json.dumps(row) for row in ROWS),
        " ".join(json.dumps(row) for row in ROWS),
        "\n".join(json.dumps(row, indent=2) for row in ROWS),
        "".join(json.dumps(row, indent=1) for row in ROWS),
        json.dumps(ROWS),
        json.dumps(ROWS, indent=2),
        json.dumps(ROWS[:2]) + json.dumps(ROWS[2:]),
        json.dumps({"data": ROWS}),
        json.dumps({"version": "1.0", "meta": {"by": "x"}, "data": ROWS}, indent=2),
        json.dumps({"rows": ROWS}),
        json.dumps({"records": ROWS}),
        json.dumps({"train": ROWS}),
    ],
)
def test_rows_are_read_from_any_form(tmp_path: Path, text: str) -> None:
    assert [row.value for row in read_rows(write(tmp_path / "a.json", text))] == ROWS


scalars = st.none() | st.booleans() | st.integers() | st.text()
scalars |= st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5
)
objects = st.dictionaries(st.text(), values, max_size=3)


@given(
    st.lists(objects, min_size=2, max_size=4),
    st.sampled_from((None, 0, 2)),
    st.sampled_from(("", " ", "\n", "\n\n", "\r\n")),
    st.booleans(),
)
def test_whatever_is_written_one_after_the_other_is_read_back(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[dict[str, Any]],
    indent: int | None,
    between: str,
    is_ascii: bool,
) -> None:
    text = between.join(json.dumps(row, indent=indent, ensure_ascii=is_ascii) for row in rows)
    path = tmp_path_factory.mktemp("a") / "a.json"
    path.write_text(text, encoding="utf-8", errors="backslashreplace", newline="")
    assert [row.value for row in read_rows(path)] == rows


def test_a_single_object_is_a_row_unless_it_wraps_rows(tmp_path: Path) -> None:
    wrapper_like = ({"text": "a", "data": "b"}, {"text": "a", "data": []}, {"train": "a"})
    for row in (*wrapper_like, {"sents": [[1]]}):
        (found,) = read_rows(write(tmp_path / "a.json", json.dumps(row)))
        assert found.value == row
    assert list(read_rows(write(tmp_path / "a.json", '{"data": []}'))) == []
    assert list(read_rows(write(tmp_path / "a.json", " \n"))) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"data": [{"a": 1}], "more": [1]}', r"beside the rows in 'data' .* found \['more'\]"),
        ('{"data": [{"a": 1}], "more": {"b": [1]}}', "which would be lost"),
        ('{"train": [{"a": 1}], "dev": []}', "must be one split, found train, dev; choose one"),
        ('[{"a": 1}', "must be a JSON array"),
        ('[{"a": 1}] {"b": 2}', "another value follows it"),
        ('{"a": 1, "a": 2}', r"a.json:1: .*the key 'a' stands twice"),
        ('{"a": NaN}', r"a.json:1: .*NaN is not JSON"),
        ('{"a": 1}\n{"a": Infinity}', r"a.json:2: .*Infinity is not JSON"),
        ('{"a": 1}\n{"a"\n{"a": 3}', "a.json:2: must be JSON"),
        ('{"a": 1} x', "a.json:1: must be JSON"),
        ('{\n"a": 1}\n{"b": \n}', "a.json:3: must be JSON in UTF-8, found Expecting value"),
        ('{"a": ' + "[" * 100_000, "a.json:1: must be JSON"),
        ('{"a": ' + "9" * 5000 + "}", "a.json:1: must be JSON"),
        ("a,b\n1,2\n", "a.json:1: must be JSON"),
    ],
)
def test_what_is_no_row_is_named_by_its_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        list(read_rows(write(tmp_path / "a.json", text)))


def test_a_bad_line_does_not_take_others_with_it(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a": 2\n{"a": "\xe9"}\n{"a": 4} {"a": 5}\n')
    found = list(json_rows(path))
    assert [(type(item), item.place.removeprefix(f"{path}")) for item in found] == [
        (JsonRow, ":1"),
        (JsonFault, ":2"),
        (JsonFault, ":3"),
        (JsonRow, ":4"),
        (JsonRow, ":4, at 10"),
    ]


def test_one_split_of_several_is_chosen_by_name(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", json.dumps({"train": ROWS[:1], "Dev": ROWS[1:]}))
    assert [row.place for row in json_rows(path, split="Dev")] == [
        f"{path}, record 1",
        f"{path}, record 2",
    ]
    with pytest.raises(ValueError, match="must have the split 'test', found train, Dev"):
        list(json_rows(path, split="test"))
    for text in (LINES, json.dumps(ROWS), '{"a": 1}'):
        with pytest.raises(ValueError, match="must be an object of splits for --split"):
            list(json_rows(write(tmp_path / "b.json", text), split="train"))
