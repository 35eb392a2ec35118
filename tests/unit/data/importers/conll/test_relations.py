"""Indices of a CoNLL04 sentence -> the tokens that have them, wherever they start."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.unit.data.importers.parts import entities, read, relations, write

WORDS = ["Ada", "met", "Bo", "and", "Cy"]


def sentence(indices: Sequence[int], tail: int) -> str:
    """Ada, Bo and Cy are entities; Ada has a relation to the token of index `tail`."""
    lines = ["#doc 1"]
    for index, word in zip(indices, WORDS, strict=True):
        tag = "B-P" if word[0].isupper() else "O"
        relation = f"['met']\t[{tail}]" if word == "Ada" else f"['N']\t[{index}]"
        lines.append(f"{index}\t{word}\t{tag}\t{relation}")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("indices", [range(5), range(1, 6), range(40, 45), [0, 2, 3, 7, 9]])
@pytest.mark.parametrize(("position", "name"), [(2, "Bo"), (4, "Cy")])
def test_a_tail_is_the_token_that_has_its_index(
    indices: Sequence[int], position: int, name: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.txt", sentence(indices, indices[position]))
    (record,) = read(path).records
    assert entities(record) == [("Ada", "P"), ("Bo", "P"), ("Cy", "P")]
    assert relations(record) == [("Ada", name, "met")]


@pytest.mark.parametrize(
    ("indices", "tail", "reason"),
    [
        ([0, 1, 2, 0, 1], 2, "repeated_index"),
        ([1, 1, 2, 3, 4], 2, "repeated_index"),
        ([1, 2, 3, 4, 5], 2, "unknown_relation_end"),
        ([1, 2, 3, 4, 5], 0, "unknown_relation_end"),
        ([1, 2, 3, 4, 5], 6, "unknown_relation_end"),
    ],
)
def test_an_index_that_names_no_token_rejects_its_sentence(
    indices: Sequence[int], tail: int, reason: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.txt", sentence(indices, tail))
    assert read(path).reasons == {reason: 1}


def test_tails_that_count_otherwise_than_the_indices_are_refused(tmp_path: Path) -> None:
    lines = ["#doc 1", "1\tAda\tB-P\t['met']\t[2]", "2\tmet\tO\t['N']\t[1]",
             "3\tBo\tB-P\t['N']\t[2]"]  # fmt: skip
    result = read(write(tmp_path / "a.txt", "\n".join(lines)))
    assert result.reasons == {"wrong_columns": 1}
    assert "'N' has tails from 1 and indices from 2" in result.rejections[0].message
