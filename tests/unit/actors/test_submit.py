"""What a job is sent with: files, variables, where its secrets lie, and its command."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from actors import submit as module
from actors.jobs import STOP_WAIT_S
from actors.submit import SECRETS_HOOK, submit
from t2g_ray.run.job.secrets import load_in_a_worker
from tests.unit.run.job.parts import made_checkout, track

ADDRESS = "http://head:8265"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return made_checkout(tmp_path / "checkout")


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Stands for the job API: takes a job and notes what came with it."""
    noted: dict[str, Any] = {}

    class Jobs:
        def submit_job(self, *, runtime_env: dict[str, Any], **job: Any) -> str:
            folder = Path(runtime_env.pop("working_dir"))
            noted.update(job, runtime=runtime_env, variables=runtime_env["env_vars"])
            noted["files"] = {
                path.relative_to(folder).as_posix(): path.read_text()
                for path in folder.rglob("*")
                if path.is_file()
            }
            return "job-1"

    def connect(address: str) -> Jobs:
        assert address == ADDRESS
        return Jobs()

    monkeypatch.setattr(module, "connect", connect)
    return noted


def test_files_variables_and_the_command_travel(
    checkout: Path, sent: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", "/shared/hf")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    command = ["t2g", "grpo", "configs/a.yaml", "data.train=my file.jsonl"]
    done = submit(command, address=ADDRESS, checkout=checkout, job="mine", named=["A=1"])
    assert sent["files"] == {"configs/a.yaml": "steps: 1\n"}
    assert sent["entrypoint"] == "t2g grpo configs/a.yaml 'data.train=my file.jsonl'"
    assert sent["submission_id"] == "mine"
    assert sent["variables"]["HF_HOME"] == "/shared/hf"
    assert sent["variables"]["A"] == "1"
    assert "CUDA_VISIBLE_DEVICES" not in sent["variables"]
    assert sent["variables"]["RAY_JOB_STOP_WAIT_TIME_S"] == str(STOP_WAIT_S)
    assert "worker_process_setup_hook" not in sent["runtime"]
    assert (done.job, done.num_files, done.num_bytes) == ("job-1", 1, len("steps: 1\n"))
    # Others of this process may stand beside it.
    assert re.search(r"^CUDA_VISIBLE_DEVICES\b.* stayed here", done.summary, re.MULTILINE)


def test_a_longer_time_to_end_may_be_asked_for(checkout: Path, sent: dict[str, Any]) -> None:
    named = ["RAY_JOB_STOP_WAIT_TIME_S=1800"]
    submit(["t2g", "doctor"], address=ADDRESS, checkout=checkout, named=named)
    assert sent["variables"]["RAY_JOB_STOP_WAIT_TIME_S"] == "1800"


def test_a_job_with_secrets_carries_their_places_and_has_its_actors_read_them(
    checkout: Path, sent: dict[str, Any]
) -> None:
    secrets = ["HF_TOKEN=/home/me/.token"]
    submit(["t2g", "doctor"], address=ADDRESS, checkout=checkout, secrets=secrets)
    assert sent["variables"]["T2G_SECRETS"] == '{"HF_TOKEN": "/home/me/.token"}'
    assert sent["runtime"]["worker_process_setup_hook"] == SECRETS_HOOK
    assert f"{load_in_a_worker.__module__}.{load_in_a_worker.__name__}" == SECRETS_HOOK


def test_what_is_withheld_is_told_with_what_to_do(
    checkout: Path, sent: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef")
    done = submit(["t2g", "doctor"], address=ADDRESS, checkout=checkout)
    assert "0123456789abcdef" not in str(sent) + done.summary
    assert "WANDB_API_KEY stayed here: everyone who reaches the job API" in done.summary
    assert "--secret WANDB_API_KEY=/path/of/the/file" in done.summary


def test_nothing_is_sent_with_a_secret_in_a_file_or_the_command(
    checkout: Path, sent: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_SECRET", "0123456789abcdef")
    with pytest.raises(ValueError, match="a command must hold no secret"):
        submit(["env", "A=0123456789abcdef"], address=ADDRESS, checkout=checkout)
    (checkout / "b.yaml").write_text("key: 0123456789abcdef")
    track(checkout, "b.yaml")
    with pytest.raises(ValueError, match=r"the value of MY_SECRET in b\.yaml"):
        submit(["t2g", "doctor"], address=ADDRESS, checkout=checkout)
    assert sent == {}
