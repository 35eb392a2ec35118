"""What a GPU changes, by how many there are and what was written."""

from __future__ import annotations

import pytest

from t2g_ray.config import GrpoConfig, build_config
from t2g_ray.config.device import table
from t2g_ray.config.device.table import follows
from t2g_ray.run.device.gpus import NO_GPUS, Gpu, Gpus


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    see(monkeypatch, 0)


def see(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    found = Gpus("580.1", (Gpu("card", 80.0),) * count) if count else NO_GPUS
    monkeypatch.setattr(table, "visible_gpus", lambda: found)


def split(**written: object) -> dict[str, object]:
    keys = {key.replace("__", "."): value for key, value in written.items()}
    names = ("rollout.gpus", "learner.gpus", "sync.transport", "colocate")
    return {name: value for name, value in follows("cuda", keys).items() if name in names}


OWN = {"rollout.gpus": 1, "learner.gpus": 1, "sync.transport": "broadcast"}


def half(colocate: str = "time") -> dict[str, object]:
    return {
        "rollout.gpus": 0.5,
        "learner.gpus": 0.5,
        "sync.transport": "ipc",
        "colocate": colocate,
    }


def test_a_cpu_changes_only_the_size_of_passes_where_steps_overlap() -> None:
    assert follows("cpu", {}) == {}
    assert follows("cpu", {"max_staleness": 1}) == {"rollout.pass_tokens": 1024}
    assert follows("cpu", {"max_staleness": "1"}) == {}


def test_engines_and_ranks_have_a_gpu_each_where_there_are_several(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for count in (0, 2, 8):
        see(monkeypatch, count)
        assert split() == OWN
    assert split(rollout__tensor_parallel=4)["rollout.gpus"] == 4


def test_one_gpu_is_shared_in_turns_or_at_once_as_the_run_allows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    see(monkeypatch, 1)
    assert split() == half("time")
    assert split(max_staleness=1) == half("share")
    assert split(colocate="off") == OWN
    # The devices of a cluster are not those of this machine.
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert split() == OWN


def test_what_was_written_says_how_gpus_are_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    for count in (1, 8):
        see(monkeypatch, count)
        assert split(rollout__gpus=1, learner__gpus=1) == OWN
        assert split(rollout__gpus=0.5, learner__gpus=0.5) == half()
        assert split(colocate="share") == half("share")
        assert split(rollout__gpus=0.3)["learner.gpus"] == 0.7
        assert split(learner__gpus=0.3)["rollout.gpus"] == 0.7
        assert split(learner__gpus=2) == OWN


def test_attention_without_padding_goes_with_the_precision_that_its_kernels_take() -> None:
    key = "learner.attention"
    assert follows("cuda", {})[key] == "varlen"
    assert follows("cuda", {"learner.dtype": "bfloat16"})[key] == "varlen"
    assert key not in follows("cuda", {"learner.dtype": "float32"})


def test_an_engine_leaves_memory_only_to_a_rank_that_uses_it_at_the_same_time() -> None:
    key = "rollout.gpu_memory_utilization"
    assert follows("cuda", {"colocate": "share"})[key] == 0.4
    assert key not in follows("cuda", {"colocate": "time"})
    assert key not in follows("cuda", {})


def test_every_row_is_a_setting_that_accepts_it() -> None:
    """A row that no stage has would be left out in silence."""
    for written in ({}, {"colocate": "share"}, {"colocate": "time"}):
        tree = {"run_dir": "x", "device": "cuda", **written}
        dumped = build_config(GrpoConfig, tree).model_dump(mode="json")
        for key, value in follows("cuda", written).items():
            section, _, name = key.rpartition(".")
            assert (dumped[section] if section else dumped)[name] == value
