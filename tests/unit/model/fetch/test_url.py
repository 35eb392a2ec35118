"""A model at a URL, which is fetched once and again when it changes."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from t2g_ray.model.fetch import url as module
from t2g_ray.model.fetch.url import fetched
from t2g_ray.model.source import fetched_model, folder_of_model, pinned_model
from t2g_ray.run.storage.remote import Remote

FILES = {"config.json": b"{}", "model.safetensors": b"weights"}


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("T2G_STAGE", str(tmp_path / "stage"))
    place = f"memory:/{tmp_path}/model"
    for name, content in {**FILES, "checkpoint-5/model.safetensors": b"older"}.items():
        Remote(place).write(name, content)
    return place


def test_a_model_at_a_url_is_fetched_once_to_the_folder_that_every_node_has(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pinned_model(url) == url
    folder = folder_of_model(url)
    found = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
    found.pop(".listing.json")
    assert found == FILES
    monkeypatch.setattr(Remote, "get_all", lambda self, files: pytest.fail("fetched again"))
    assert fetched_model(url, folder) == ""


def test_a_model_that_changed_is_fetched_again_and_whole(url: str) -> None:
    folder = fetched(url)
    Remote(url).write("model.safetensors", b"WEIGHTS")
    Remote(url).remove(["config.json"])
    Remote(url).write("config.json", b"{ }")
    assert (Path(fetched(url)) / "model.safetensors").read_bytes() == b"WEIGHTS"
    assert (Path(folder) / "config.json").read_bytes() == b"{ }"


def test_a_fetch_that_was_killed_leaves_no_model(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(path: Path, value: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "write_json", killed)
        fetched(url)
    assert not module.folder_of(url).exists()
    assert (Path(fetched(url)) / "config.json").exists()


def test_of_several_runs_that_start_at_once_one_fetches_and_all_have_it(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, fetches = Remote.get_all, list[int]()

    def slow(self: Remote, files: dict[str, Path]) -> None:
        fetches.append(len(files))
        real(self, files)
        time.sleep(0.3)

    monkeypatch.setattr(Remote, "get_all", slow)
    with ThreadPoolExecutor(4) as pool:
        (folder,) = set(pool.map(fetched, [url] * 4))
    assert (Path(folder) / "model.safetensors").read_bytes() == b"weights"
    assert fetches == [2]


def test_a_url_without_a_model_says_what_is_missing(url: str) -> None:
    with pytest.raises(ValueError, match=r"must hold config\.json, memory:.*nothing does not"):
        folder_of_model(f"{url}/nothing")
    assert "must hold config.json" in fetched_model(f"{url}/nothing", "x")
