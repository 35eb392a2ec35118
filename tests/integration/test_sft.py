"""The supervised stage on real Ray Train and DeepSpeed ranks."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from actors.sft import run_sft
from t2g_ray.config import SftConfig, load_config
from t2g_ray.metrics import read_metrics
from t2g_ray.rundir import RunDir

CONFIG = Path(__file__).parents[2] / "configs" / "demo_sft.yaml"
STEPS = 12


def config_of(run_dir: Path, *overrides: str) -> SftConfig:
    few = ("data.train_records=200", f"steps={STEPS}", "checkpoint.every=5")
    return load_config(
        SftConfig,
        CONFIG,
        [f"run_dir={run_dir}", *few, "learner.optimizer.warmup_steps=2", *overrides],
    )


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A run of two ranks, from first to last step."""
    return run_sft(config_of(tmp_path_factory.mktemp("sft") / "straight"))


def weights(run_dir: RunDir) -> Mapping[str, Any]:
    state: Mapping[str, Any] = AutoModelForCausalLM.from_pretrained(run_dir.model).state_dict()
    return state


def losses(run_dir: RunDir) -> list[float]:
    return [float(line["loss"] or 0.0) for line in read_metrics(run_dir.metrics)]


def test_two_ranks_learn_and_leave_a_whole_run_folder(straight: RunDir) -> None:
    lines = read_metrics(straight.metrics)
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    assert all((line["tokens/trained"] or 0) > 0 for line in lines)
    assert losses(straight)[-1] < losses(straight)[0] - 0.5
    assert [folder.name for folder in sorted(straight.checkpoints.iterdir())] == [
        "step_000010",
        "step_000012",
    ]
    tokenizer = AutoTokenizer.from_pretrained(straight.model)
    assert weights(straight)["model.embed_tokens.weight"].shape[0] == len(tokenizer)
    assert (straight.model / "t2g.json").exists()


def test_a_resumed_run_gives_the_same_weights_bit_for_bit(straight: RunDir) -> None:
    killed = RunDir(straight.path.with_name("killed"))
    shutil.copytree(straight.path, killed.path)
    shutil.rmtree(killed.checkpoint(STEPS))
    shutil.rmtree(killed.model)
    assert run_sft(config_of(killed.path, "resume=auto")) == killed
    expected, found = weights(straight), weights(killed)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert losses(killed) == losses(straight)
    times = [line["time_s"] or 0.0 for line in read_metrics(killed.metrics)]
    assert times == sorted(times)


def test_one_rank_gives_the_losses_of_two(straight: RunDir) -> None:
    single = run_sft(config_of(straight.path.with_name("single"), "learner.ranks=1"))
    assert losses(single) == pytest.approx(losses(straight), rel=1e-4)


def test_a_failing_rank_ends_the_run_in_its_own_words(straight: RunDir) -> None:
    run_dir = straight.path.with_name("failing")
    with pytest.raises(ValueError, match=r"must fit learner\.token_budget=16, found \d+ tokens"):
        run_sft(config_of(run_dir, "learner.ranks=1", "learner.token_budget=16"))
    assert not RunDir(run_dir).model.exists()
