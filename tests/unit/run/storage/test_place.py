"""URLs and the folders that stand for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from t2g_ray.config import ConfigError, GrpoConfig, build_config, dump_config, load_config
from t2g_ray.run.storage.place import is_url, stage_of


def test_a_url_has_a_protocol_and_a_path_has_none() -> None:
    assert [is_url(place) for place in ("s3://b/run", "memory://x", "/shared/run", "runs/a")] == [
        True,
        True,
        False,
        False,
    ]


def test_each_url_has_a_stage_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("T2G_STAGE", str(tmp_path))
    first, second = stage_of("s3://a/runs/x"), stage_of("s3://b/runs/x")
    assert first != second
    assert first.parent == tmp_path
    assert first.name.startswith("x-")
    assert stage_of("s3://a/runs/x/") == first


def test_a_url_for_run_dir_is_the_storage_and_its_stage_the_folder(tmp_path: Path) -> None:
    config = build_config(GrpoConfig, {"run_dir": "s3://bucket/run"})
    assert (config.storage, config.run_dir) == ("s3://bucket/run", stage_of("s3://bucket/run"))
    file = tmp_path / "config.yaml"
    file.write_text(dump_config(config))
    assert load_config(GrpoConfig, file) == config


def test_a_folder_may_be_named_beside_the_storage() -> None:
    config = build_config(GrpoConfig, {"run_dir": "/fast/run", "storage": "s3://bucket/run"})
    assert config.run_dir == Path("/fast/run")


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"run_dir": "s3://a/run", "storage": "s3://b/run"}, "leave storage out"),
        ({"run_dir": "runs/x", "storage": "/shared/run"}, "must be a URL"),
    ],
)
def test_two_places_and_a_folder_as_storage_are_refused(tree: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build_config(GrpoConfig, tree)
