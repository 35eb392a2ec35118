"""A run at a URL, whose process may be killed after any call that changes what is there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from t2g_ray.run.checkpoint import (
    CheckpointError,
    Share,
    begin,
    find_checkpoint,
    share_of,
    temporary_path,
)
from t2g_ray.run.folder import RunDir
from t2g_ray.run.storage.remote import Remote, StorageError
from t2g_ray.run.storage.stage import Stage


@pytest.fixture(params=["memory", "file"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    yield f"{'memory:/' if request.param == 'memory' else 'file://'}{tmp_path}/there"


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path / "stage")


def started(url: str, run: RunDir, *, resume: bool = True) -> Stage:
    """What a process has after its start."""
    stage = Stage(url, run)
    stage.open(resume=resume)
    if not run.config.exists():
        run.config.write_text("seed: 0")
        stage.push()
    return stage


def write(run: RunDir, step: int, rank: int, content: str) -> Share:
    path = temporary_path(run.checkpoint(step)) / "learner" / f"rank_{rank}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return share_of(f"learner/{rank}", temporary_path(run.checkpoint(step)), [path])


def save(stage: Stage, run: RunDir, step: int, content: str = "a") -> None:
    temporary = begin(run.checkpoint(step))
    shares = [write(run, step, rank, content) for rank in (0, 1)]
    with run.metrics.open("a") as file:
        file.write(f'{{"step": {step}}}\n')
    target = stage.begin(step)
    stage.put(target, temporary, shares[1])  # as another node does
    stage.complete(target, temporary, {"step": step, "note": content}, shares[:1], shares[1:])
    assert not temporary.exists()


def test_a_start_elsewhere_has_the_files_and_the_newest_checkpoint(
    url: str, run: RunDir, tmp_path: Path
) -> None:
    stage = started(url, run)
    save(stage, run, 5)
    save(stage, run, 10, "b")
    elsewhere = RunDir(tmp_path / "other machine")
    Stage(url, elsewhere).open(resume=True)
    found = find_checkpoint(elsewhere.checkpoints)
    assert found is not None
    assert (found.step, found.state["note"], found.rejected) == (10, "b", ())
    assert [path.name for path in elsewhere.checkpoints.iterdir()] == ["step_000010"]
    assert (found.path / "learner" / "rank_1").read_text() == "b"
    assert elsewhere.metrics.read_text() == run.metrics.read_text()
    assert elsewhere.config.read_text() == "seed: 0"
    assert elsewhere.prepare(resume=True), "it is the run to go on with"


def test_what_the_stage_held_before_is_gone(url: str, run: RunDir) -> None:
    save(started(url, run), run, 5)
    run.trace.write_text("of steps that never came to the end")
    started(url, run)
    assert not run.trace.exists()


def test_a_folder_that_is_no_stage_of_this_url_is_never_emptied(url: str, run: RunDir) -> None:
    run.path.mkdir()
    (run.path / "thesis.tex").write_text("years")
    with pytest.raises(ValueError, match=r"found thesis\.tex in"):
        Stage(url, run).open(resume=True)
    started(f"{url}/a", RunDir(run.path / "a"))
    with pytest.raises(ValueError, match="or the stage of"):
        Stage(f"{url}/b", RunDir(run.path / "a")).open(resume=True)
    assert (run.path / "thesis.tex").exists()


def test_a_url_with_a_space_is_gone_on_with_on_the_same_machine(url: str, run: RunDir) -> None:
    save(started(f"{url}/my runs/a", run), run, 5)
    stage = started(f"{url}/my runs/a", run)
    found = find_checkpoint(run.checkpoints)
    assert found is not None
    assert found.step == 5
    run.trace.write_text("not pushed")
    Stage(f"{url}/my runs/a", run).follow(stage.token, "")
    assert run.trace.exists(), "it is the stage of this start"


def test_a_new_run_takes_an_empty_place_only(url: str, run: RunDir, tmp_path: Path) -> None:
    save(started(url, run, resume=False), run, 5)
    with pytest.raises(ValueError, match="resume=auto to continue"):
        Stage(url, run).open(resume=False)
    assert run.metrics.exists(), "a refused start has changed nothing"
    Remote(f"{url}/deep").write("x", b"")
    with pytest.raises(ValueError, match=r"empty or hold a run \(config\.yaml\), found x"):
        Stage(f"{url}/deep", RunDir(tmp_path / "b")).open(resume=True)


def test_a_checkpoint_without_the_files_of_a_rank_is_not_completed(url: str, run: RunDir) -> None:
    stage = started(url, run)
    save(stage, run, 5)
    temporary = begin(run.checkpoint(10))
    shares = [write(run, 10, rank, "b") for rank in (0, 1)]
    (temporary / "learner" / "rank_1").unlink()  # on another node, where nothing uploaded it
    with pytest.raises(StorageError, match=r"rank_1 of learner/1 with no of its 1 bytes"):
        stage.complete(stage.begin(10), temporary, {}, shares[:1], shares[1:])
    started(url, run)
    found = find_checkpoint(run.checkpoints)
    assert found is not None
    assert found.step == 5


def test_an_upload_that_fails_says_what_is_kept_where_and_leaves_the_checkpoint_before(
    url: str, run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = started(url, run)
    save(stage, run, 5)

    def refused(self: Remote, name: str, local: Path) -> None:
        raise StorageError(f"the upload of {name} must succeed, found no space left")

    with monkeypatch.context() as patch, pytest.raises(StorageError) as failed:
        patch.setattr(Remote, "_put", refused)
        temporary = begin(run.checkpoint(10))
        share = write(run, 10, 1, "b")
        stage.put(stage.begin(10), temporary, share)
    (note,) = failed.value.__notes__
    assert f"learner/1 are kept in {temporary} of that node until" in note
    assert "resume=auto goes on from the newest complete checkpoint" in note
    assert (temporary / "learner" / "rank_1").read_text() == "b"
    started(url, run)
    found = find_checkpoint(run.checkpoints)
    assert found is not None
    assert found.step == 5


def test_a_damaged_checkpoint_sends_a_start_to_the_one_before_and_is_told(
    url: str, run: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = started(url, run)
    save(stage, run, 5)
    save(stage, run, 10)
    Remote(url).write("checkpoints/step_000010/learner/rank_0", b"x")
    started(url, run)
    found = find_checkpoint(run.checkpoints)
    assert found is not None
    assert found.step == 5
    assert "step_000010 is not whole: learner/rank_0 has changed" in capsys.readouterr().err
    Remote(url).write("checkpoints/step_000005/state.json", b"{}")
    with pytest.raises(CheckpointError, match=r"step_000010 .*; .*step_000005 .*must have"):
        started(url, run)


def test_a_step_taken_again_replaces_what_a_kill_left_under_the_other_name(
    url: str, run: RunDir
) -> None:
    stage, remote = started(url, run), Remote(url)
    save(stage, run, 5, "older")
    names = sorted(remote.names("checkpoints"))
    for name in names:  # as where the process was killed after it removed the one that it replaced
        remote.write(name.replace("/step_000005/", "/step_000005.again/"), remote.read(name))
    remote.remove(names)
    save(stage, run, 5, "newer")
    assert {name.split("/")[1] for name in remote.names("checkpoints")} == {"step_000005"}
    started(url, run)
    found = find_checkpoint(run.checkpoints)
    assert found is not None
    assert found.state["note"] == "newer"


def test_only_the_newest_are_kept_and_later_ones_discarded(url: str, run: RunDir) -> None:
    stage = started(url, run)
    for step in (5, 10, 15):
        save(stage, run, step)
    Remote(url).write("checkpoints/step_000012/learner/rank_0", b"of a killed process")
    stage.keep_last(2)
    assert {name.split("/")[1] for name in Remote(url).names("checkpoints")} == {
        "step_000010",
        "step_000015",
    }
    stage.discard_after(10)
    assert {name.split("/")[1] for name in Remote(url).names("checkpoints")} == {"step_000010"}


def test_another_node_has_what_the_driver_has_and_a_node_that_sees_its_folder_changes_nothing(
    url: str, run: RunDir, tmp_path: Path
) -> None:
    save(started(url, run), run, 5)
    stage = started(url, run)
    run.trace.write_text("not pushed")
    Stage(url, run).follow(stage.token, "step_000005")
    assert run.trace.exists()
    there = RunDir(tmp_path / "there on another node")
    Stage(url, there).follow(stage.token, "step_000005")
    assert there.config.exists()
    assert find_checkpoint(there.checkpoints) is not None
    without = RunDir(tmp_path / "a node without ranks")
    Stage(url, without).follow(stage.token, "")
    assert not without.checkpoints.exists()


def test_the_mark_of_a_finished_run_is_uploaded_last(
    url: str, run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = started(url, run)
    for name in ("report.json", "trace.json", "a/b", "samples.jsonl"):
        (run.path / name).parent.mkdir(exist_ok=True)
        (run.path / name).write_text("{}")
    batches = uploads(monkeypatch)
    stage.push()
    assert batches == [["a/b", "samples.jsonl", "trace.json"], ["report.json"]]
    batches.clear()
    stage.push()
    assert batches == [[]], "nothing has changed since"


def uploads(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The names of the files that are uploaded together, from here on."""
    batches: list[list[str]] = []
    real = Remote.put_all

    def watched(self: Remote, files: dict[str, Path]) -> None:
        batches.append(sorted(files))
        real(self, files)

    monkeypatch.setattr(Remote, "put_all", watched)
    return batches


