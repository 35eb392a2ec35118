"""Settings of the samplers that exclude each other."""

from __future__ import annotations

import pytest

from t2g_ray.config import (
    ConfigError,
    GrpoConfig,
    build_config,
)


def build(**tree: object) -> GrpoConfig:
    return build_config(GrpoConfig, {"run_dir": "runs/x", **tree})


def test_tensor_parallelism_must_fit_the_gpus_of_an_actor() -> None:
    assert build(rollout={"gpus": 2, "tensor_parallel": 2}).rollout.tensor_parallel == 2
    with pytest.raises(ConfigError, match=r"at most rollout\.gpus, got 4 and 2"):
        build(rollout={"gpus": 2, "tensor_parallel": 4})


def test_an_engine_on_cpus_may_have_several_processes_with_threads_of_their_own() -> None:
    rollout = build(rollout={"tensor_parallel": 2, "threads": 3}, sync={"transport": "ipc"}).rollout
    assert (rollout.tensor_parallel, rollout.cpus) == (2, 6)
    assert build(rollout={"gpus": 2, "tensor_parallel": 2, "threads": 3}).rollout.cpus == 3
    with pytest.raises(ConfigError, match=r"ipc needs rollout\.tensor_parallel=1, found 2"):
        build(rollout={"gpus": 2, "tensor_parallel": 2}, sync={"transport": "ipc"})


def test_guesses_are_made_on_cpus_only() -> None:
    assert build().rollout.num_guessed == 24
    assert build(rollout={"draft_tokens": 0}).rollout.num_guessed == 0
    assert build(rollout={"gpus": 1}).rollout.num_guessed == 0
    with pytest.raises(ConfigError, match=r"draft_tokens must be 0 or left out where"):
        build(rollout={"gpus": 1, "draft_tokens": 8})
    own = {"speculative_config": {"method": "ngram", "num_speculative_tokens": 4}}
    assert build(rollout={"gpus": 1, "engine": own}).rollout.engine == own
    with pytest.raises(ConfigError, match=r"speculative_config on CPUs"):
        build(rollout={"engine": own})


@pytest.mark.parametrize("name", ["enable_chunked_prefill", "long_prefill_token_threshold"])
def test_prompts_are_read_whole_on_cpus(name: str) -> None:
    with pytest.raises(ConfigError, match=f"rollout.engine must not hold {name} on CPUs"):
        build(rollout={"engine": {name: 1}})
    assert build(rollout={"engine": {name: 0}})
    assert build(rollout={"gpus": 1, "engine": {name: 1}})


@pytest.mark.parametrize("gpus", [0, 1])
@pytest.mark.parametrize(
    "engine",
    [{"async_scheduling": True}, {"pipeline_parallel_size": 2}, {"async_scheduling": 1}],
)
def test_passes_may_not_be_under_way_while_weights_change(
    gpus: int, engine: dict[str, object]
) -> None:
    with pytest.raises(ConfigError, match="leave async_scheduling off"):
        build(rollout={"gpus": gpus, "engine": engine})
    plain = {"async_scheduling": False, "pipeline_parallel_size": 1}
    assert build(rollout={"gpus": gpus, "engine": plain}).rollout.engine == plain
