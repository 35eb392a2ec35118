"""What travels with a job: tracked files, named variables, and a command as it was given."""

from __future__ import annotations

import shutil
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


def track(checkout: Path, *names: str) -> None:
    subprocess.run(["git", "add", "-f", *names], cwd=checkout, check=True)


def refuse_to_submit(checkout: Path, monkeypatch: pytest.MonkeyPatch, match: str) -> None:
    monkeypatch.setattr(FakeJobs, "sent", {}, raising=False)
    monkeypatch.setattr(module, "JobSubmissionClient", FakeJobs)
    with pytest.raises(SubmitError, match=match):
        submit(["t2g", "doctor"], address="http://head:8265", checkout=checkout)
    assert FakeJobs.sent == {}


@pytest.mark.parametrize("kind", ["file", "relative", "chain", "folder", "git"])
def test_a_link_out_of_the_checkout_is_refused(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    outside = checkout.parent / "outside"
    outside.mkdir()
    (outside / "key").write_text("secret")
    link = checkout / "link"
    if kind == "folder":
        (checkout / "data").mkdir()
        (checkout / "data" / "key").write_text("mine")
        track(checkout, "data/key")
        shutil.rmtree(checkout / "data")
        (checkout / "data").symlink_to(outside)
    else:
        middle = checkout / "middle"
        middle.symlink_to(outside / "key")
        link.symlink_to(
            {
                "file": outside / "key",
                "relative": Path("../outside/key"),
                "chain": middle,
                "git": Path(".git/config"),
            }[kind]
        )
        track(checkout, "link")
    refuse_to_submit(checkout, monkeypatch, "must lie in the checkout, found the link")


def test_a_link_inside_travels_as_the_tracked_file_that_it_leads_to(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (checkout / "b.yaml").symlink_to("configs/a.yaml")
    track(checkout, "b.yaml")
    monkeypatch.setattr(FakeJobs, "sent", {}, raising=False)
    monkeypatch.setattr(module, "JobSubmissionClient", FakeJobs)
    submit(["t2g", "doctor"], address="http://head:8265", checkout=checkout)
    assert FakeJobs.sent["files"]["b.yaml"] == "steps: 1\n"
    (checkout / "c.bin").symlink_to("runs.bin")
    track(checkout, "c.bin")
    refuse_to_submit(checkout, monkeypatch, "only tracked files travel, found the link c.bin")


@pytest.mark.parametrize(
    "name",
    [
        ".env",
        ".env.local",
        "configs/prod.env",
        ".netrc",
        "id_rsa",
        "server.pem",
        "my.key",
        "credentials.json",
        "secrets.yaml",
        "gcp-service-account.json",
        ".ENV",
    ],
)
def test_a_tracked_file_that_is_named_as_a_secret_is_refused(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (checkout / name).write_text("HF_TOKEN=secret")
    track(checkout, name)
    refuse_to_submit(checkout, monkeypatch, "a tracked file must hold no secret, found")


def test_a_link_does_not_rename_a_secret(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (checkout / ".env").write_text("HF_TOKEN=secret")
    (checkout / "settings").symlink_to(".env")
    track(checkout, "settings")
    refuse_to_submit(checkout, monkeypatch, r"found the link settings to \.env")


@pytest.mark.parametrize(
    "name", [".env.example", "env.py", "keys.py", "tokenizer.json", "id_rsa.pub", "environment.yml"]
)
def test_files_that_only_sound_alike_travel(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (checkout / name).write_text("x")
    track(checkout, name)
    monkeypatch.setattr(FakeJobs, "sent", {}, raising=False)
    monkeypatch.setattr(module, "JobSubmissionClient", FakeJobs)
    submit(["t2g", "doctor"], address="http://head:8265", checkout=checkout)
    assert name in FakeJobs.sent["files"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HF_TOKEN", "hf_x"),
        ("HF_HUB_TOKEN", "x"),
        ("WANDB_API_KEY", "x"),
        ("WANDB_APIKEY", "x"),
        ("T2G_SECRET", "x"),
        ("T2G_DB_PASSWORD", "x"),
        ("T2G_ENDPOINT_KEY", "x"),
        ("HF_ENDPOINT", "https://me:secret@hub.example"),
        ("T2G_NOTE", "hf_" + "a" * 34),
    ],
)
def test_secrets_stay_here_and_the_command_says_so(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setattr(FakeJobs, "sent", {}, raising=False)
    monkeypatch.setattr(module, "JobSubmissionClient", FakeJobs)
    monkeypatch.setenv(name, value)
    monkeypatch.setenv("HF_TOKEN_PATH", "/shared/token")
    done = submit(["t2g", "doctor"], address="http://head:8265", checkout=checkout)
    assert name not in FakeJobs.sent["variables"]
    assert value not in str(FakeJobs.sent)
    assert name in done.withheld
    assert f"{name} stayed here: everyone who reaches the job API" in done.summary
    assert value not in done.summary
    # What names the file of a secret is none, nor is what only sounds like one.
    assert FakeJobs.sent["variables"]["HF_TOKEN_PATH"] == "/shared/token"
    kept = {"T2G_TOKENIZER": "a", "HF_HUB_OFFLINE": "1", "NCCL_SOCKET_IFNAME": "eth0"}
    assert passed_variables(kept) == kept


def test_secrets_of_other_programs_stay_here() -> None:
    kept = passed_variables({"HF_HOME": "/h", "T2G_TRACEBACK": "1", "AWS_SECRET": "s", "PATH": "/"})
    assert kept == {"HF_HOME": "/h", "T2G_TRACEBACK": "1"}
