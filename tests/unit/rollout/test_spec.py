"""Settings of a run -> what an engine is asked for, in vLLM's own names."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from t2g_ray.config import GrpoConfig, build_config
from t2g_ray.rollout.spec import (
    CPU_BLOCK_SIZE,
    EngineSpec,
    Sampling,
    _plain_experts,
    engine_arguments,
    rollout_spec,
    sampling_parameters,
    start_vllm,
)
from t2g_ray.run.device.check import DeviceError


def spec(**tree: Any) -> EngineSpec:
    return rollout_spec(build_config(GrpoConfig, {"run_dir": "x", **tree}), "model", sampler=3)


def test_the_longest_answer_of_training_and_evaluation_fits_after_the_longest_prompt() -> None:
    tree = {"prompt": {"max_tokens": 100}, "sampling": {"max_new_tokens": 40}}
    assert spec(**tree).max_model_len == 140
    assert spec(**tree, eval={"max_new_tokens": 90}).max_model_len == 190
    assert spec(**tree, eval={"max_new_tokens": 9}).max_model_len == 140


def test_passes_are_small_where_steps_overlap_on_a_cpu() -> None:
    assert spec().pass_tokens == 4096
    assert spec(max_staleness=1).pass_tokens == 1024
    assert spec(max_staleness=1, rollout={"pass_tokens": 2000}).pass_tokens == 2000
    assert spec(max_staleness=1, rollout={"gpus": 1}).pass_tokens == 8192


def test_an_engine_starts_on_the_device_of_the_installed_set_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for installed, gpus, advice in (("cuda", 0, "DEVICE=cpu"), ("cpu", 1, "DEVICE=gpu")):
        monkeypatch.setattr("t2g_ray.run.device.check.installed_device", lambda i=installed: i)
        with pytest.raises(DeviceError, match=f"make setup {advice}"):
            start_vllm(replace(spec(), gpus=gpus))


def test_cpus_and_gpus_are_asked_for_what_they_have() -> None:
    on_cpu = engine_arguments(spec())
    assert (on_cpu["enforce_eager"], on_cpu["block_size"]) == (True, CPU_BLOCK_SIZE)
    assert "gpu_memory_utilization" not in on_cpu
    on_gpu = engine_arguments(spec(rollout={"gpus": 1, "gpu_memory_utilization": 0.5}))
    assert on_gpu["gpu_memory_utilization"] == 0.5
    assert "block_size" not in on_gpu


def test_an_engine_is_told_that_it_will_sleep_where_it_takes_turns_on_a_gpu() -> None:
    in_turns = {"colocate": "time", "rollout": {"gpus": 0.5}, "learner": {"gpus": 0.5}}
    assert engine_arguments(spec(**in_turns))["enable_sleep_mode"]
    assert not engine_arguments(spec(**{**in_turns, "colocate": "share"}))["enable_sleep_mode"]
    on_cpu = spec(colocate="time")
    assert on_cpu.takes_turns
    assert "enable_sleep_mode" not in engine_arguments(on_cpu)
    config = build_config(GrpoConfig, {"run_dir": "x", "colocate": "time"})
    assert not rollout_spec(config, "model", load_weights=True).takes_turns  # to serve


def test_guesses_under_adapters_have_the_room_that_vllm_asks_for_in_passes_as_small_as_before() -> (
    None
):
    lora = {"rank": 4, "sync": "adapter", "targets": ["q_proj"]}
    tree = {"rollout": {"draft_tokens": 8, "max_sequences": 1000}, "learner": {"lora": lora}}
    found = engine_arguments(spec(**tree))
    assert found["max_num_batched_tokens"] == 1000 * 9
    alone = engine_arguments(spec(**{**tree, "learner": {}}))
    assert found["max_num_scheduled_tokens"] == alone["max_num_batched_tokens"] < 9000
    assert "max_num_scheduled_tokens" not in alone


def test_guesses_are_asked_for_only_where_they_are_made() -> None:
    wanted = engine_arguments(spec(rollout={"draft_tokens": 8}))["speculative_config"]
    assert wanted["num_speculative_tokens"] == 8
    assert "speculative_config" not in engine_arguments(spec(rollout={"draft_tokens": 0}))


def test_passes_are_in_turn_where_weights_come_while_they_run() -> None:
    for tree in ({}, {"max_staleness": 2}, {"rollout": {"gpus": 1}}):
        assert engine_arguments(spec(**tree))["async_scheduling"] is False
    fixed = rollout_spec(build_config(GrpoConfig, {"run_dir": "x"}), "model", load_weights=True)
    assert "async_scheduling" not in engine_arguments(fixed)


def test_a_pass_is_never_shorter_than_one_sequence() -> None:
    long = {"prompt": {"max_tokens": 5000}, "sampling": {"max_new_tokens": 1000}}
    assert engine_arguments(spec(**long))["max_num_batched_tokens"] == 6000


def test_with_adapters_a_pass_has_room_for_all_guesses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("t2g_ray.rollout.spec.adapter_arguments", lambda model, slots: {})
    lora = {"learner": {"lora": {"rank": 4, "sync": "adapter"}}}
    assert engine_arguments(spec(**lora))["max_num_batched_tokens"] == 256 * 25
    assert engine_arguments(spec())["max_num_batched_tokens"] == 4096


def test_prompts_are_read_whole_on_cpus() -> None:
    assert engine_arguments(spec())["enable_chunked_prefill"] is False
    assert "enable_chunked_prefill" not in engine_arguments(spec(rollout={"gpus": 1}))


def test_an_engine_of_several_ranks_starts_processes_of_its_own() -> None:
    assert "distributed_executor_backend" not in engine_arguments(spec(rollout={}))
    several = engine_arguments(spec(rollout={"tensor_parallel": 2}))
    assert (several["tensor_parallel_size"], several["distributed_executor_backend"]) == (2, "mp")


def test_experts_that_take_weights_on_gpus_get_kernels_that_read_them_as_they_are() -> None:
    class Newer:
        moe_backend = "auto"

    taking = replace(spec(rollout={}), gpus=1.0)
    assert _plain_experts(taking, Newer) == {"moe_backend": "triton"}
    assert _plain_experts(taking, object) == {}
    assert _plain_experts(replace(taking, gpus=0), Newer) == {}
    assert _plain_experts(replace(taking, load_weights=True), Newer) == {}


def test_engine_arguments_of_the_user_have_the_last_word() -> None:
    arguments = engine_arguments(spec(rollout={"engine": {"seed": 77, "swap_space": 1}}))
    assert (arguments["seed"], arguments["swap_space"]) == (77, 1)


@pytest.mark.slow  # imports vLLM
@pytest.mark.parametrize("grammar", [None, 'root ::= "a"'])
def test_a_group_is_sampled_as_its_settings_say(grammar: str | None) -> None:
    sampling = Sampling(group_size=3, temperature=0.5, max_new_tokens=7, top_p=0.9, grammar=grammar)
    found = sampling_parameters(sampling, seed=4)
    assert (found.n, found.temperature, found.max_tokens) == (3, 0.5, 7)
    assert (found.top_p, found.seed, found.ignore_eos) == (0.9, 4, False)
    # The sampled token's own log-prob and no others; text is made elsewhere.
    assert (found.logprobs, found.detokenize) == (0, False)
    structured = found.structured_outputs
    assert (structured.grammar if structured else None) == grammar


@pytest.mark.slow  # imports vLLM
def test_greedy_requests_need_no_seed() -> None:
    greedy = Sampling(group_size=1, temperature=0.0, max_new_tokens=7)
    assert sampling_parameters(greedy, seed=4).seed is None
