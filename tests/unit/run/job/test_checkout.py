"""Which files of a checkout travel, and which stop it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from t2g_ray.run.job import checkout as module
from t2g_ray.run.job.checkout import (
    CheckoutError,
    check_files,
    check_size,
    copy_files,
    tracked_files,
)
from tests.unit.run.job.parts import made_checkout, track


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return made_checkout(tmp_path / "checkout")


def check(checkout: Path, **secrets: str) -> list[str]:
    files = tracked_files(checkout)
    check_files(checkout, files, secrets)
    return files


def test_tracked_files_travel_as_they_are_now(checkout: Path, tmp_path: Path) -> None:
    (checkout / "configs" / "a.yaml").write_text("steps: 2\n")
    files = check(checkout)
    copy_files(checkout, files, tmp_path / "sent")
    sent = [path for path in (tmp_path / "sent").rglob("*") if path.is_file()]
    assert [path.relative_to(tmp_path).as_posix() for path in sent] == ["sent/configs/a.yaml"]
    assert sent[0].read_text() == "steps: 2\n"


def test_a_tracked_file_that_gitignore_names_travels(checkout: Path, tmp_path: Path) -> None:
    (checkout / ".gitignore").write_text("*.bin\n")
    track(checkout, ".gitignore", "runs.bin")
    copy_files(checkout, check(checkout), tmp_path / "sent")
    assert (tmp_path / "sent" / "runs.bin").is_file()
    assert not (tmp_path / "sent" / ".gitignore").exists()


def test_a_folder_without_git_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckoutError, match=f"must be a git checkout, found {tmp_path}"):
        tracked_files(tmp_path)


def test_too_much_is_refused_with_the_largest_files(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert check_size(checkout, ["configs/a.yaml"]) == len("steps: 1\n")
    monkeypatch.setattr(module, "MAX_MIB", 1e-6)
    with pytest.raises(CheckoutError, match=r"at most 1e-06 MiB.*the largest: configs/a\.yaml"):
        check_size(checkout, ["configs/a.yaml"])


@pytest.mark.parametrize("kind", ["file", "relative", "chain", "folder", "git"])
def test_a_link_out_of_the_checkout_is_refused(checkout: Path, kind: str) -> None:
    outside = checkout.parent / "outside"
    outside.mkdir()
    (outside / "key").write_text("secret")
    if kind == "folder":
        (checkout / "data").mkdir()
        (checkout / "data" / "key").write_text("mine")
        track(checkout, "data/key")
        shutil.rmtree(checkout / "data")
        (checkout / "data").symlink_to(outside)
    else:
        middle = checkout / "middle"
        middle.symlink_to(outside / "key")
        places: dict[str, Path] = {
            "file": outside / "key",
            "relative": Path("../outside/key"),
            "chain": middle,
            "git": Path(".git/config"),
        }
        (checkout / "link").symlink_to(places[kind])
        track(checkout, "link")
    with pytest.raises(CheckoutError, match="must lie in the checkout, found the link"):
        check(checkout)


def test_a_link_inside_travels_as_the_tracked_file_that_it_leads_to(
    checkout: Path, tmp_path: Path
) -> None:
    (checkout / "b.yaml").symlink_to("configs/a.yaml")
    track(checkout, "b.yaml")
    copy_files(checkout, check(checkout), tmp_path / "sent")
    assert (tmp_path / "sent" / "b.yaml").read_text() == "steps: 1\n"
    assert not (tmp_path / "sent" / "b.yaml").is_symlink()
    (checkout / "c.bin").symlink_to("runs.bin")
    track(checkout, "c.bin")
    with pytest.raises(CheckoutError, match=r"only tracked files travel, found the link c\.bin"):
        check(checkout)


SECRETS = (
    *(".env", ".env.local", ".ENV", "configs/prod.env", ".netrc", "id_rsa", "server.pem", "my.key"),
    *("credentials.json", "secrets.yaml", "gcp-service-account.json", "kubeconfig", ".dockercfg"),
)


@pytest.mark.parametrize("name", SECRETS)
def test_a_tracked_file_that_is_named_as_a_secret_is_refused(checkout: Path, name: str) -> None:
    (checkout / name).write_text("HF_TOKEN=secret")
    track(checkout, name)
    with pytest.raises(CheckoutError, match="a tracked file must hold no secret, found"):
        check(checkout)


def test_a_link_does_not_rename_a_secret(checkout: Path) -> None:
    (checkout / ".env").write_text("HF_TOKEN=secret")
    (checkout / "settings").symlink_to(".env")
    track(checkout, "settings")
    with pytest.raises(CheckoutError, match=r"found the link settings to \.env"):
        check(checkout)


@pytest.mark.parametrize(
    "name",
    [
        *(".env.example", "env.py", "keys.py", "secrets.py", "tokenizer.json", "id_rsa.pub"),
        *("environment.yml", "credentials.md"),
    ],
)
def test_files_that_only_sound_alike_travel(checkout: Path, name: str) -> None:
    (checkout / name).write_text("x")
    track(checkout, name)
    assert name in check(checkout)


@pytest.mark.parametrize("name", ["configs/a.yaml", "secrets.py", "blob"])
def test_the_value_of_a_secret_stops_the_file_that_it_stands_in(checkout: Path, name: str) -> None:
    (checkout / name).write_bytes(b"\xff key: wandb-0123456789 \xfe")
    track(checkout, name)
    with pytest.raises(CheckoutError, match="found the value of WANDB_API_KEY in") as refusal:
        check(checkout, WANDB_API_KEY="wandb-0123456789")
    assert name in str(refusal.value)
    assert "wandb-0123456789" not in str(refusal.value)
    assert name in check(checkout, WANDB_API_KEY="another-0123456789")
