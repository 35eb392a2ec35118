"""Files for `t2g score` in every form that JSON has, whole or with a fault.

The figures are those of counts that are made here, or the fault is refused with its file.
"""

from __future__ import annotations

import gzip
import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any
from unicodedata import normalize

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t2g_ray.evaluation.files import score_files

TYPES, KINDS = ["person", '{odd} "type"'], ["works for", "in,\n"]
NAMES = ["Ann", "ann", " Ann", "Zo\u00eb", "Zoe\u0308", "}{", '\\"', "\u6771", "\U0001f600"]
names = st.sampled_from([*NAMES, "\u2028"])
entities = st.lists(st.tuples(names, st.sampled_from(TYPES)), max_size=3)
relations = st.lists(st.tuples(names, names, st.sampled_from(KINDS)), max_size=3)
graphs = st.tuples(entities, relations)
AROUND = ["", " ", "\n", "Here: ", "```json\n", "<think>so {it} is</think>", "\ufeff", "\x00"]
BEHIND = ["", "\n```", " }"]
NOTHING = ["", "sorry", "{", '{"entities": [', "[]", "{}", "\ud800"]
BROKEN: dict[str, dict[str, Any]] = {
    "cut": {},
    "twice": {},
    "id": {},
    "key": {"more": 1},
    "nan": {"relations": float("nan")},
    "string": {"entities": "a"},
}
answers = st.one_of(
    st.tuples(st.just("graph"), graphs, st.sampled_from(AROUND), st.sampled_from(BEHIND)),
    st.tuples(st.just("none"), st.sampled_from(NOTHING)),
    st.tuples(st.just("broken"), graphs, st.sampled_from(sorted(BROKEN))),
)
FORMS = ("lines", "blank lines", "array", "pretty", "joined", "data")
FAULTS = {
    "missing key": '{"answer": "x"}',
    "null": '{"completion": null}',
    "number": '{"completion": 5}',
    "list": '{"completion": ["x"]}',
    "key twice": '{"completion": "x", "completion": "y"}',
    "nan": '{"completion": "x", "score": NaN}',
    "text": '"x"',
    "array": '["x"]',
    "cut": '{"completion": "x"',
    "no quotes": "{completion: x}",
    "control": '{"completion": "a\tb"}',
    "wrong place": '{"completion": "x", "index": 99}',
}
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-be")
cases = st.fixed_dictionaries(
    {
        "pairs": st.lists(st.tuples(graphs, answers), min_size=1, max_size=4),
        "forms": st.tuples(st.sampled_from(FORMS), st.sampled_from(FORMS)),
        "encodings": st.tuples(st.sampled_from(ENCODINGS), st.sampled_from(ENCODINGS)),
        "newline": st.sampled_from(["\n", "\r\n"]),
        "is_packed": st.booleans(),
        "is_ascii": st.booleans(),
        "fault": st.none() | st.tuples(st.sampled_from(sorted(FAULTS)), st.integers(0, 9)),
        "length": st.sampled_from([0, 0, 0, 0, 1, -1]),
        "at": st.none() | st.integers(0, 9),
    }
)


def graph_dict(graph: tuple[list[Any], list[Any]]) -> dict[str, Any]:
    return {
        "entities": [{"id": i, "text": t, "type": k} for i, (t, k) in enumerate(graph[0])],
        "relations": [{"head": h, "tail": t, "type": k} for h, t, k in graph[1]],
    }


def completion(answer: tuple[Any, ...]) -> str:
    if answer[0] == "none":
        return str(answer[1])
    value = graph_dict(answer[1])
    text = json.dumps(value, ensure_ascii=False)
    if answer[0] == "graph":
        return f"{answer[2]}{text}{answer[3]}"
    if answer[2] == "cut":
        return text[:-1]
    if answer[2] == "twice":
        return text[:-1] + ', "entities": []}'
    value["entities"].append({"id": True, "text": "a", "type": "b"})
    return json.dumps(value | BROKEN[answer[2]])


