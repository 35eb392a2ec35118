"""Files at a URL, where calls fail for a while or for good."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from t2g_ray.run.storage import remote as module
from t2g_ray.run.storage.remote import Remote, StorageError


@pytest.fixture(params=["memory", "file"])
def remote(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Remote]:
    root = "memory:/" if request.param == "memory" else "file://"
    yield Remote(f"{root}{tmp_path}/there")


@pytest.fixture
def local(tmp_path: Path) -> Path:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "a").write_bytes(b"one")
    return tmp_path / "here"


def test_files_come_back_as_they_went(remote: Remote, local: Path) -> None:
    assert remote.names() == {}
    remote.put_all({"x/a": local / "a"})
    remote.write("y", b"four")
    assert remote.names() == {"x/a": 3, "y": 4}
    assert remote.names("x") == {"x/a": 3}
    assert remote.read("y") == b"four"
    remote.get_all({"x/a": local / "deep" / "b"})
    assert (local / "deep" / "b").read_bytes() == b"one"


def test_what_is_written_replaces_what_was_there(remote: Remote, local: Path) -> None:
    remote.write("a", b"something longer")
    remote.put_all({"a": local / "a"})
    assert remote.read("a") == b"one"
    assert remote.names() == {"a": 3}, "and leaves no half of it"


def test_what_is_removed_is_gone_and_may_be_gone_before(remote: Remote) -> None:
    remote.write("a", b"")
    remote.remove(["a", "b"])
    assert remote.names() == {}
    with pytest.raises(FileNotFoundError):
        remote.read("a")


class Flaky(MemoryFileSystem):  # type: ignore[misc]
    """Fails as often as it is told."""

    protocol = "flaky"
    failures = 0

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **more: Any) -> None:
        if Flaky.failures:
            Flaky.failures -= 1
            raise TimeoutError("slow down")
        super().pipe_file(path, value, mode, **more)


fsspec.register_implementation("flaky", Flaky, clobber=True)


def test_a_call_that_fails_for_a_while_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAITS_S", (0, 0, 0))
    monkeypatch.setattr(Flaky, "failures", 3)
    remote = Remote(f"flaky://{uuid.uuid4()}")
    remote.write("a", b"one")
    assert remote.read("a") == b"one"


def test_a_call_that_fails_for_good_says_what_where_and_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "WAITS_S", (0, 0, 0))
    monkeypatch.setattr(Flaky, "failures", 4)
    remote = Remote(f"flaky://{uuid.uuid4()}")
    with pytest.raises(StorageError, match=r"upload of a at flaky://.*: slow down in 4 tries"):
        remote.write("a", b"one")


def test_a_url_that_no_installed_package_opens_is_refused_with_the_package(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(url: str) -> None:
        raise ImportError("Install s3fs to access S3")

    with pytest.raises(ValueError, match="the fsspec package for nowhere"):
        Remote("nowhere://x")
    monkeypatch.setattr(fsspec, "url_to_fs", missing)
    with pytest.raises(ValueError, match=r"found Install .*install s3fs on all nodes"):
        Remote("s3://bucket/run")
