"""Results of other code, settings or machines are not taken for those of this one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.quality.made_by import check_same, made_by, sign

WANTED = {
    "code": "abc",
    "seed": 0,
    "machine": {"cores": 2},
    "versions": {"ray": "1"},
    "commit": "a",
}


def test_it_holds_code_machine_versions_and_what_is_given_as_json_gives_it_back() -> None:
    found = made_by(seed=3, changes=("a",))
    assert {"code", "commit", "machine", "versions"} <= found.keys()
    assert (found["seed"], found["changes"]) == (3, ["a"])
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize(
    "change",
    [
        {"code": "other"},
        {"seed": 1},
        {"machine": {"cores": 4}},
        {"versions": {"ray": "2"}},
        {"machine": None},
    ],
    ids=str,
)
def test_whatever_else_made_it_is_refused_by_name(tmp_path: Path, change: dict[str, Any]) -> None:
    check_same(tmp_path, WANTED, WANTED)
    with pytest.raises(ValueError, match=f"different {next(iter(change))}"):
        check_same(tmp_path, {**WANTED, **change}, WANTED)


def test_a_commit_that_left_the_code_alone_is_no_difference(tmp_path: Path) -> None:
    check_same(tmp_path, {**WANTED, "commit": "b"}, WANTED)


def test_a_folder_is_signed_once_and_refuses_others_and_what_nobody_signed(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "seed_0"
    sign(folder, WANTED)
    folder.mkdir()
    sign(folder, WANTED)
    with pytest.raises(ValueError, match="different code"):
        sign(folder, {**WANTED, "code": "other"})
    unsigned = tmp_path / "deep" / "seed_1"
    unsigned.mkdir()
    with pytest.raises(ValueError, match="different code"):
        sign(unsigned, WANTED)
