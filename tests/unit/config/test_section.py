"""What every section of a configuration refuses."""

from __future__ import annotations

import pytest

from t2g_ray.config import (
    GrpoConfig,
    build_config,
)


def build(**tree: object) -> GrpoConfig:
    return build_config(GrpoConfig, {"run_dir": "runs/x", **tree})


def test_a_configuration_cannot_be_changed_after_it_was_checked() -> None:
    with pytest.raises(ValueError, match="frozen"):
        build().steps = 3