def test_what_a_start_has_fetched_is_uploaded_again_only_where_it_changed(
    url: str, run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(started(url, run), run, 5)
    elsewhere = RunDir(tmp_path / "other machine")
    stage = started(url, elsewhere)
    batches = uploads(monkeypatch)
    stage.push()
    assert batches == [[]]
    elsewhere.metrics.write_text("")
    stage.push()
    assert batches[1:] == [["metrics.jsonl"]]


def test_what_was_not_uploaded_is_tried_again_with_the_next_push(
    url: str, run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = started(url, run)
    run.metrics.write_text("{}")

    def refused(self: Remote, name: str, local: Path) -> None:
        raise StorageError("no space left")

    with monkeypatch.context() as patch, pytest.raises(StorageError, match="no space left"):
        patch.setattr(Remote, "_put", refused)
        stage.push()
    stage.push()
    assert Remote(url).names()["metrics.jsonl"] == 2


class Killed(BaseException):
    """The process is gone."""


class Changes:
    """Counts what is changed at the URL, and kills the process before number `last`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.last: int | None = None
        for name in ("_put", "write", "_remove_one"):
            self._watch(monkeypatch, name)
        in_order = "t2g_ray.run.storage.remote._at_once"
        monkeypatch.setattr(in_order, lambda act, items: [act(item) for item in items])

    def kill_before(self, last: int | None) -> None:
        """Count from here on."""
        self.count, self.last = 0, last

    def _watch(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        real = getattr(Remote, name)

        def watched(remote: Remote, *arguments: object) -> object:
            if self.count == self.last:
                raise Killed
            self.count += 1
            return real(remote, *arguments)

        monkeypatch.setattr(Remote, name, watched)


@pytest.mark.parametrize("step", [5, 10], ids=["same step", "next step"])
def test_a_process_killed_at_any_moment_leaves_a_whole_checkpoint_with_its_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    changes = Changes(monkeypatch)

    def act(url: str, run: RunDir, last: int | None) -> None:
        stage = started(url, run)
        save(stage, run, 4, "older")
        save(stage, run, 5, "old")
        changes.kill_before(last)
        save(stage, run, step, "new")
        stage.keep_last(2)

    act(f"memory:/{tmp_path}/rehearsal", RunDir(tmp_path / "rehearsal"), None)
    moments = changes.count
    assert moments > 6
    for moment in range(moments):
        url = f"memory:/{tmp_path}/{moment}"
        with pytest.raises(Killed):
            act(url, RunDir(tmp_path / str(moment)), moment)
        changes.kill_before(None)
        run = RunDir(tmp_path / "another machine" / str(moment))
        stage = started(url, run)
        found = find_checkpoint(run.checkpoints)
        assert found is not None
        assert found.rejected == ()
        assert (found.step, found.state["note"]) in {(5, "old"), (step, "new")}
        assert f'"step": {found.step}}}' in run.metrics.read_text()
        save(stage, run, 20)
        stage.keep_last(1)
        names = Remote(url).names("checkpoints")
        assert {name.split("/")[1] for name in names} == {"step_000020"}
