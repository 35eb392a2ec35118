"""The samples of a rehearsal, and a learner that is asked for work while it is away.

Real steps around leaving and coming back: tests/integration/test_turns.py.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from t2g_ray.learner.batching import cut
from t2g_ray.learner.turns.taking import LearnerTurns, longest_samples


@pytest.mark.parametrize("is_packed", [True, False])
@pytest.mark.parametrize(
    ("prompt", "answer", "budget", "number"), [(100, 29, 128, 1), (8, 9, 100, 6), (20, 1, 20, 1)]
)
def test_a_rehearsal_is_one_micro_batch_into_which_no_further_sample_fits(
    is_packed: bool, prompt: int, answer: int, budget: int, number: int
) -> None:
    samples = longest_samples(prompt, answer, budget)
    assert len(samples) == number
    assert len(cut(samples, token_budget=budget, is_packed=is_packed)) == 1
    more = longest_samples(prompt, answer, budget + prompt + answer)
    assert len(cut(more, token_budget=budget, is_packed=is_packed)) > 1


def turns() -> tuple[LearnerTurns, torch.optim.Optimizer]:
    module = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(module.parameters())
    module(torch.ones(3)).sum().backward()
    optimizer.step()
    engine = SimpleNamespace(optimizer=optimizer, module=module)
    learner: Any = SimpleNamespace(
        engine=engine, device=torch.device("cpu"), reference_tensors=[torch.ones(5)]
    )
    return LearnerTurns(learner), optimizer


def test_a_learner_that_is_away_refuses_work_and_says_whose_turn_it_is() -> None:
    taking, optimizer = turns()
    moments = [state["exp_avg"] for state in optimizer.state.values()]
    before = [moment.clone() for moment in moments]
    taking.check_there("a step")
    taking.leave()
    assert taking.is_away
    assert all(moment.untyped_storage().nbytes() == 0 for moment in moments)
    with pytest.raises(RuntimeError, match=r"a step needs the learner on its device.*engine has"):
        taking.check_there("a step")
    with pytest.raises(RuntimeError, match="leaving the device needs"):
        taking.leave()
    reference = taking._learner.reference_tensors[0]
    assert reference.untyped_storage().nbytes() == 0
    taking.come_back()
    assert reference.tolist() == [1.0] * 5
    assert not taking.is_away
    assert all(map(torch.equal, moments, before))


def test_the_numbers_of_the_whole_model_are_counted_shards_or_not() -> None:
    taking, _ = turns()
    assert taking.memory().num_parameters == 3 * 2 + 2
    module = taking._learner.engine.module
    module.weight.ds_shape = torch.Size([300, 2])
    assert taking.memory().num_parameters == 600 + 2
