"""The same batch through TRL's GRPOTrainer and through this project: one loss, one gradient.

TRL runs its own code from rewards on: advantages, old and reference log-probs, loss. Between the
old log-probs and the loss both policies are moved alike, so that ratios differ from 1.
"""

from __future__ import annotations

import copy
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from t2g_ray.algorithm.advantages import plan_advantages
from t2g_ray.algorithm.loss import TokenBatch, loss_divisor, policy_loss
from t2g_ray.config import AlgorithmConfig
from t2g_ray.learner.batching import collate_policy
from t2g_ray.learner.logprobs import TokenLogProbs
from t2g_ray.model.packed_attention import enable_packing
from t2g_ray.model.policy import build_tiny_policy, load_policy, save_policy
from t2g_ray.records.corpus import build_tokenizer
from t2g_ray.types import GroupSummary, Sample
from tests.unit.parts import group_summary

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("trl") is None,
        reason="trl is not installed; requirements/common.txt pins it, `make setup` installs it",
    ),
    # The first import of TRL takes long on a busy machine.
    pytest.mark.timeout(300),
]

TEMPERATURE = 0.9
MAX_NEW_TOKENS = 12
LENGTHS = ((5, 12, 3, 7), (1, 9, 12, 4))
REWARDS = ((0.0, 1.0, 0.25, 2.0), (1.0, 1.0, 0.5, 0.0))
PROMPTS = ((301, 302, 303, 304, 305, 306, 307), (400, 401, 402))


@dataclass(frozen=True)
class Case:
    """One algorithm in the words of both."""

    name: str
    ours: dict[str, Any]
    theirs: dict[str, Any]
    is_first_update: bool = False


CLIP = {"clip_low": 0.1, "clip_high": 0.15}
CASES = (
    Case("grpo", {"normalisation": "sequences"}, {"loss_type": "grpo"}),
    Case("bnpo", {"normalisation": "tokens"}, {"loss_type": "bnpo"}),
    Case("dapo", {"normalisation": "tokens"}, {"loss_type": "dapo"}),
    Case(
        "dr_grpo",
        {"normalisation": "constant", "advantage": "group_mean"},
        {"loss_type": "dr_grpo", "scale_rewards": "none"},
    ),
    Case(
        "gspo",
        {"normalisation": "sequences", "ratio": "sequence"},
        {"loss_type": "grpo", "importance_sampling_level": "sequence"},
    ),
    # TRL's bound of CISPO is the largest ratio itself, not its distance from 1.
    Case("cispo", {"objective": "cispo"}, {"loss_type": "cispo", "epsilon_high": 1.15}),
)


def completions(group: int) -> list[list[int]]:
    """Ids of a group's completions; the last token ends those shorter than the limit."""
    random = np.random.default_rng(group)
    rows = [[int(x) for x in random.integers(300, 480, n)] for n in LENGTHS[group]]
    end = build_tokenizer().eos_token_id
    return [row if len(row) == MAX_NEW_TOKENS else [*row[:-1], end] for row in rows]


def moved(policy: PreTrainedModel, scale: float) -> PreTrainedModel:
    """A copy whose weights differ a little, as after an update."""
    result = copy.deepcopy(policy)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in result.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    return result


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedModel:
    """The policy that the run started from; TRL reads its own copy from the same folder."""
    folder, tokenizer = tmp_path_factory.mktemp("reference"), build_tokenizer()
    save_policy(build_tiny_policy(tokenizer, seed=0), tokenizer, folder)
    return load_policy(folder)[0].eval()


Rewards = tuple[tuple[float, ...], ...]


def summary(group: int, rewards: Rewards) -> GroupSummary:
    lengths = LENGTHS[group]
    return group_summary(
        group,
        rewards[group],
        lengths=lengths,
        prompt_tokens=len(PROMPTS[group]),
        is_truncated=tuple(length == MAX_NEW_TOKENS for length in lengths),
    )


