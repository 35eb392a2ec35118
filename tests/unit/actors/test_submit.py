"""What travels with a job: tracked files, named variables, and a command as it was given."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from actors import submit as module
from actors.submit import STOP_WAIT_S, SubmitError, passed_variables, submit, tracked_files


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    (folder / "configs").mkdir(parents=True)
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    (folder / "configs" / "a.yaml").write_text("steps: 1\n")
    (folder / "gone.py").write_text("")
    subprocess.run(["git", "add", "."], cwd=folder, check=True)
    (folder / "gone.py").unlink()
    (folder / "runs.bin").write_bytes(b"0" * 100)
    return folder


class FakeJobs:
    """Takes a job and notes what came with it."""

    def __init__(self, address: str) -> None:
        assert address == "http://head:8265"

    def submit_job(self, *, runtime_env: dict[str, Any], **job: Any) -> str:
        folder = Path(runtime_env["working_dir"])
        self.sent.update(job, variables=runtime_env["env_vars"])
        self.sent["files"] = {
            path.relative_to(folder).as_posix(): path.read_text()
            for path in folder.rglob("*")
            if path.is_file()
        }
        return "job-1"

    sent: dict[str, Any]


def test_tracked_files_travel_as_they_are_now(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (checkout / "configs" / "a.yaml").write_text("steps: 2\n")
    monkeypatch.setattr(FakeJobs, "sent", {}, raising=False)
    monkeypatch.setattr(module, "JobSubmissionClient", FakeJobs)
    monkeypatch.setenv("HF_HOME", "/shared/hf")
    command = ["t2g", "grpo", "configs/a.yaml", "data.train=my file.jsonl"]
    done = submit(command, address="http://head:8265", checkout=checkout)
    assert FakeJobs.sent["files"] == {"configs/a.yaml": "steps: 2\n"}
    assert FakeJobs.sent["entrypoint"] == "t2g grpo configs/a.yaml 'data.train=my file.jsonl'"
    assert FakeJobs.sent["variables"]["HF_HOME"] == "/shared/hf"
    assert FakeJobs.sent["variables"]["RAY_JOB_STOP_WAIT_TIME_S"] == str(STOP_WAIT_S)
    assert (done.job, done.num_files, done.num_bytes) == ("job-1", 1, len("steps: 2\n"))


def test_a_folder_without_git_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SubmitError, match=f"must be a git checkout, found {tmp_path}"):
        tracked_files(tmp_path)


def test_too_much_is_refused_with_the_largest_files(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_MIB", 1e-6)
    with pytest.raises(SubmitError, match=r"at most 1e-06 MiB.*the largest: configs/a\.yaml"):
        submit(["t2g", "doctor"], address="http://head:8265", checkout=checkout)


def test_secrets_of_other_programs_stay_here() -> None:
    kept = passed_variables({"HF_HOME": "/h", "T2G_TRACEBACK": "1", "AWS_SECRET": "s", "PATH": "/"})
    assert kept == {"HF_HOME": "/h", "T2G_TRACEBACK": "1"}
