"""Planned memory of a learner rank: against models of transformers, and by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from t2g_ray.config import GrpoConfig, LearnerConfig, SftConfig, build_config
from t2g_ray.planning.memory.held import GIB, Moment
from t2g_ray.planning.memory.learner import rank_footprint
from t2g_ray.planning.shapes import PUBLISHED, ModelShape, shape_of

HALF_B = PUBLISHED["Qwen/Qwen2.5-0.5B"]
NUMBERS = HALF_B.parameters
SMALL: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 512,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 128}
KINDS = {
    "Qwen2Config": {"tie_word_embeddings": True},
    "LlamaConfig": {"tie_word_embeddings": False},
    "Qwen3Config": {"head_dim": 64},
    "Qwen3MoeConfig": {"head_dim": 32, **EXPERTS},
}
STATES = ("weights", "master weights", "moments", "gradients")


def model_of(kind: str, dtype: torch.dtype) -> Any:
    config = getattr(transformers, kind)(**SMALL, **KINDS[kind])
    return transformers.AutoModelForCausalLM.from_config(
        config, dtype=dtype, attn_implementation="sdpa"
    ).train()


def bytes_kept(model: Any, num_tokens: int) -> int:
    """What a forward pass keeps for the backward one, weights left out, each storage once."""
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage  # held, so that no other takes its place
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        states = model.model(torch.arange(num_tokens)[None] % 512).last_hidden_state
    assert states.requires_grad
    return sum(storage.nbytes() for storage in kept.values())


def parts(
    learner: dict[str, Any],
    shape: ModelShape = HALF_B,
    moment: Moment = "computing",
    *,
    on: str = "device",
    **tree: Any,
) -> dict[str, int]:
    settings = {"run_dir": "x", "device": "cuda", "learner": learner, **tree}
    held = rank_footprint(build_config(GrpoConfig, settings), shape)[moment]
    return dict(held.device if on == "device" else held.host)


def sft_parts(learner: LearnerConfig, shape: ModelShape) -> dict[str, int]:
    config = SftConfig.model_validate({"run_dir": "x", "device": "cpu", "learner": learner})
    return dict(rank_footprint(config, shape)["computing"].device)


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_and_activations_are_those_of_the_model(kind: str) -> None:
    for dtype, name in ((torch.bfloat16, "bfloat16"), (torch.float32, "float32")):
        model = model_of(kind, dtype)
        shape = shape_of(model.config)
        assert shape is not None
        real = sum(p.numel() for p in model.parameters())
        assert shape.parameters == pytest.approx(real, rel=0.01)
        learner = LearnerConfig(dtype=name, token_budget=256)  # type: ignore[arg-type]
        planned = sft_parts(learner, shape)["activations"]
        assert planned == pytest.approx(bytes_kept(model, 256), rel=0.2)


def test_a_bf16_learner_keeps_18_bytes_a_parameter_and_sharding_divides_them() -> None:
    def states(stage: int, **tree: Any) -> float:
        held = parts({"ranks": 4, "zero_stage": stage, **tree})
        return sum(held.get(name, 0) for name in STATES) / NUMBERS

    shares = [2 + 4 + 12, 2 + 4 + 3, 2 + 1 + 3, 0.5 + 1 + 3]
    assert [states(stage) for stage in range(4)] == pytest.approx(shares)
    assert states(3, offload="optimizer") == pytest.approx(0.5 + 1)


def test_fp32_has_master_weights_only_where_deepspeed_copies_what_it_shards() -> None:
    def masters(stage: int) -> float:
        held = parts({"ranks": 2, "zero_stage": stage, "dtype": "float32"})
        return held["master weights"] / NUMBERS if "master weights" in held else 0

    assert [masters(stage) for stage in range(4)] == pytest.approx([0, 2, 2, 2])


def test_cpus_keep_small_pieces_while_gloo_copies_what_it_scatters() -> None:
    def updating(stage: int, **tree: Any) -> dict[str, int]:
        learner = {"ranks": 2, "zero_stage": stage, "dtype": "float32", **tree}
        return parts(learner, moment="updating", device="cpu")

    assert "gathered layers" not in updating(0)
    assert updating(0)["activations"] > 0
    assert updating(3)["gathered layers"] == 4 * NUMBERS
    assert [updating(stage)["reduced copies"] for stage in (0, 3)] == [4 * NUMBERS, 8 * NUMBERS]


def test_layers_that_zero3_gathered_are_kept_around_the_turn() -> None:
    small = parts({"ranks": 2, "zero_stage": 3})["gathered layers"]
    large = parts({"ranks": 2, "zero_stage": 3}, PUBLISHED["Qwen/Qwen2.5-32B"])["gathered layers"]
    assert small == 2 * NUMBERS
    assert large == 2 * (500_000_000 + 152_064 * 5120)


def test_a_reference_is_a_second_copy_of_the_weights_and_adapters_need_none() -> None:
    kl = {"algorithm": {"kl_coef": 0.1}}
    assert parts({}, **kl)["reference"] == 2 * NUMBERS
    with_adapters = parts({"lora": {"rank": 8}}, **kl)
    assert "reference" not in with_adapters
    assert with_adapters["moments"] == 8 * HALF_B.adapters(8)


def test_gradients_are_copied_when_they_are_reduced_in_backward_passes_where_a_bucket_fills() -> (
    None
):
    def reducing(stage: int, name: str, moment: Moment = "updating", **tree: Any) -> float:
        model = PUBLISHED[name]
        held = parts({"ranks": 2, "zero_stage": stage, **tree}, model, moment)
        bytes_ = held.get("reduce bucket", 0) + held.get("reduced copies", 0)
        return bytes_ / min(model.parameters, 500_000_000)

    small, large = "Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-7B"
    assert [reducing(stage, small) for stage in range(4)] == pytest.approx([4, 4, 6, 10])
    in_fp32 = [reducing(stage, small, dtype="float32") for stage in range(4)]
    assert in_fp32 == pytest.approx([4, 4, 4, 8])
    assert [reducing(stage, large, "computing") for stage in range(4)] == [0, 0, 6, 10]
    assert [reducing(stage, small, "computing") for stage in (2, 3)] == [2, 2]


def test_inputs_of_layers_that_are_kept_on_the_host_are_there() -> None:
    tree = {"gradient_checkpointing": True, "token_budget": 4096}
    offloaded = {**tree, "offload": "activations"}
    inputs = 4096 * 2 * HALF_B.layers * HALF_B.hidden
    assert parts(tree)["activations"] - parts(offloaded)["activations"] == inputs
    assert parts(offloaded, on="host")["activations on the host"] == inputs


def test_what_the_optimiser_holds_is_parked_while_an_engine_has_its_turn() -> None:
    turns = {"colocate": "time"}
    waiting = parts({}, moment="writing", **turns)
    assert waiting.keys() == {"context", "weights"}
    assert parts({}, moment="writing", on="host", **turns)["parked"] == 12 * NUMBERS
    handing = parts({}, moment="handing over", **turns)
    assert handing["buckets in flight"] == 2 * NUMBERS
    shared = parts({}, moment="computing", colocate="share")
    assert {"buckets in flight", "moments", "activations"} <= shared.keys()


def test_an_entropy_bonus_takes_two_more_chunks() -> None:
    bonus = parts({}, algorithm={"entropy_coef": 0.01})["head chunks"]
    assert bonus - parts({})["head chunks"] == 2 * 512 * 2**20


def test_muon_keeps_one_moment_of_hidden_matrices() -> None:
    moments = parts({"optimizer": {"name": "muon"}})["moments"]
    assert moments == 4 * NUMBERS + 4 * HALF_B.head
    assert moments < 3 * GIB