def samples(algorithm: AlgorithmConfig, rewards: Rewards = REWARDS) -> list[Sample]:
    plans = plan_advantages([summary(group, rewards) for group in range(2)], algorithm)
    return [
        Sample(
            group=group,
            prompt_ids=PROMPTS[group],
            completion_ids=np.array(ids, np.int32),
            sampler_logprobs=np.zeros(len(ids), np.float32),
            versions=np.zeros(len(ids), np.int32),
            advantage=advantage,
        )
        for group, plan in enumerate(plans)
        for ids, advantage in zip(completions(group), plan, strict=True)
        if advantage is not None
    ]


def our_loss(
    reference: PreTrainedModel,
    algorithm: AlgorithmConfig,
    *,
    is_packed: bool,
    is_first_update: bool = False,
    rewards: Rewards = REWARDS,
) -> tuple[float, dict[str, torch.Tensor]]:
    """What the learner computes, in one micro-batch and on one rank."""
    batch = samples(algorithm, rewards)
    micro = collate_policy(batch, is_packed=is_packed)
    scales = (0.0, 0.02, 0.02 if is_first_update else 0.03)
    first, old, policy = (moved(reference, scale) for scale in scales)
    for each in (first, old, policy) if is_packed else ():
        assert enable_packing(each) is None
    with torch.no_grad():
        old_logprobs, _ = TokenLogProbs(old)(micro, TEMPERATURE)
        reference_logprobs, _ = TokenLogProbs(first)(micro, TEMPERATURE)
    logprobs, entropies = TokenLogProbs(policy)(micro, TEMPERATURE)
    sums = policy_loss(
        TokenBatch(
            logprobs=logprobs,
            entropies=entropies,
            old_logprobs=old_logprobs,
            # Here the sampler is the old policy itself.
            sampler_logprobs=old_logprobs,
            reference_logprobs=reference_logprobs if algorithm.kl_coef else None,
            advantages=micro.advantages,
            sample_of=micro.sample_of,
            is_current=micro.first_versions == 0,
        ),
        algorithm,
    )
    # Else the test would say nothing of the bounds.
    assert is_first_update or float(sums.clipped) > 0
    lengths = [len(sample.completion_ids) for sample in batch]
    loss = sums.loss / loss_divisor(lengths, algorithm, MAX_NEW_TOKENS)
    loss.backward()
    return loss.item(), gradients(policy)


def gradients(policy: PreTrainedModel) -> dict[str, torch.Tensor]:
    return {n: p.grad for n, p in policy.named_parameters() if p.grad is not None}


