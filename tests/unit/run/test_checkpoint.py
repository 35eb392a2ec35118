"""Checkpoints: whole or not there, whatever happens to the process or the files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer

import pytest

from t2g_ray.run import checkpoint
from t2g_ray.run.checkpoint import (
    MANIFEST,
    MARKER,
    STATE,
    CheckpointError,
    Share,
    begin,
    discard_after,
    find_checkpoint,
    finish,
    keep_last,
    share_of,
    temporary_path,
    write_checkpoint,
)
from t2g_ray.run.folder import RunDir

FILES = {"rank_0.bin": b"weights" * 50, "rank_1/moments.bin": b"moments", "empty.txt": b""}


def fill(folder: Path) -> None:
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def write(run_dir: RunDir, *steps: int) -> None:
    for step in steps:
        write_checkpoint(run_dir.checkpoint(step), fill, {"step": step, "note": "a"})


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def remove(path: Path) -> None:
    path.unlink()


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_the_newest_checkpoint_is_found_with_its_files_and_state(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    assert find_checkpoint(run_dir.checkpoints) is None
    write(run_dir, 5, 10)
    found = find_checkpoint(run_dir.checkpoints)
    assert found is not None
    assert (found.path, found.step, found.rejected) == (run_dir.checkpoint(10), 10, ())
    assert found.state == {"step": 10, "note": "a"}
    assert {name: (found.path / name).read_bytes() for name in FILES} == FILES


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        (name, damage)
        for name in [*FILES, STATE, MANIFEST, MARKER]
        for damage in (remove, truncate, flip_a_bit)
        if FILES.get(name) != b"" or damage is remove
    ],
)
def test_any_damaged_file_sends_the_search_to_the_checkpoint_before(
    tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    run_dir = RunDir(tmp_path)
    write(run_dir, 5, 10)
    damage(run_dir.checkpoint(10) / name)
    found = find_checkpoint(run_dir.checkpoints)
    assert found is not None
    assert found.step == 5
    (reason,) = found.rejected
    assert reason.startswith("step_000010 is not whole")
    assert (MARKER if name == MANIFEST and damage is not remove else name) in reason


@pytest.mark.parametrize("num_written", range(len(FILES) + 3))
def test_a_process_killed_after_any_file_leaves_the_checkpoint_before(
    tmp_path: Path, num_written: int
) -> None:
    run_dir = RunDir(tmp_path)
    write(run_dir, 5)
    whole = tmp_path / "whole"
    write_checkpoint(whole, fill, {})
    temporary = begin(run_dir.checkpoint(10))
    for name in [*FILES, STATE, MANIFEST, MARKER][:num_written]:
        (temporary / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(whole / name, temporary / name)
    found = find_checkpoint(run_dir.checkpoints)
    assert found is not None
    assert (found.step, found.rejected) == (5, ())
    write(run_dir, 10)
    found = find_checkpoint(run_dir.checkpoints)
    assert found is not None
    assert found.step == 10
    assert names(run_dir.checkpoints) == ["step_000005", "step_000010"]


def test_nothing_but_damaged_checkpoints_stops_the_run_with_the_reasons(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    write(run_dir, 5, 10)
    remove(run_dir.checkpoint(5) / STATE)
    truncate(run_dir.checkpoint(10) / "rank_0.bin")
    with pytest.raises(CheckpointError, match=r"rank_0\.bin must have 350 bytes, found 349.*state"):
        find_checkpoint(run_dir.checkpoints)


def test_several_writers_fill_one_folder_before_it_gets_its_name(tmp_path: Path) -> None:
    folder = RunDir(tmp_path).checkpoint(3)
    assert begin(folder) == temporary_path(folder)
    shares = [share_by(rank, folder) for rank in (0, 1)]
    assert not folder.exists()
    finish(folder, {"step": 3}, shares)
    found = find_checkpoint(folder.parent)
    assert found is not None
    assert names(found.path) == sorted([MARKER, MANIFEST, STATE, "rank_0", "rank_1"])


def share_by(rank: int, folder: Path) -> Share:
    """What a rank writes."""
    path = temporary_path(folder) / f"rank_{rank}"
    path.write_text(str(rank))
    return share_of(f"learner/{rank} on node {rank}", temporary_path(folder), [path])


def test_the_manifest_is_what_the_writers_say(tmp_path: Path) -> None:
    folder = RunDir(tmp_path).checkpoint(3)
    begin(folder)
    first, second = (share_by(rank, folder) for rank in (0, 1))
    # As it was digested by its writer, before it changed on the way.
    (temporary_path(folder) / "rank_1").write_text("2")
    finish(folder, {}, [first, second])
    with pytest.raises(CheckpointError, match="rank_1 has changed since it was written"):
        find_checkpoint(folder.parent)


@pytest.mark.parametrize("damage", [remove, truncate])
def test_a_file_that_one_rank_alone_sees_seals_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], None]
) -> None:
    monkeypatch.setattr(checkpoint, "VISIBLE_S", 0.1)
    run_dir = RunDir(tmp_path)
    write(run_dir, 5)
    folder = run_dir.checkpoint(10)
    begin(folder)
    shares = [share_by(rank, folder) for rank in (0, 1)]
    damage(temporary_path(folder) / "rank_1")
    with pytest.raises(CheckpointError, match=r"rank_1 of learner/1 on node 1 .*all nodes share"):
        finish(folder, {}, shares)
    found = find_checkpoint(run_dir.checkpoints)
    assert found is not None
    assert (found.step, found.rejected) == (5, ())


def test_a_file_that_comes_late_from_another_node_is_waited_for(tmp_path: Path) -> None:
    folder = RunDir(tmp_path).checkpoint(3)
    begin(folder)
    shares = [share_by(rank, folder) for rank in (0, 1)]
    path = temporary_path(folder) / "rank_1"
    path.rename(tmp_path / "on its way")
    timer = Timer(0.5, lambda: (tmp_path / "on its way").rename(path))
    timer.start()
    finish(folder, {}, shares)
    assert find_checkpoint(folder.parent) is not None


def test_a_file_that_no_rank_wrote_seals_nothing(tmp_path: Path) -> None:
    folder = RunDir(tmp_path).checkpoint(3)
    begin(folder)
    share = share_by(0, folder)
    share_by(1, folder)
    with pytest.raises(CheckpointError, match=r"found rank_1 in .*, which no rank has written"):
        finish(folder, {}, [share])


def test_a_checkpoint_of_the_same_step_is_replaced(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    write(run_dir, 5)
    write_checkpoint(run_dir.checkpoint(5), lambda folder: None, {"note": "b"})
    found = find_checkpoint(run_dir.checkpoints)
    assert found is not None
    assert found.state == {"note": "b"}
    assert names(found.path) == sorted([MARKER, MANIFEST, STATE])


def test_only_the_newest_are_kept_and_leftovers_go(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    write(run_dir, 5, 10, 1_000_000)
    begin(run_dir.checkpoint(7))
    keep_last(run_dir.checkpoints, 2)
    assert names(run_dir.checkpoints) == ["step_000010", "step_1000000"]


def test_later_checkpoints_are_discarded_when_a_run_goes_back(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    write(run_dir, 5, 10, 15)
    discard_after(run_dir.checkpoints, 5)
    assert names(run_dir.checkpoints) == ["step_000005"]


class Killed(BaseException):
    """The process is gone: no code of it runs on."""


class Disk:
    """Counts what is renamed and removed, and kills the process before number `last`."""

    def __init__(self) -> None:
        self.count = 0
        self.last: int | None = None

    @contextmanager
    def killing_before(self, last: int | None) -> Iterator[None]:
        self.count, self.last = 0, last
        try:
            yield
        except Killed:
            pass
        finally:
            self.last = None

    def watch(self, patch: pytest.MonkeyPatch, name: str) -> None:
        real = getattr(os, name)

        def watched(*arguments: object, **keywords: object) -> object:
            if self.count == self.last:
                raise Killed
            self.count += 1
            return real(*arguments, **keywords)

        patch.setattr(os, name, watched)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    watched = Disk()
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # no power is cut here
    for name in ("rename", "replace", "unlink", "remove", "rmdir"):
        watched.watch(monkeypatch, name)
    return watched


def write_again(run_dir: RunDir, note: str) -> None:
    write_checkpoint(run_dir.checkpoint(5), lambda folder: None, {"note": note})


def all_kills(disk: Disk, act: Callable[[], None]) -> range:
    """Every moment at which `act` can be killed, its end included."""
    with disk.killing_before(None):
        act()
    assert disk.count > 2
    return range(disk.count + 1)


def test_replacing_a_checkpoint_leaves_a_whole_one_at_every_moment(
    tmp_path: Path, disk: Disk
) -> None:
    rehearsal = RunDir(tmp_path / "rehearsal")
    write_again(rehearsal, "old")
    moments = all_kills(disk, lambda: write_again(rehearsal, "new"))
    for first in moments:
        for second in moments:
            run_dir = RunDir(tmp_path / f"{first} {second}")
            write_again(run_dir, "old")
            for last, notes in ((first, ("old", "new")), (second, ("old", "new", "newer"))):
                with disk.killing_before(last):
                    write_again(run_dir, notes[-1])
                found = find_checkpoint(run_dir.checkpoints)
                assert found is not None
                assert (found.step, found.rejected) == (5, ())
                assert found.state["note"] in notes
            write_again(run_dir, "newest")
            keep_last(run_dir.checkpoints, 2)
            assert names(run_dir.checkpoints) == ["step_000005"]
            found = find_checkpoint(run_dir.checkpoints)
            assert found is not None
            assert found.state == {"note": "newest"}


def test_a_damaged_successor_does_not_take_the_place_of_a_whole_checkpoint(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    write(run_dir, 5)
    successor = run_dir.checkpoint(5).with_name("step_000005.again")
    shutil.copytree(run_dir.checkpoint(5), successor)
    truncate(successor / "rank_0.bin")
    found = find_checkpoint(run_dir.checkpoints)
    assert found is not None
    assert found.path == run_dir.checkpoint(5)
    write_again(run_dir, "new")
    assert names(run_dir.checkpoints) == ["step_000005"]


@pytest.mark.parametrize(
    "act",
    [lambda folder: keep_last(folder, 1), lambda folder: discard_after(folder, 5)],
    ids=["keep_last", "discard_after"],
)
def test_a_checkpoint_that_is_being_removed_never_counts_as_damaged(
    tmp_path: Path, disk: Disk, act: Callable[[Path], None]
) -> None:
    def start(name: str) -> RunDir:
        run_dir = RunDir(tmp_path / name)
        write(run_dir, 5, 10, 15)
        return run_dir

    rehearsal = start("rehearsal")
    for moment in all_kills(disk, lambda: act(rehearsal.checkpoints)):
        run_dir = start(str(moment))
        with disk.killing_before(moment):
            act(run_dir.checkpoints)
        found = find_checkpoint(run_dir.checkpoints)
        assert found is not None
        assert found.rejected == ()
        act(run_dir.checkpoints)  # the next process removes the rest
        assert names(run_dir.checkpoints)[-1] in ("step_000005", "step_000015")


@pytest.mark.parametrize("name", ["extra.pt", "rank_1/extra.pt", "link.pt"])
def test_a_file_that_was_added_is_damage(tmp_path: Path, name: str) -> None:
    run_dir = RunDir(tmp_path)
    write(run_dir, 5, 10)
    path = run_dir.checkpoint(10) / name
    if name == "link.pt":
        path.symlink_to(tmp_path / "nowhere")
    else:
        path.write_bytes(b"cos\nsystem\n")
    found = find_checkpoint(run_dir.checkpoints)
    assert found is not None
    assert found.rejected == (f"step_000010 is not whole: {name} was added to it",)


def test_a_marker_that_is_no_text_is_damage(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    write(run_dir, 5, 10)
    (run_dir.checkpoint(10) / MARKER).write_bytes(b"\xff\xfe")
    found = find_checkpoint(run_dir.checkpoints)
    assert found is not None
    assert found.step == 5
