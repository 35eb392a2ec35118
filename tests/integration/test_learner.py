"""Real DeepSpeed ranks in processes of their own: every way to cut the work gives one result.

Both stages train through `deepspeed_rank`.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.multiprocessing as multiprocessing
from transformers import AutoModelForCausalLM, AutoTokenizer

from t2g_ray.algorithm.loss import loss_divisor
from t2g_ray.config import AlgorithmConfig, LearnerConfig, LoraConfig, OptimizerConfig
from t2g_ray.learner.batching import balance
from t2g_ray.types import Sample, TrainReport
from tests.ports import free_port

STEPS = 3
DEFAULT = AlgorithmConfig()


@dataclass(frozen=True)
class Case:
    """One way to compute the same three steps."""

    name: str
    zero_stage: Any = 0
    token_budget: int = 4096
    packing: bool = True
    attention: Any = "padded"
    head_chunk_mib: int = 64
    gradient_checkpointing: bool = False
    optimizer: Any = "adamw"
    algorithm: AlgorithmConfig = DEFAULT
    lora_rank: int = 0
    like: str = "one piece"
    """The case whose result this one must repeat."""


ALL_PARTS = AlgorithmConfig(
    ratio="sequence",
    normalisation="sequences",
    importance="mask",
    importance_level="sequence",
    importance_cap=1e6,
    kl_coef=0.2,
    entropy_coef=0.01,
    updates_per_batch=2,
)
"""Every part that reaches over tokens, over ranks or over updates."""

WITH_KL = AlgorithmConfig(kl_coef=0.2)

ALONE = (
    Case("one piece"),
    Case("small pieces", token_budget=128),
    Case("recomputed layers", gradient_checkpointing=True),
    Case("without padding in attention", attention="varlen"),
    Case("small chunks of logits", head_chunk_mib=1),
    Case("joined rows", packing=False),
    Case("joined rows in small pieces", packing=False, token_budget=128),
    Case("all parts", algorithm=ALL_PARTS, like="all parts"),
    Case("all parts in small pieces", algorithm=ALL_PARTS, token_budget=128, like="all parts"),
    Case("muon", optimizer="muon"),
    Case("adapters", lora_rank=4, algorithm=WITH_KL, like="adapters"),
    Case(
        "adapters in small pieces",
        lora_rank=4,
        algorithm=WITH_KL,
        token_budget=128,
        like="adapters",
    ),
)
TOGETHER = (
    Case("two ranks"),
    Case("two ranks, ZeRO-2", zero_stage=2, token_budget=256),
    Case("two ranks, ZeRO-3", zero_stage=3, token_budget=256),
    Case(
        "two ranks, all parts, ZeRO-3",
        zero_stage=3,
        token_budget=256,
        attention="varlen",
        algorithm=ALL_PARTS,
        like="all parts",
    ),
    Case("two ranks, muon", optimizer="muon"),
    Case(
        "two ranks, adapters, ZeRO-3",
        zero_stage=3,
        lora_rank=4,
        algorithm=WITH_KL,
        token_budget=256,
        like="adapters",
    ),
)
WATCHED = ("loss", "entropy", "kl", "mismatch_kl", "max_ratio", "num_tokens", "lr")
SAVED = (
    "one piece",
    "all parts",
    "muon",
    "two ranks, ZeRO-2",
    "two ranks, ZeRO-3",
    "two ranks, muon",
    "adapters",
    "two ranks, adapters, ZeRO-3",
)
"""Cases that also save after two steps, restore into a new learner, and take the third again."""
CHANGED = ("one piece", "two ranks, ZeRO-2", "two ranks, ZeRO-3")
"""Cases that also restore into a learner with another weight decay and clipping."""


class Payload:
    """Runs code where a file is read as what it says, and not as data."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._path,)