def form(item: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(normalize("NFC", text).strip() for text in item)


def counts(case: dict[str, Any]) -> list[tuple[int, int, int]]:
    """(tp, fp, fn) of entities and of relations, from multisets of composed texts."""
    totals = []
    for part in (0, 1):
        tp = found = gold = 0
        for wanted, answer in case["pairs"]:
            graph = answer[1] if answer[0] == "graph" else ([], [])
            left, right = Counter(map(form, wanted[part])), Counter(map(form, graph[part]))
            tp += sum((left & right).values())
            found, gold = found + sum(right.values()), gold + sum(left.values())
        totals.append((tp, found - tp, gold - tp))
    return totals


def written(items: list[str], form: str, newline: str) -> str:
    """Texts of JSON objects in one file, which says the same in each form."""
    if form == "pretty":
        items = [_pretty(item) for item in items]
    joined = {
        "lines": "\n".join(items) + "\n",
        "blank lines": "\n\n" + "\n \n".join(items),
        "array": f"[{', '.join(items)}]",
        "pretty": "\n".join(items),
        "joined": "".join(items),
        "data": f'{{"by": "x", "data": [{", ".join(items)}]}}',
    }[form]
    return joined.replace("\n", newline)


def _pretty(item: str) -> str:
    try:
        pairs: Any = json.loads(item, object_pairs_hook=lambda pairs: pairs)
        value = json.loads(item)
    except ValueError:
        return item
    is_plain = isinstance(value, dict) and len(pairs) == len(value)
    return json.dumps(value, indent=2) if is_plain else item


def check(case: dict[str, Any]) -> None:
    gold = [
        {"text": "Ann.", "entity_types": TYPES, "relation_types": KINDS, "graph": graph_dict(graph)}
        for graph, _ in case["pairs"]
    ]
    lines = [{"completion": completion(answer)} for _, answer in case["pairs"]]
    for number, line in enumerate(lines):
        if case["at"] == number:
            line |= {"index": number}
    is_ascii = case["is_ascii"] or any("\ud800" in line["completion"] for line in lines)
    texts = [json.dumps(line, ensure_ascii=is_ascii) for line in lines]
    if case["length"] > 0:
        texts.append('{"completion": ""}')
    elif case["length"] < 0:
        texts.pop()
    if case["fault"] is not None and texts:
        kind, place = case["fault"]
        texts[place % len(texts)] = FAULTS[kind]
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / "gold.json", Path(folder) / "answers.json"]
        for path, items, form, encoding in zip(
            paths,
            ([json.dumps(row, ensure_ascii=is_ascii) for row in gold], texts),
            case["forms"],
            case["encodings"],
            strict=True,
        ):
            data = written(items, form, case["newline"]).encode(encoding)
            path.write_bytes(gzip.compress(data) if case["is_packed"] else data)
        is_right = case["length"] == 0 and case["fault"] is None
        try:
            figures = score_files(*paths, preset="default", per_record=None)
        except ValueError as error:
            assert not is_right, str(error)
            message = str(error)
            assert "answers.json" in message
            assert len(message) < 1000
            return
    assert is_right, (case, figures)
    assert figures["records"] == len(gold)
    for name, (tp, fp, fn) in zip(("entities", "relations"), counts(case), strict=True):
        expected = 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else 1.0
        assert figures[f"f1/{name}"] == pytest.approx(expected)
        precision = tp / (tp + fp) if tp + fp else float(not fn)
        recall = tp / (tp + fn) if tp + fn else float(not fp)
        assert figures[f"precision/{name}"] == pytest.approx(precision)
        assert figures[f"recall/{name}"] == pytest.approx(recall)
    num_valid = sum(answer[0] == "graph" for _, answer in case["pairs"])
    assert figures["json_valid_rate"] == pytest.approx(num_valid / len(gold))


@given(cases)
@settings(max_examples=150)
def test_figures_are_those_of_the_files_or_the_fault_is_named(case: dict[str, Any]) -> None:
    check(case)


@pytest.mark.long
@pytest.mark.timeout(3600)
@given(cases)
@settings(max_examples=20_000)
def test_20_000_pairs_of_files_are_scored_rightly_or_refused(case: dict[str, Any]) -> None:
    check(case)
