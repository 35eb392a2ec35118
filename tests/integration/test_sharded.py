"""Two real ranks under ZeRO-3: what each takes to read a model, and what they compute with it.

Memory is that of the process: anonymous, of mapped files, and shared, sampled every millisecond.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as multiprocessing
from transformers import (
    AutoModelForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from t2g_ray.config import AlgorithmConfig, LearnerConfig, OptimizerConfig
from t2g_ray.model.policy import save_policy
from t2g_ray.records.corpus import build_tokenizer
from tests.integration.test_learner import share_of
from tests.ports import free_port

RANKS = 2
STEPS = 2
SMALL: dict[str, int] = {"hidden_size": 512, "num_hidden_layers": 7, "num_attention_heads": 8}
"""21 M parameters with the embedded vocabulary."""
LARGE: dict[str, int] = {
    "vocab_size": 49152,
    "hidden_size": 576,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
}
"""SmolLM2-135M, by its sizes; https://huggingface.co/HuggingFaceTB/SmolLM2-135M."""


def write_random(folder: Path, sizes: dict[str, int]) -> Path:
    tokenizer = build_tokenizer()
    fixed: dict[str, Any] = {"intermediate_size": 1536, "head_dim": 64, "num_key_value_heads": 2}
    fixed |= {"vocab_size": len(tokenizer), "tie_word_embeddings": True, "dtype": "float32"}
    torch.manual_seed(0)
    save_policy(Qwen3ForCausalLM(Qwen3Config(**fixed | sizes)), tokenizer, folder)
    return folder


def write_experts(folder: Path) -> Path:
    """A model in bf16 and many files, whose parameters hold what several tensors of files do."""
    config = Qwen3MoeConfig(
        vocab_size=len(build_tokenizer()),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=16,
        dtype="bfloat16",
    )
    torch.manual_seed(0)
    build_tokenizer().save_pretrained(folder)
    policy = Qwen3MoeForCausalLM(config).to(torch.bfloat16)
    policy.generation_config.max_new_tokens = 7
    policy.save_pretrained(folder, max_shard_size="20KB")
    return folder


@torch.no_grad()
def is_read_alike(folder: Path) -> bool:
    """Whether a split model is the one that transformers reads, and computes what it computes."""
    from t2g_ray.model.files.sharded import is_split, layer_by_layer, read_sharded, whole

    expected = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    found, ids = read_sharded(folder, dtype=torch.float32), torch.arange(3, 15)[None]
    names = [[name for name, _ in policy.named_parameters()] for policy in (found, expected)]
    same = [names[0] == names[1]]
    same.append(found.generation_config.to_dict() == expected.generation_config.to_dict())
    for own, other in zip(found.parameters(), expected.parameters(), strict=True):
        same.append(is_split(own) and own.numel() == 0)
        with whole([own]):
            same.append(torch.equal(own, other))
        same.append(own.numel() == 0)
    for own_buffer, buffer in zip(found.buffers(), expected.buffers(), strict=True):
        same.append(own_buffer.dtype == buffer.dtype and torch.equal(own_buffer, buffer))
    with layer_by_layer(found):
        logits = found(input_ids=ids).logits
    same.append(torch.equal(logits, expected(input_ids=ids).logits))
    same.append(all(parameter.numel() == 0 for parameter in found.parameters()))
    return all(same)


def resident_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    kib = [int(line.split()[1]) for line in lines if line.startswith("Rss")]
    assert len(kib) == 3  # anonymous, of files, shared
    return sum(kib) * 1024


class Watch:
    """Looks at the resident memory of this process while the block runs."""

    def __enter__(self) -> Watch:
        self._before = self._most = resident_bytes()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def _look(self) -> None:
        while not self._is_over.wait(0.001):
            self._most = max(self._most, resident_bytes())

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    @property
    def added(self) -> int:
        """Bytes at the highest point, above those before the block."""
        return max(self._most, resident_bytes()) - self._before


@dataclass(frozen=True)
class Found:
    """What a rank saw."""

    loading: float
    """Highest memory above that before, as a share of the whole model."""
    exporting: float
    is_alike: tuple[bool, bool]
    """Of a tied model, and of one with experts."""
    losses: dict[int, list[float]]
    """By ZeRO stage."""
    kls: dict[int, list[float]]