def their_loss(
    reference: PreTrainedModel,
    folder: Path,
    *,
    is_first_update: bool = False,
    rewards: Rewards = REWARDS,
    **settings: Any,
) -> tuple[float, dict[str, torch.Tensor]]:
    """What TRL's trainer computes from the rewards of the same ids."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    ids = [row for group in range(2) for row in completions(group)]

    def rollout(prompts: list[str], trainer: GRPOTrainer) -> dict[str, Any]:
        return {
            "prompt_ids": [list(PROMPTS[int(prompt)]) for prompt in prompts],
            "completion_ids": ids,
            "logprobs": [[0.0] * len(row) for row in ids],
        }

    def reward(**_: Any) -> list[float]:
        return [value for group in rewards for value in group]

    trainer = GRPOTrainer(
        model=moved(reference, 0.02),
        reward_funcs=reward,
        args=GRPOConfig(
            output_dir=str(folder),
            use_cpu=True,
            report_to="none",
            per_device_train_batch_size=8,
            num_generations=4,
            # With two updates TRL computes the old log-probs before the first.
            num_iterations=2,
            temperature=TEMPERATURE,
            max_completion_length=MAX_NEW_TOKENS,
            gradient_checkpointing=False,
            bf16=False,
            **{"epsilon": 0.1, "epsilon_high": 0.15, **settings},
        ),
        train_dataset=Dataset.from_list([{"prompt": "0"}, {"prompt": "1"}]),
        processing_class=build_tokenizer(),
        rollout_func=rollout,
    )
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.train()
    rows = [{"prompt": str(group)} for group in range(2) for _ in range(4)]
    inputs = trainer._generate_and_score_completions(rows)
    if not is_first_update:
        trainer.model.load_state_dict(moved(reference, 0.03).state_dict())
    loss = trainer.compute_loss(trainer.model, inputs)
    loss.backward()
    return loss.item(), gradients(trainer.model)


def assert_same(
    case: Case, reference: PreTrainedModel, folder: Path, *, scale: float = 1.0, **of: Any
) -> None:
    """One loss and one gradient, the latter up to a known `scale` of TRL's."""
    algorithm = AlgorithmConfig.model_validate({"advantage": "group_std", **CLIP, **case.ours})
    shared = {"is_first_update": case.is_first_update, **of}
    expected, expected_gradients = their_loss(reference, folder, **shared, **case.theirs)
    for is_packed in (True, False):
        found, gradients = our_loss(reference, algorithm, is_packed=is_packed, **shared)
        assert found == pytest.approx(scale * expected, abs=1e-5)
        assert gradients.keys() == expected_gradients.keys()
        for name, gradient in expected_gradients.items():
            torch.testing.assert_close(gradients[name], scale * gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_loss_and_gradient_equal_those_of_trl_after_an_update(
    case: Case, reference: PreTrainedModel, tmp_path: Path
) -> None:
    assert_same(case, reference, tmp_path)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_with_a_kl_the_first_update_equals_that_of_trl(
    case: Case, reference: PreTrainedModel, tmp_path: Path
) -> None:
    # Later ones do not: TRL then averages over tokens of the old policy, uncorrected.
    ours = {**case.ours, "kl_coef": 0.3}
    theirs = {**case.theirs, "beta": 0.3, "use_bias_correction_kl": False}
    assert_same(Case(case.name, ours, theirs, is_first_update=True), reference, tmp_path)


# With ratio=sequence TRL multiplies the estimate by the completion's ratio, whose gradient is not
# that of the KL.
BY_TOKEN = [case for case in CASES if "ratio" not in case.ours]


@pytest.mark.parametrize("case", BY_TOKEN, ids=[case.name for case in BY_TOKEN])
def test_with_an_unbiased_kl_later_updates_equal_those_of_trl(
    case: Case, reference: PreTrainedModel, tmp_path: Path
) -> None:
    ours = {**case.ours, "kl_coef": 0.3, "kl_unbiased": True}
    theirs = {**case.theirs, "beta": 0.3, "use_bias_correction_kl": True}
    assert_same(Case(case.name, ours, theirs), reference, tmp_path)


MASKED = {"loss_type": "dapo", "mask_truncated_completions": True}
EXTRAS = (
    # TRL's bonus is a mean over tokens, whatever the normalisation.
    Case("entropy", {"entropy_coef": 0.2}, {"loss_type": "dapo", "entropy_coef": 0.2}),
    Case("masked", {"mask_truncated": True}, MASKED),
)


@pytest.mark.parametrize("case", EXTRAS, ids=[case.name for case in EXTRAS])
def test_an_entropy_bonus_and_masked_completions_equal_those_of_trl(
    case: Case, reference: PreTrainedModel, tmp_path: Path
) -> None:
    assert_same(case, reference, tmp_path)


def test_a_group_of_equal_rewards_counts_in_trls_mean_and_not_here(
    reference: PreTrainedModel, tmp_path: Path
) -> None:
    tied = (REWARDS[0], (1.0,) * 4)
    scale = sum(map(sum, LENGTHS)) / sum(LENGTHS[0])
    case = Case("tied", {}, {"loss_type": "dapo"})
    assert_same(case, reference, tmp_path, scale=scale, rewards=tied)
