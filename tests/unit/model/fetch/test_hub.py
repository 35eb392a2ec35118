"""huggingface_hub's own functions against a hub on this machine, and against its cache."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from huggingface_hub import constants

from t2g_ray.model.fetch import hub
from t2g_ray.model.source import fetched_model, folder_of_model, pinned_model

FIRST, SECOND = "1" * 40, "2" * 40
FILES = {
    "config.json": b'{"model_type": "qwen3"}',
    "tokenizer.json": b"{}",
    "model.safetensors": b"weights",
    "pytorch_model.bin": b"the same weights",
    "modeling_own.py": b"code",
    "onnx/model.onnx": b"the same weights",
}


class Hub(BaseHTTPRequestHandler):
    """A hub with owner/model, whose branch main is at `head`, and with owner/gated."""

    head = FIRST
    files: ClassVar[dict[str, bytes]] = FILES
    asked: ClassVar[list[str]] = []

    def do_HEAD(self) -> None:
        self._answer(has_body=False)

    def do_GET(self) -> None:
        self._answer(has_body=True)

    def _answer(self, *, has_body: bool) -> None:
        path = self.path.partition("?")[0]
        Hub.asked.append(path)
        if "/gated" in path:
            self._send(403, b"", {"X-Error-Code": "GatedRepo"})
        elif "owner/model" not in path:
            self._send(404, b"", {"X-Error-Code": "RepoNotFound"})
        elif path.startswith("/api/models/owner/model/tree/"):
            listing = [
                {"type": "file", "path": name, "size": len(data), "oid": name}
                for name, data in Hub.files.items()
            ]
            self._send(200, json.dumps(listing).encode())
        elif path.startswith("/api/"):
            revision = path.partition("/revision/")[2] or "main"
            if revision not in ("main", FIRST, SECOND):
                self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
                return
            info = {"id": "owner/model", "sha": Hub.head if revision == "main" else revision}
            self._send(200, json.dumps(info).encode())
        else:
            commit, _, name = path.partition("/resolve/")[2].partition("/")
            headers = {"X-Repo-Commit": commit, "ETag": f'"{name}"'}
            self._send(200, Hub.files[name], headers, has_body=has_body)

    def _send(
        self, status: int, body: bytes, headers: dict[str, str] | None = None, has_body: bool = True
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if has_body:
            self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache, and a hub that serves."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setattr(Hub, "head", FIRST)
    monkeypatch.setattr(Hub, "files", FILES)
    monkeypatch.setattr(Hub, "asked", [])
    point_at(monkeypatch, f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.chdir(tmp_path)
    yield tmp_path / "cache"
    server.shutdown()
    server.server_close()


def point_at(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    template = "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + template)


def names_in(folder: str) -> set[str]:
    return {path.name for path in Path(folder).rglob("*") if path.is_file()}


def test_a_name_is_pinned_to_the_commit_of_its_branch_once() -> None:
    name = pinned_model("owner/model")
    assert name == f"owner/model@{FIRST}"
    Hub.head = SECOND
    asked = len(Hub.asked)
    assert pinned_model(name) == name
    assert len(Hub.asked) == asked, "a commit needs no question"
    assert pinned_model("owner/model@main") == f"owner/model@{SECOND}"


def test_a_run_that_goes_on_keeps_the_commit_of_its_start() -> None:
    earlier = pinned_model("owner/model")
    Hub.head = SECOND
    assert pinned_model("owner/model", earlier) == earlier
    assert pinned_model("owner/model@main", earlier).endswith(SECOND), "it was asked for"


def test_the_driver_fetches_settings_and_a_node_the_weights_into_the_same_folder() -> None:
    name = pinned_model("owner/model")
    folder = folder_of_model(name)
    assert names_in(folder) == {"config.json", "tokenizer.json"}
    assert fetched_model(name, folder) == ""
    assert names_in(folder) == {"config.json", "tokenizer.json", "model.safetensors"}
    assert "keeps the model in" in fetched_model(name, "/elsewhere")


def test_old_weights_are_fetched_where_there_are_no_others() -> None:
    Hub.files = {name: data for name, data in FILES.items() if name != "model.safetensors"}
    folder = hub.fetched(pinned_model("owner/model"))
    assert names_in(folder) == {"config.json", "tokenizer.json", "pytorch_model.bin"}
    assert (Path(folder) / "pytorch_model.bin").read_bytes() == b"the same weights"


def test_a_model_without_weights_is_none(cache: Path) -> None:
    Hub.files = {"config.json": b"{}"}
    name = pinned_model("owner/model")
    assert "must have weights" in fetched_model(name, folder_of_model(name))


@pytest.mark.parametrize("is_offline", [True, False], ids=["offline", "no network"])
def test_a_cache_serves_without_the_hub_and_an_empty_one_says_what_to_do(
    cache: Path, monkeypatch: pytest.MonkeyPatch, is_offline: bool
) -> None:
    name = pinned_model("owner/model")
    hub.fetched(name)
    if is_offline:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    point_at(monkeypatch, "http://127.0.0.1:9")  # where nobody listens
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    assert pinned_model("owner/model") == name
    assert fetched_model(name, folder_of_model(name)) == ""
    with pytest.raises(ValueError, match="hf download owner/model") as refused:
        pinned_model(f"owner/model@{SECOND[:-1]}0") and hub.fetched(f"owner/model@{SECOND}")
    assert ("HF_HUB_OFFLINE=1" if is_offline else "was not reached") in str(refused.value)


def test_a_cache_laid_out_by_hand_is_enough(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    model = cache / "models--owner--model"
    (model / "snapshots" / FIRST).mkdir(parents=True)
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (model / "snapshots" / FIRST / name).write_bytes(FILES[name])
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(FIRST)
    name = pinned_model("owner/model")
    assert name == f"owner/model@{FIRST}"
    assert fetched_model(name, folder_of_model(name)) == ""
    (model / "snapshots" / FIRST / "model.safetensors").unlink()
    assert "must have weights" in fetched_model(name, folder_of_model(name))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("owner/missing", "found no owner/missing at http://127.0.0.1.*correct the name"),
        ("owner/gated", "is gated.*ask for access.*HF_TOKEN_PATH"),
        ("owner/model@nope", "branch, tag or commit.*found no 'nope' of owner/model"),
    ],
)
def test_what_the_hub_does_not_give_is_said_with_what_to_do(name: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        pinned_model(name)


def test_names_folders_and_commits_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "gpt2").mkdir()
    found = [hub.is_hub_name(name) for name in ("owner/model", "bert", "gpt2", "a/b/c", "s3://a/b")]
    assert found == [True, True, False, False, False]
    pins = ["owner/model", "owner/model@main", f"owner/model@{FIRST}"]
    assert [hub.is_pinned(name) for name in pins] == [False, False, True]
