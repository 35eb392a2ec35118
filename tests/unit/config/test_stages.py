"""What a stage derives from its settings, and which settings exclude each other."""

from __future__ import annotations

from typing import Any

import pytest

from t2g_ray.config import (
    ConfigError,
    GrpoConfig,
    build_config,
)


def build(**tree: object) -> GrpoConfig:
    return build_config(GrpoConfig, {"run_dir": "runs/x", **tree})


def test_what_is_kept_on_the_host_must_be_there() -> None:
    with pytest.raises(ConfigError, match=r"offload=both .*zero_stage=0; set learner.zero_stage=1"):
        build(learner={"offload": "both", "gradient_checkpointing": True})
    with pytest.raises(ConfigError, match=r"offload=activations .*gradient_checkpointing=false"):
        build(learner={"offload": "activations"})
    learner = build(
        learner={"offload": "both", "gradient_checkpointing": True, "zero_stage": 1}
    ).learner
    assert learner.has_optimizer_on_host and learner.has_activations_on_host
    assert build(learner={"offload": "optimizer", "zero_stage": 3}).learner.has_optimizer_on_host


def test_muon_needs_whole_matrices() -> None:
    muon = {"name": "muon"}
    assert build(learner={"optimizer": muon}).learner.optimizer.name == "muon"
    with pytest.raises(ConfigError, match=r"muon needs whole matrices.*found 2 and 0"):
        build(learner={"optimizer": muon, "zero_stage": 2})


def test_kernels_of_gpus_take_half_precision() -> None:
    learner = {"attention": "varlen", "gpus": 1}
    rest = {"device": "cuda", "rollout": {"gpus": 1}}
    assert build(learner=learner, **rest).learner.dtype == "bfloat16"
    with pytest.raises(ConfigError, match=r"attention=varlen needs learner.dtype=bfloat16 on GPUs"):
        build(learner={**learner, "dtype": "float32"}, **rest)
    derived = build(learner={"dtype": "float32", "gpus": 1}, **rest)
    assert derived.learner.attention == "padded"


@pytest.mark.parametrize("rank", [0, 513])
def test_adapters_that_are_sent_must_be_there_and_fit_into_a_slot(rank: int) -> None:
    lora = {"sync": "adapter", "rank": 512}
    assert build(learner={"lora": lora}).learner.lora.sync == "adapter"
    with pytest.raises(ConfigError, match=rf"rank from 1 to 512, found {rank}; .*sync=merged"):
        build(learner={"lora": {**lora, "rank": rank}})


def test_adapters_on_gpus_need_a_format_that_vllms_kernels_have() -> None:
    learner = {"lora": {"sync": "adapter", "rank": 4}}
    assert build(learner=learner, rollout={"dtype": "float32"}).rollout.gpus == 0
    gpus = {"device": "cuda", "learner": learner}
    assert build(**gpus).rollout.dtype == "bfloat16"
    with pytest.raises(ConfigError, match=r"needs rollout\.dtype=bfloat16 on GPUs.*found float32"):
        build(**gpus, rollout={"dtype": "float32"})


def test_over_sampling_is_for_synchronous_runs() -> None:
    assert build(prompts_per_step=10, sampling={"over_sample": 1.1}).prompts_begun == 11
    assert build(prompts_per_step=3, sampling={"over_sample": 1.5}).prompts_begun == 5
    with pytest.raises(ConfigError, match=r"needs max_staleness 0, found 1\.5 and 2"):
        build(max_staleness=2, sampling={"over_sample": 1.5})


@pytest.mark.parametrize(
    ("tree", "tolerance"),
    [
        ({}, 1e-5),
        ({"rollout": {"dtype": "bfloat16"}}, 0.05),
        ({"learner": {"dtype": "bfloat16"}}, 0.05),
        ({"algorithm": {"parity_tolerance": 0.3}}, 0.3),
    ],
)
def test_the_parity_tolerance_follows_the_precisions(
    tree: dict[str, object], tolerance: float
) -> None:
    assert build(**tree).parity_tolerance == tolerance


@pytest.mark.parametrize(
    ("prompt", "answer", "budget"), [(100, 29, 128), (8, 9, 16), (1024, 512, 1535), (20, 1, 20)]
)
def test_a_micro_batch_must_hold_the_longest_prompt_and_answer(
    prompt: int, answer: int, budget: int
) -> None:
    tree: dict[str, Any] = {
        "prompt": {"max_tokens": prompt},
        "sampling": {"max_new_tokens": answer},
    }
    assert build(**tree, learner={"token_budget": budget}).learner.token_budget == budget
    tree["sampling"]["max_new_tokens"] += 1
    with pytest.raises(ConfigError, match=rf"= {budget + 1}, found {budget}; set learner\.token_b"):
        build(**tree, learner={"token_budget": budget})


def test_the_data_have_a_seed_of_their_own_or_the_runs() -> None:
    assert build(seed=4).data_seed == 4
    assert build(seed=4, data={"seed": 0}).data_seed == 0


def test_turns_on_a_device_are_for_synchronous_runs() -> None:
    assert build(colocate="time").colocate == "time"
    assert build(colocate="share", max_staleness=1).max_staleness == 1
    with pytest.raises(ConfigError, match=r"colocate=time needs max_staleness=0, found 2"):
        build(colocate="time", max_staleness=2)


@pytest.mark.parametrize("colocate", ["time", "share"])
def test_a_shared_device_is_shared_by_parts(colocate: str) -> None:
    def shared(engine: float, rank: float, **learner: object) -> GrpoConfig:
        rollout = {"gpus": engine, "actors": 2}
        return build(
            colocate=colocate,
            rollout=rollout,
            learner={"gpus": rank, "ranks": 2, **learner},
        )

    assert shared(0.5, 0.5).colocate == colocate
    assert shared(0, 0, ranks=1).colocate == colocate  # on CPUs
    for engine, rank in ((1, 1), (0.5, 1), (0.6, 0.5)):
        with pytest.raises(ConfigError, match=r"needs parts of one GPU.*set rollout\.gpus=0\.5"):
            shared(engine, rank)
    with pytest.raises(ConfigError, match=r"each engine beside a learner rank.*actors=2.*ranks=1"):
        shared(0.5, 0.5, ranks=1)
    half = {"gpus": 0.5}
    with pytest.raises(ConfigError, match=r"no two processes on one GPU; set sync\.transport=ipc"):
        build(colocate=colocate, rollout=half, learner=half, sync={"transport": "broadcast"})


def test_parts_of_a_device_are_not_taken_without_saying_how_it_is_shared() -> None:
    assert build(rollout={"gpus": 1}, learner={"gpus": 1}).colocate == "off"
    with pytest.raises(ConfigError, match=r"need colocate=time .*found colocate=off with rollout"):
        build(rollout={"gpus": 0.5}, learner={"gpus": 0.5}, colocate="off")
