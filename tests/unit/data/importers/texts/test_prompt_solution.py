"""Chat rows -> texts without their instruction, and with everything else."""

import json
from pathlib import Path

import pytest

from tests.unit.data.importers.parts import read, relations, write

NOTHING = {"entities": [], "relations": []}


def chat(message: str, solution: object = NOTHING) -> object:
    return {
        "prompt": [{"role": "user", "content": message}],
        "solution": json.dumps(solution),
    }


@pytest.mark.parametrize(
    ("messages", "texts"),
    [
        (["Note: Ada ran.", "Note: Bo sat."], ["Note: Ada ran.", "Note: Bo sat."]),
        (["Find it.\nText: Note: A", "Find it.\nText: Note: B"], ["Note: A", "Note: B"]),
        (["Per instructions: 1: A", "Per instructions: 1: B"], ["1: A", "1: B"]),
        (["Line one\nA", "Line one\nB"], ["Line one\nA", "Line one\nB"]),
        (["Go.\n### Input:\nAda: A", "Go.\n### Input:\nAda: B"], ["Ada: A", "Ada: B"]),
        (["He wrote the text: A", "He wrote the text: B"],
         ["He wrote the text: A", "He wrote the text: B"]),
    ],
)  # fmt: skip
def test_only_a_label_ends_an_instruction(
    messages: list[str], texts: list[str], tmp_path: Path
) -> None:
    result = read(write(tmp_path / "rows.json", [chat(message) for message in messages]))
    assert [record.text for record in result.records] == texts
    assert sum(result.changes.values()) == (len(texts) if texts == messages else 0)


def test_ends_given_by_id_join_entities_and_an_id_stands_for_one(tmp_path: Path) -> None:
    names = ["Ada", "Ada", "Orbit"]
    solution = {
        "entities": [
            {"id": i, "text": name, "type": f"T{i}"} for i, name in enumerate(names, start=5)
        ],
        "relations": [{"head": 6, "tail": 7, "type": "r"}],
    }
    path = write(tmp_path / "rows.json", [chat("Ada of Orbit", solution)])
    assert relations(read(path).records[0]) == [("Ada", "Orbit", "r")]
    assert relations(read(path, types_map={"T5": ""}).records[0]) == [("Ada", "Orbit", "r")]
    assert relations(read(path, types_map={"T6": ""}).records[0]) == []
    solution["entities"][1]["id"] = 5  # type: ignore[index]
    path = write(tmp_path / "rows.json", [chat("Ada of Orbit", solution)])
    assert read(path).reasons == {"repeated_id": 1}
