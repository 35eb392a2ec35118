"""What is no model is refused with advice, whether its policy or its tokenizer is to be read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from t2g_ray.model.policy import load_policy
from t2g_ray.model.source import is_embedded, reading
from t2g_ray.model.tokenizer import load_tokenizer

READERS = pytest.mark.parametrize("read", [load_policy, load_tokenizer])


@READERS
@pytest.mark.parametrize("name", ["/nowhere/model", "./missing", "runs/sft/model", "~/model"])
def test_a_path_that_is_not_there_is_refused_before_the_hub_is_asked(
    read: Callable[[str], object], name: str
) -> None:
    with pytest.raises(ValueError, match=r"existing folder or a hub name.*correct the path"):
        read(name)


@READERS
@pytest.mark.parametrize("name", ["runs/modle", "runs/", "runs/a"])
def test_a_mistyped_path_below_a_folder_is_not_looked_up_on_the_hub(
    read: Callable[[str], object], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"a model (must be|folder must)"):
        read(name)


@READERS
def test_a_folder_without_a_model_says_what_is_missing(
    read: Callable[[str], object], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"must hold config\.json"):
        read(str(tmp_path))


@READERS
def test_the_embedded_policy_cannot_be_loaded_only_built(read: Callable[[str], object]) -> None:
    assert is_embedded("embedded") and not is_embedded("runs/sft/model")
    with pytest.raises(ValueError, match="build_tiny_policy"):
        read("embedded")


def test_a_model_that_cannot_be_read_is_named_in_the_error(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "qwen3"}')
    with pytest.raises(ValueError, match=r"must be a folder or a hub name that can be read"):
        load_policy(tmp_path)


def test_a_fault_of_the_reader_itself_is_let_out(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ZeroDivisionError), reading(str(tmp_path)):
        raise ZeroDivisionError
