"""The supervised stage on real Ray Train and DeepSpeed ranks.

Each rank runs `t2g_ray.sft.rank` with the learner of `t2g_ray.sft.learner`.
"""

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
from t2g_ray.prompts.load import load_split
from t2g_ray.run.folder import RunDir
from t2g_ray.run.jsonlines import read_json_lines
from t2g_ray.run.metrics import read_metrics
from t2g_ray.sft.batches import encode_examples

CONFIG = Path(__file__).parents[2] / "configs" / "demo_sft.yaml"
STEPS = 12
NUM_HELDOUT = 9  # an odd number: the ranks' shares differ


def config_of(run_dir: Path, *overrides: str) -> SftConfig:
    few = ("data.train_records=200", f"steps={STEPS}", "checkpoint.every=5")
    evaluation = ("eval.every=5", f"data.heldout_records={NUM_HELDOUT}")
    return load_config(
        SftConfig,
        CONFIG,
        [f"run_dir={run_dir}", *few, *evaluation, "learner.optimizer.warmup_steps=2", *overrides],
    )


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A run of two ranks, from first to last step."""
    return run_sft(config_of(tmp_path_factory.mktemp("sft") / "straight"))


def weights(run_dir: RunDir) -> Mapping[str, Any]:
    state: Mapping[str, Any] = AutoModelForCausalLM.from_pretrained(run_dir.model).state_dict()
    return state


def held_out(run_dir: RunDir) -> dict[int, float]:
    """Held-out loss by step."""
    return {line["step"]: line["loss"] for line in read_json_lines(run_dir.evals)}


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


def test_the_held_out_loss_is_that_of_the_exported_model(straight: RunDir) -> None:
    lines = list(read_json_lines(straight.evals))
    assert [line["step"] for line in lines] == [0, 5, 10, STEPS]
    assert all((line["records"], line["records/left_out"]) == (NUM_HELDOUT, 0) for line in lines)
    assert [line["time_s"] for line in lines] == [0.0] + [
        read_metrics(straight.metrics)[step - 1]["time_s"] for step in (5, 10, STEPS)
    ]
    config = config_of(straight.path)
    model = AutoModelForCausalLM.from_pretrained(straight.model).eval()
    tokenizer = AutoTokenizer.from_pretrained(straight.model)
    encoded = encode_examples(
        tokenizer,
        load_split(config, "heldout"),
        config.prompt,
        max_positions=None,
        token_budget=4096,
    )
    total, num_tokens = 0.0, 0
    for sample in encoded.examples:
        ids = torch.tensor([[*sample.prompt_ids, *sample.completion_ids.tolist()]])
        with torch.no_grad():
            log_p = torch.log_softmax(model(ids).logits[0, :-1], dim=-1)
        answer = log_p.gather(-1, ids[0, 1:, None])[len(sample.prompt_ids) - 1 :]
        total, num_tokens = total - float(answer.sum()), num_tokens + len(answer)
    assert held_out(straight)[STEPS] == pytest.approx(total / num_tokens, rel=1e-4)
    assert held_out(straight)[STEPS] < held_out(straight)[0]


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
    assert held_out(killed) == held_out(straight)
    times = [line["time_s"] or 0.0 for line in read_metrics(killed.metrics)]
    assert times == sorted(times)


def test_one_rank_gives_the_losses_of_two(straight: RunDir) -> None:
    single = run_sft(config_of(straight.path.with_name("single"), "learner.ranks=1"))
    assert losses(single) == pytest.approx(losses(straight), rel=1e-4)
    assert held_out(single) == pytest.approx(held_out(straight), rel=1e-4)


def test_a_failing_rank_ends_the_run_in_its_own_words(straight: RunDir) -> None:
    run_dir = straight.path.with_name("failing")
    with pytest.raises(ValueError, match=r"must fit learner\.token_budget=16, found \d+ tokens"):
        run_sft(config_of(run_dir, "learner.ranks=1", "learner.token_budget=16"))
    assert not RunDir(run_dir).model.exists()
