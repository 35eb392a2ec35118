"""What goes on beside training: deadlines with their names, and bounds of the settings."""

from __future__ import annotations

import pytest

from t2g_ray.config import ConfigError, GrpoConfig, build_config
from t2g_ray.config.run import Deadline, DeadlineConfig


def test_a_deadline_says_how_long_it_is_and_which_key_sets_it() -> None:
    assert str(Deadline("sync_s", 300.0)) == "deadlines.sync_s=300 s"
    assert str(Deadline("start_s", 0.5)) == "deadlines.start_s=0.5 s"


def test_each_phase_has_the_deadline_of_its_own_key() -> None:
    config = DeadlineConfig(start_s=1, generate_s=2, train_s=3, sync_s=4, save_s=5, fetch_s=6)
    found = [config.start, config.generate, config.train, config.sync, config.save, config.fetch]
    assert found == [
        Deadline("start_s", 1.0),
        Deadline("generate_s", 2.0),
        Deadline("train_s", 3.0),
        Deadline("sync_s", 4.0),
        Deadline("save_s", 5.0),
        Deadline("fetch_s", 6.0),
    ]
    # The name is that of a key of the section.
    assert {deadline.name for deadline in found} == set(DeadlineConfig.model_fields)


@pytest.mark.parametrize(
    "tree",
    [
        {"deadlines": {"train_s": 0}},
        {"sync": {"bucket_mib": 0}},
        {"sync": {"verify_every": 0}},
        {"sync": {"transport": "post"}},
        {"eval": {"every": -1}},
        {"checkpoint": {"keep": 0}},
    ],
)
def test_settings_out_of_their_bounds_are_refused_by_their_key(tree: dict[str, object]) -> None:
    section, values = next(iter(tree.items()))
    key = next(iter(values))  # type: ignore[call-overload]
    with pytest.raises(ConfigError, match=f"{section}.{key}"):
        build_config(GrpoConfig, {"run_dir": "x", **tree})