def samples() -> list[Sample]:
    random = np.random.default_rng(0)
    made: list[Sample] = []
    for group in range(5):
        prompt = tuple(int(x) for x in random.integers(3, 500, int(random.integers(10, 30))))
        for _ in range(4):
            length = int(random.integers(3, 25))
            made.append(
                Sample(
                    group=group,
                    prompt_ids=prompt,
                    completion_ids=random.integers(3, 500, length).astype(np.int32),
                    sampler_logprobs=random.uniform(-8, -6, length).astype(np.float32),
                    versions=np.zeros(length, np.int32),
                    advantage=float(random.normal()),
                )
            )
    return made


def share_of(rank: int, num_ranks: int) -> list[Sample]:
    groups = [[s for s in samples() if s.group == group] for group in range(5)]
    costs = [sum(len(s.completion_ids) for s in group) for group in groups]
    return [s for i in balance(costs, num_ranks)[rank] for s in groups[i]]


def run_rank(
    rank: int, num_ranks: int, port: int, cases: Sequence[Case], model: Path, out: Path
) -> None:
    """What a spawned process does: every case after the other, results by rank 0."""
    torch.set_num_threads(1)
    from t2g_ray.learner.learner import Learner, LearnerSpec
    from t2g_ray.learner.ranks import join_ranks

    join_ranks(rank=rank, num_ranks=num_ranks, address="127.0.0.1", port=port, is_cpu=True)
    mine = share_of(rank, num_ranks)
    lengths = [len(s.completion_ids) for s in samples()]

    def learner_of(case: Case, **changed: float) -> Learner:
        config = LearnerConfig(
            ranks=num_ranks,
            zero_stage=case.zero_stage,
            token_budget=case.token_budget,
            packing=case.packing,
            attention=case.attention,
            head_chunk_mib=case.head_chunk_mib,
            gradient_checkpointing=case.gradient_checkpointing,
            lora=LoraConfig(rank=case.lora_rank),
            optimizer=OptimizerConfig(name=case.optimizer, lr=1e-3, warmup_steps=2, **changed),
        )
        return Learner(
            LearnerSpec(
                model=str(model),
                config=config,
                algorithm=case.algorithm,
                temperature=0.9,
                total_steps=10,
                seed=0,
            )
        )

    def tensors(learner: Learner) -> dict[str, torch.Tensor]:
        return {name: tensor.clone() for name, tensor in learner.named_tensors()}

    for case in cases:
        learner, folder = learner_of(case), out / case.name
        divisor = loss_divisor(lengths, case.algorithm, max_new_tokens=24)
        reports: list[TrainReport] = []
        for step in range(STEPS):
            if case.name in SAVED and step == STEPS - 1:
                learner.save(folder / "state")
            reports.append(learner.step(mine, divisor=divisor))
        found: dict[str, Any] = {"reports": reports, "tensors": tensors(learner)}
        if case.name in SAVED:
            learner.export(folder / "model")
            restored = learner_of(case)
            restored.load(folder / "state")
            again = restored.step(mine, divisor=divisor)
            found |= {"again": again, "tensors again": tensors(restored)}
            endless = [replace(sample, advantage=math.inf) for sample in mine]
            found["endless"] = restored.step(endless, divisor=divisor)
        if case.name in CHANGED:
            changed = learner_of(case, weight_decay=0.5, max_grad_norm=0.25)
            changed.load(folder / "state")
            optimizer = changed.engine.optimizer
            found["decays"] = [group["weight_decay"] for group in optimizer.param_groups]
            found["clip"] = (changed.engine.gradient_clipping(), getattr(optimizer, "clip_grad", 0))
            before = tensors(changed)
            changed.step(mine, divisor=divisor)
            found["decayed"] = (before, tensors(changed))
        if case.name == "two ranks":
            taken_over = learner_of(case)
            taken_over.load(out / "one piece" / "state")
            found["taken over"] = taken_over.step(mine, divisor=divisor)
        if case.name == "one piece":
            found["payload"] = load_payload(learner_of(case), folder)
        if rank == 0:
            folder.mkdir(exist_ok=True)
            torch.save(found, folder / "found.pt")
    torch.distributed.barrier()
    # All is written. Threads of torch.distributed may abort an interpreter that shuts down.
    os._exit(0)


