"""A learner's part in a device that it has in turns with an engine: there, or away.

Away: what the optimiser holds is parked in host memory, and the reference policy with it; only what
a forward pass of the policy reads is left on the device. Weights are gathered and checkpoints
written in either state, steps and restores in the first alone. Not yet run on a GPU.

Invariant: a step after `leave` and `come_back`, and after `rehearse`, is bit for bit the step that
it would have been.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from t2g_ray.learner.learner import Learner
from t2g_ray.learner.turns.parking import Parking, held_by
from t2g_ray.model.files.sharded import whole_shape
from t2g_ray.types import Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceMemory:
    """Bytes of a rank's device, as its driver counts them; all 0 on a CPU."""

    total: int
    free: int
    """What no process holds at the moment."""
    peak: int
    """The most that this rank took of its device so far, or will take in an optimiser step."""
    held: int
    """What this rank takes at the moment."""
    num_parameters: int
    """Numbers in the whole model."""

    @property
    def left(self) -> int:
        """What this rank leaves to others while it trains."""
        return self.free - max(0, self.peak - self.held)


class LearnerTurns:
    """Takes one rank off its device and back. Methods are collective where the learner's are."""

    def __init__(self, learner: Learner) -> None:
        self._learner = learner
        self._parking = Parking()
        self._peak = 0

    @property
    def is_away(self) -> bool:
        """Whether the optimiser's part is off the device."""
        return self._parking.is_full

    def rehearse(self, *, prompt_tokens: int, new_tokens: int) -> None:
        """Compute the largest micro-batch once, so that memory stands where it will stand."""
        self.check_there("a rehearsal")
        budget = self._learner.token_budget
        self._learner.rehearse(longest_samples(prompt_tokens, new_tokens, budget))
        self._note_peak()

    def leave(self) -> None:
        """Move what the optimiser holds, and the reference policy, to the host."""
        self.check_there("leaving the device")
        engine = self._learner.engine
        held = held_by(engine.optimizer, engine.module)
        self._parking.park([*held, *self._learner.reference_tensors])

    def come_back(self) -> None:
        """Bring it back to the device."""
        self._parking.bring_back()

    def check_there(self, work: str) -> None:
        """Raises RuntimeError where the optimiser's part is away."""
        if self.is_away:
            raise RuntimeError(
                f"{work} needs the learner on its device, found its optimiser's states away: the "
                "engine has its turn; let the learner come back first"
            )

    def save(self, folder: Path) -> list[Path]:
        """`Learner.save`, also while the optimiser's part is away."""
        with self._parking.readable():
            return self._learner.save(folder)

    def memory(self) -> DeviceMemory:
        """Where the device's memory stands now."""
        module = self._learner.engine.module
        numbers = sum(whole_shape(p).numel() for p in module.parameters())
        device = self._learner.device
        if device.type == "cpu":
            return DeviceMemory(total=0, free=0, peak=0, held=0, num_parameters=numbers)
        free, total = torch.accelerator.get_memory_info(device)
        return DeviceMemory(
            total=total,
            free=free,
            peak=max(self._peak, torch.accelerator.max_memory_reserved(device)),
            held=torch.accelerator.memory_reserved(device),
            num_parameters=numbers,
        )

    def _note_peak(self) -> None:
        """What an optimiser step will take: AdamW of torch holds one more tensor of the size of its
        weights in fp32, unless it is fused."""
        device = self._learner.device
        if device.type == "cpu":
            return
        groups = self._learner.engine.optimizer.param_groups
        updated = [p for group in groups for p in group["params"] if p.device == device]
        allocated = torch.accelerator.memory_allocated(device)
        self._peak = allocated + 4 * sum(p.numel() for p in updated)


def longest_samples(prompt_tokens: int, new_tokens: int, token_budget: int) -> list[Sample]:
    """As many samples of the longest prompt and answer as one micro-batch holds, at least one.

    Each has a prompt of its own, so that packed and padded rows have as many tokens.
    """
    # The last token of an answer is not computed.
    number = max(1, token_budget // (prompt_tokens + new_tokens - 1))
    return [_sample(i, prompt_tokens, new_tokens) for i in range(number)]


def _sample(number: int, prompt_tokens: int, new_tokens: int) -> Sample:
    return Sample(
        group=number,
        prompt_ids=(0,) * prompt_tokens,
        completion_ids=np.zeros(new_tokens, dtype=np.int32),
        sampler_logprobs=np.zeros(new_tokens, dtype=np.float32),
        versions=np.zeros(new_tokens, dtype=np.int32),
        advantage=0.0,
    )
