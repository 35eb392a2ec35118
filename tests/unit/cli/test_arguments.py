"""Overrides: one for each key, whichever command takes them."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
import typer

from t2g_ray.cli.arguments import Overrides
from t2g_ray.config import ConfigError
from tests.unit.cli.parts import t2g


@pytest.mark.parametrize("command", ["sft", "grpo", "plan"])
def test_a_key_that_is_set_twice_is_bad_input(command: str, config: Path) -> None:
    result = t2g(command, config, "steps=3", "steps=4")
    assert result.exit_code == 2
    assert "a key must be set once, found steps and steps" in result.stderr


def test_overrides_that_leave_each_other_alone_are_taken_as_they_are() -> None:
    (argument,) = (one for one in get_args(Overrides) if isinstance(one, typer.models.ArgumentInfo))
    assert argument.callback is not None
    assert argument.callback(["a.b=1", "a.c=2"]) == ["a.b=1", "a.c=2"]
    assert argument.callback(None) is None
    with pytest.raises(ConfigError, match=r"found a and a\.c"):
        argument.callback(["a={}", "a.c=2"])
