"""Two processes that look at one place, or only believe so."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest

from t2g_ray.run.storage import proof
from t2g_ray.run.storage.proof import answered, asked, unheard


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "_PATIENCE_S", 0.2)


@pytest.fixture(params=["", "file://", "memory:/"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    yield f"{request.param}{tmp_path}/run"


def left_in(place: str) -> list[str]:
    files, root = fsspec.url_to_fs(place)
    return list(files.find(root)) + list(files.glob(f"{root}/*"))


def test_who_shares_the_place_passes_and_nothing_stays_behind(place: str) -> None:
    with asked(place) as question:
        assert [answered(name, question) for name in ("a", "b")] == ["", ""]
        assert unheard(question, ["a", "b"]) == {}
    assert left_in(place) == []


def test_another_place_of_the_same_name_fails(place: str) -> None:
    with asked(place) as question:
        elsewhere = replace(question, folder=question.folder.replace("/run/", "/other/"))
        assert "does not see" in answered("a", elsewhere)


def test_an_old_copy_fails(place: str) -> None:
    with asked(place) as question:
        assert "another file" in answered("a", replace(question, content="b"))


def test_an_answer_that_does_not_arrive_is_told(place: str) -> None:
    with asked(place) as question:
        answered("a", question)
        assert unheard(question, ["a", "b"]) == {"b": "what it writes there is not seen here"}
        assert list(unheard(replace(question, content="b"), ["a"]).values()) == [
            "what it writes there is changed here"
        ]


def test_a_place_that_takes_no_writes_is_told_in_the_words_of_its_file_system(
    tmp_path: Path,
) -> None:
    with asked(str(tmp_path)) as question:
        found = answered("question/answer", question)  # below a file
    assert "cannot read and write there: " in found
    assert "NotADirectoryError" in found or "FileExistsError" in found


def test_what_a_killed_process_left_goes_with_the_next_proof(tmp_path: Path) -> None:
    with asked(str(tmp_path)) as question:
        shutil.copytree(question.folder, tmp_path / ".probe-0")
    assert list(tmp_path.iterdir()) == []
