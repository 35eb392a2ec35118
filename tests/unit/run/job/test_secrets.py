"""Secrets lie in files of the nodes: what a job carries of them, and how a process reads them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from t2g_ray.run.job.secrets import VARIABLE, SecretError, carried, load, load_in_a_worker


def test_a_job_carries_names_and_paths_alone(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hf_mine")
    travelling = carried([f"HF_TOKEN={tmp_path}/token"])
    assert travelling == {VARIABLE: json.dumps({"HF_TOKEN": f"{tmp_path}/token"})}
    assert carried([]) == {}


@pytest.mark.parametrize("entry", ["HF_TOKEN=hf_mine", "HF_TOKEN", "HF_TOKEN=", "=/a", "a b=/c"])
def test_anything_but_a_name_and_an_absolute_path_is_refused_and_not_repeated(entry: str) -> None:
    with pytest.raises(SecretError, match="NAME=/absolute/path") as refusal:
        carried([entry])
    assert "hf_mine" not in str(refusal.value)


def test_a_process_reads_the_files_of_its_node(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(" hf_mine\n")
    environment = {"HF_TOKEN": "of the node", **carried([f"HF_TOKEN={tmp_path}/token"])}
    load(environment)
    assert environment["HF_TOKEN"] == "hf_mine"


def test_without_secrets_nothing_is_read() -> None:
    environment = {"A": "b"}
    load(environment)
    assert environment == {"A": "b"}


@pytest.mark.parametrize("content", [None, b"", b" \n", b"\xff\xfe"])
def test_a_file_without_a_secret_stops_the_command(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "token").write_bytes(content)
    with pytest.raises(SecretError, match=f"HF_TOKEN must stand in {tmp_path}/token"):
        load(carried([f"HF_TOKEN={tmp_path}/token"]))


def test_an_actor_does_without_a_file_that_its_node_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("hf_mine")
    entries = [f"HF_TOKEN={tmp_path}/token", f"WANDB_API_KEY={tmp_path}/none"]
    monkeypatch.setenv(VARIABLE, carried(entries)[VARIABLE])
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HF_TOKEN", "before")
    load_in_a_worker()
    assert os.environ["HF_TOKEN"] == "hf_mine"
    assert "WANDB_API_KEY" not in os.environ