def run_rank(rank: int, port: int, tied: Path, experts: Path, model: Path, out: Path) -> None:
    """What a spawned process does."""
    torch.set_num_threads(1)
    from t2g_ray.learner.learner import Learner, LearnerSpec
    from t2g_ray.learner.ranks import join_ranks
    from t2g_ray.model.files.sharded import whole_shape
    from t2g_ray.model.policy import load_policy

    join_ranks(rank=rank, num_ranks=RANKS, address="127.0.0.1", port=port, is_cpu=True)

    def learner_of(stage: int) -> Learner:
        fields: dict[str, Any] = {"zero_stage": stage, "ranks": RANKS, "token_budget": 512}
        return Learner(
            LearnerSpec(
                model=str(model),
                config=LearnerConfig(optimizer=OptimizerConfig(lr=1e-4), **fields),
                algorithm=AlgorithmConfig(kl_coef=0.1),
                temperature=0.9,
                total_steps=10,
                seed=0,
            )
        )

    # Code and communicators that any model needs are there before the watch begins.
    is_alike = is_read_alike(tied), is_read_alike(experts)
    with Watch() as watch:
        policy, _ = load_policy(model, torch.float32, is_sharded=True)
    size = sum(4 * whole_shape(parameter).numel() for parameter in policy.parameters())
    loading = watch.added / size
    del policy
    losses, kls, exporting = dict[int, list[float]](), dict[int, list[float]](), 0.0
    for stage in (0, 3):
        learner = learner_of(stage)
        reports = [learner.step(share_of(rank, RANKS), divisor=100.0) for _ in range(STEPS)]
        losses[stage] = [report.loss for report in reports]
        kls[stage] = [report.kl for report in reports]
        if stage == 3:
            with Watch() as watch:
                learner.export(out / "model")
            exporting = watch.added / size
            tensors = {name: tensor.clone() for name, tensor in learner.named_tensors()}
            if rank == 0:
                torch.save(tensors, out / "tensors.pt")
        del learner
    torch.save(Found(loading, exporting, is_alike, losses, kls), out / f"{rank}.pt")
    torch.distributed.barrier()
    # All is written. Threads of torch.distributed may abort an interpreter that shuts down.
    os._exit(0)


@pytest.fixture(
    scope="module",
    params=["small", pytest.param("large", marks=[pytest.mark.long, pytest.mark.timeout(900)])],
)
def out(
    request: pytest.FixtureRequest, tied_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("sharded")
    sizes = {"small": SMALL, "large": LARGE}[request.param]
    model = write_random(folder / "start", sizes)
    multiprocessing.spawn(  # type: ignore[attr-defined, no-untyped-call]
        run_rank,
        (free_port(), tied_model, write_experts(folder / "experts"), model, folder),
        nprocs=RANKS,
    )
    return folder


def found_in(out: Path) -> list[Found]:
    return [torch.load(out / f"{rank}.pt", weights_only=False) for rank in range(RANKS)]


def test_a_split_model_is_the_one_that_transformers_reads(out: Path) -> None:
    for found in found_in(out):
        assert found.is_alike == (True, True)


def test_no_rank_holds_the_whole_model_while_it_is_read(out: Path) -> None:
    shares = [found.loading for found in found_in(out)]
    print("shares of the whole model while loading:", shares)
    assert all(0.45 < share < 0.75 for share in shares)


def test_no_rank_holds_the_whole_model_while_it_is_written(out: Path) -> None:
    shares = [found.exporting for found in found_in(out)]
    print("shares of the whole model while writing:", shares)
    assert all(share < 0.5 for share in shares)


def test_losses_and_kl_are_those_of_whole_models(out: Path) -> None:
    for found in found_in(out):
        assert found.losses[3] == pytest.approx(found.losses[0], rel=1e-5)
        assert found.kls[3] == pytest.approx(found.kls[0], rel=1e-3, abs=1e-7)
        assert found.kls[3][-1] > 0


def test_the_written_model_is_the_learners(out: Path) -> None:
    learned = torch.load(out / "tensors.pt")
    read = dict(AutoModelForCausalLM.from_pretrained(out / "model").named_parameters())
    assert read.keys() == learned.keys()
    assert all(torch.equal(read[name], tensor) for name, tensor in learned.items())