def load_payload(learner: Any, folder: Path) -> tuple[str, bool]:
    """What a loader says of a state file that holds code, and whether the code ran."""
    evil = folder / "evil"
    shutil.copytree(folder / "state", evil)
    (path,) = (evil / "state").glob("*.pt")
    torch.save({"module": Payload(folder / "ran")}, path)
    try:
        learner.load(evil)
    except Exception as error:
        return str(error), (folder / "ran").exists()
    return "", (folder / "ran").exists()


@pytest.fixture(scope="module")
def folder(tied_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of all cases, a folder each."""
    out = tmp_path_factory.mktemp("learner")
    for num_ranks, cases in ((1, ALONE), (2, TOGETHER)):
        multiprocessing.spawn(  # type: ignore[attr-defined, no-untyped-call]
            run_rank, (num_ranks, free_port(), cases, tied_model, out), nprocs=num_ranks
        )
    return out


def found_in(folder: Path, name: str) -> dict[str, Any]:
    result: dict[str, Any] = torch.load(folder / name / "found.pt", weights_only=False)
    return result


def largest_difference(
    ours: Mapping[str, torch.Tensor], theirs: Mapping[str, torch.Tensor]
) -> float:
    assert ours.keys() == theirs.keys()
    return max(float((ours[name] - theirs[name]).detach().abs().max()) for name in ours)


@pytest.mark.parametrize(
    "case",
    [c for c in (*ALONE, *TOGETHER) if c.optimizer == "adamw" and c.name != c.like],
    ids=lambda case: case.name,
)
def test_the_result_does_not_depend_on_how_the_work_is_cut(folder: Path, case: Case) -> None:
    expected, found = found_in(folder, case.like), found_in(folder, case.name)
    # Twice as many Adam steps and products over completions carry rounding further.
    slack = 1 if case.algorithm is DEFAULT else 20
    for ours, theirs in zip(found["reports"], expected["reports"], strict=True):
        for key in WATCHED:
            assert getattr(ours, key) == pytest.approx(
                getattr(theirs, key), rel=1e-5 * slack, abs=1e-7 * slack
            ), key
        assert ours.grad_norm == pytest.approx(theirs.grad_norm, rel=1e-4 * slack)
    # Adam divides by the gradient's own size, so rounding can move a weight of no gradient by a
    # share of the step of 1e-3.
    assert (
        largest_difference(found["tensors"], expected["tensors"])
        < 2e-4 * case.algorithm.updates_per_batch
    )


def test_three_steps_change_the_loss_and_every_weight(folder: Path, tied_model: Path) -> None:
    found = found_in(folder, "one piece")
    losses = [report.loss for report in found["reports"]]
    assert losses[-1] < losses[0]
    before = AutoModelForCausalLM.from_pretrained(tied_model, dtype=torch.float32)
    for name, parameter in before.named_parameters():
        assert not torch.equal(parameter, found["tensors"][name]), name


def test_the_kl_starts_at_nothing_and_grows_away_from_the_starting_policy(folder: Path) -> None:
    first, *later = (report.kl for report in found_in(folder, "adapters")["reports"])
    assert first == pytest.approx(0, abs=1e-9)
    assert all(kl > 1e-9 for kl in later)
    # Mean over two updates, the first of which is taken at the starting policy itself.
    assert found_in(folder, "all parts")["reports"][0].kl > 0
    assert found_in(folder, "one piece")["reports"][-1].kl == 0


def test_further_updates_on_a_batch_change_the_weights_and_not_its_mismatch(folder: Path) -> None:
    once, twice = found_in(folder, "one piece"), found_in(folder, "all parts")
    ours, theirs = twice["reports"][0], once["reports"][0]
    for key in ("mismatch_kl", "max_ratio", "logprob_difference", "num_tokens"):
        assert getattr(ours, key) == pytest.approx(getattr(theirs, key), rel=1e-6), key
    assert largest_difference(once["tensors"], twice["tensors"]) > 1e-3


def test_adapters_change_the_layers_they_stand_beside_and_nothing_else(
    folder: Path, tied_model: Path
) -> None:
    found = found_in(folder, "adapters")
    before = dict(AutoModelForCausalLM.from_pretrained(tied_model).named_parameters())
    assert found["tensors"].keys() == before.keys()
    for name, tensor in found["tensors"].items():
        is_linear = "_proj." in name
        assert torch.equal(tensor, before[name]) != is_linear, name
        if is_linear:
            assert torch.linalg.matrix_rank(tensor - before[name], rtol=1e-3) <= 4, name


def test_the_kl_of_adapters_is_taken_to_the_weights_beside_them(folder: Path) -> None:
    first, *_, last = found_in(folder, "adapters")["reports"]
    assert first.kl == pytest.approx(0, abs=1e-9)  # before any step
    assert last.kl > 1e-8


def test_the_learning_rate_follows_the_warm_up(folder: Path) -> None:
    rates = [report.lr for report in found_in(folder, "one piece")["reports"]]
    assert rates == pytest.approx([5e-4, 1e-3, 1e-3])


def test_muon_gives_the_same_result_on_two_ranks(folder: Path) -> None:
    alone, together = found_in(folder, "muon"), found_in(folder, "two ranks, muon")
    for ours, theirs in zip(together["reports"], alone["reports"], strict=True):
        assert ours.loss == pytest.approx(theirs.loss, rel=1e-5)
    # In float32 1e-7 to 3e-7; orthogonalised in float16, as some processors offer it, 2e-4.
    assert largest_difference(together["tensors"], alone["tensors"]) < 1e-5


@pytest.mark.parametrize("name", SAVED)
def test_a_restored_learner_takes_the_same_step_bit_for_bit(folder: Path, name: str) -> None:
    found = found_in(folder, name)
    for key in ("loss", "kl", "grad_norm", "lr"):
        assert getattr(found["again"], key) == getattr(found["reports"][-1], key)
    assert largest_difference(found["tensors again"], found["tensors"]) == 0.0


@pytest.mark.parametrize("name", CHANGED)
def test_a_restored_optimiser_has_the_settings_of_the_run_that_goes_on(
    folder: Path, name: str
) -> None:
    found = found_in(folder, name)
    assert set(found["decays"]) == {0.5}
    assert set(found["clip"]) <= {0.25, 0}
    before, after = found["decayed"]
    plain = found["tensors"]
    # Decay of 0.5 at a rate of 1e-3 takes 0.05 % from every weight, beside Adam's own step.
    weight = "model.embed_tokens.weight"
    taken = (plain[weight] - after[weight]) / before[weight]
    assert float(taken.median()) == pytest.approx(1e-3 * 0.5, rel=0.2)


def test_two_ranks_go_on_with_what_one_saved(folder: Path) -> None:
    expected, found = found_in(folder, "one piece")["reports"][-1], found_in(folder, "two ranks")
    assert found["taken over"].loss == pytest.approx(expected.loss, rel=1e-5)
    assert found["taken over"].grad_norm == pytest.approx(expected.grad_norm, rel=1e-4)
    assert found["taken over"].lr == expected.lr


def test_a_state_file_that_holds_code_is_refused_and_not_run(folder: Path) -> None:
    said, has_run = found_in(folder, "one piece")["payload"]
    assert "weights_only" in said.lower() or "Weights only" in said
    assert not has_run


@pytest.mark.parametrize("name", SAVED)
def test_a_gradient_that_is_not_finite_is_reported_as_such(folder: Path, name: str) -> None:
    report = found_in(folder, name)["endless"]
    assert not math.isfinite(report.loss) and not math.isfinite(report.grad_norm)


@pytest.mark.parametrize("name", SAVED)
def test_the_exported_model_loads_and_holds_the_learners_weights(folder: Path, name: str) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder / name / "model")
    exported = dict(model.named_parameters())
    assert largest_difference(exported, found_in(folder, name)["tensors"]) == 0.0
    assert len(AutoTokenizer.from_pretrained(folder / name / "model")) == model.config.vocab_size
