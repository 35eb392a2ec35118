"""Settings and the shape of a model -> the memory that one learner rank holds, part by part.

What DeepSpeed 0.19 keeps at each ZeRO stage was read in its sources (runtime/engine.py,
zero/stage_1_and_2.py, zero/stage3.py, fp16/unfused_optimizer.py). Attention is taken to keep no
matrix of scores, as flash kernels do.
"""

from __future__ import annotations

from dataclasses import dataclass

from t2g_ray.config import GrpoConfig, LearnerConfig, StageConfig
from t2g_ray.config.learner import MAX_BUCKET_NUMBERS
from t2g_ray.planning.memory.held import MIB, Footprint, Held
from t2g_ray.planning.memory.processes import base_bytes
from t2g_ray.planning.shapes import BYTES, ModelShape, trained_parameters

Parts = dict[str, int]

REUSED_NUMBERS = 500_000_000
"""ZeRO-3 keeps gathered parameters that come again within twice as many (its reuse distance is
1e9): around the turn from the forward to the backward pass."""
CHUNK_COPIES = 4
ENTROPY_COPIES = 2
"""More of them with an entropy bonus."""
STEP_COPIES = 2
"""Of the tensor that it updates, in an AdamW that is no fused kernel: a root and a quotient."""


def rank_footprint(config: StageConfig, shape: ModelShape) -> Footprint:
    """What one rank holds at every moment of a step."""
    rank = _Rank(config, shape)
    host = {**rank.host, "process": base_bytes("learner", config.device)}
    device = {"context": base_bytes("learner on a card", config.device)} if rank.is_cuda else {}
    parked = rank.parked if rank.takes_turns else {}
    stays = {name: size for name, size in rank.states.items() if name not in parked}
    waiting = stays if rank.takes_turns else rank.states
    waits = {**host, **({"parked": sum(parked.values())} if parked else {})}
    copy = rank.shared_copy
    kept = {} if rank.takes_turns else copy
    return {
        "starting": Held({}, {**rank.read, "process": host["process"]}),
        "computing": Held(_some({**device, **rank.states, **kept, **rank.computing}), host),
        "updating": Held(_some({**device, **rank.states, **kept, **rank.updating}), host),
        "handing over": Held({**device, **waiting, **copy}, waits),
        "writing": Held({**device, **waiting, **kept}, waits),
    }


@dataclass(frozen=True, slots=True)
class _Rank:
    """Sizes of one rank, in bytes."""

    config: StageConfig
    shape: ModelShape

    @property
    def learner(self) -> LearnerConfig:
        return self.config.learner

    @property
    def is_cuda(self) -> bool:
        return self.config.device == "cuda"

    @property
    def takes_turns(self) -> bool:
        return isinstance(self.config, GrpoConfig) and self.config.colocate == "time"

    @property
    def width(self) -> int:
        return BYTES[self.learner.dtype]

    @property
    def trained(self) -> int:
        """Numbers that are trained."""
        return trained_parameters(self.learner, self.shape)

    def share(self, numbers: int, stage: int) -> int:
        """Of something that DeepSpeed shards from this stage on."""
        return -(-numbers // self.learner.ranks) if self.learner.zero_stage >= stage else numbers

    @property
    def states(self) -> Parts:
        """What is there between two steps, on the device."""
        held = {"weights": self.width * self.share(self.shape.parameters, 3)}
        if self.learner.lora.rank:
            held["adapters"] = self.width * self.share(self.trained, 3)
        if self._has_reference:
            held["reference"] = held["weights"]
        if not self.learner.has_optimizer_on_host:
            held |= self._optimizer
        if self.learner.zero_stage == 3:
            held["gradients"] = self.gradients
            held["reduce bucket"] = self._bucket
        return _some(held)

    @property
    def _has_reference(self) -> bool:
        config = self.config
        if not isinstance(config, GrpoConfig) or self.learner.lora.rank:
            return False
        return config.algorithm.kl_coef > 0

    @property
    def _optimizer(self) -> Parts:
        # Without sharding DeepSpeed updates weights in fp32 themselves. Stage 3 means to, but finds
        # them on another device, since it compares a device with a name.
        is_copied = self.width == 2 or self.learner.zero_stage > 0
        numbers = self.share(self.trained, 1)
        masters = 4 * numbers if is_copied else 0
        return {"master weights": masters, "moments": self._moments}

    @property
    def _moments(self) -> int:
        if self.learner.optimizer.name == "muon" and not self.learner.lora.rank:
            ends = self.shape.head * (1 if self.shape.is_tied else 2)
            return 4 * (self.trained - ends) + 8 * ends
        return 8 * self.share(self.trained, 1)

    @property
    def gradients(self) -> int:
        """In fp32; stage 1 adds its own part of them once more when it reduces."""
        return 4 * self.share(self.trained, 2)

    @property
    def _bucket(self) -> int:
        """Where gradients are put to be reduced: stage 1 as they are summed, later ones as they are
        computed; without sharding they are put together only then."""
        width = (0, 4, self.width, self.width)[self.learner.zero_stage]
        return width * min(MAX_BUCKET_NUMBERS, self.trained)

    @property
    def _reducing(self) -> int:
        """Copies of a bucket while it is reduced: in fp32, and in the order of the ranks; Gloo, on
        CPUs, scatters from another copy."""
        typed = 4 if self.width < 4 else 0
        scattered = typed + (4 if self.is_cuda else 8)
        width = (4, 0, typed, scattered)[self.learner.zero_stage]
        return width * min(MAX_BUCKET_NUMBERS, self.trained)

    @property
    def computing(self) -> Parts:
        """What comes to the states in a backward pass."""
        stage = self.learner.zero_stage
        held = {} if stage == 3 else {"gradients": self.gradients}
        if stage == 3:
            gathered = min(self.shape.parameters, REUSED_NUMBERS + self.shape.head)
            held["gathered layers"] = self.width * gathered
        if stage == 2:
            held["reduce bucket"] = self._bucket
        if stage >= 2 and self.trained > MAX_BUCKET_NUMBERS:
            # It is full, and reduced, before the backward pass is over.
            held["reduced copies"] = self._reducing
        held["activations"] = self.learner.token_budget * self._kept_of_a_token
        held["head chunks"] = self._head
        return held

    @property
    def updating(self) -> Parts:
        """What comes to the states when gradients are reduced and weights updated."""
        stage = self.learner.zero_stage
        held = {} if stage == 3 else {"gradients": self.gradients}
        if stage < 3:
            held["reduce bucket"] = self._bucket
        held["reduced copies"] = self._reducing
        if not self.learner.has_optimizer_on_host:
            held["copies of the step"] = self._step
        if not self.is_cuda:
            held |= {name: size for name, size in self.computing.items() if name in _SMALL_PIECES}
        return held

    @property
    def _step(self) -> int:
        flat = 4 * self.share(self.trained, 1) if self.learner.zero_stage in (1, 2) else 0
        if self.is_cuda:
            return flat
        tensor = self.share(self.trained, 1) if self.learner.zero_stage else self.shape.head
        return flat + 4 * STEP_COPIES * min(self.trained, tensor)

    @property
    def _head(self) -> int:
        """Chunks of logits, and the gradient of the vocabulary's matrix in fp32 and as trained."""
        config = self.config
        has_bonus = isinstance(config, GrpoConfig) and config.algorithm.entropy_coef > 0
        copies = CHUNK_COPIES + (ENTROPY_COPIES if has_bonus else 0)
        logits = 4 * self.shape.vocab * self.learner.token_budget
        chunk = min(self.learner.head_chunk_mib * MIB, logits)
        return copies * chunk + self.shape.head * (4 + (self.width if self.width < 4 else 0))

    @property
    def _kept_of_a_token(self) -> int:
        """Of all layers, or the input of each and all of the one that is recomputed."""
        width, layers, hidden = self.width, self.shape.layers, self.shape.hidden
        layer, ends = self.shape.kept_by_layer(width), 3 * width * hidden
        if self.learner.gradient_checkpointing:
            inputs = 0 if self.learner.has_activations_on_host else layers * width * hidden
            return inputs + layer + ends
        return layers * layer + ends

    @property
    def host(self) -> Parts:
        """What settings move off the device."""
        held: Parts = {}
        if self.learner.has_optimizer_on_host:
            held |= self._optimizer
            held["gradients on the host"] = 4 * self.share(self.trained, 1)
        if self.learner.has_activations_on_host:
            inputs = self.shape.layers * self.width * self.shape.hidden
            held["activations on the host"] = self.learner.token_budget * inputs
        return _some(held)

    @property
    def read(self) -> Parts:
        """A whole model, before it goes to a device; with stage 3 each rank reads its part."""
        if not self.is_cuda or self.learner.zero_stage == 3:
            return {}
        return {"model that is read": self.width * self.shape.parameters}

    @property
    def parked(self) -> Parts:
        """What waits in host memory while an engine has the device."""
        return {name: size for name, size in self.states.items() if name not in _READ}

    @property
    def shared_copy(self) -> Parts:
        """The weights that an engine on this device reads."""
        config = self.config
        if not isinstance(config, GrpoConfig) or config.sync.transport != "ipc":
            return {}
        return {"buckets in flight": BYTES[config.rollout.dtype] * self.shape.parameters}


def _some(parts: Parts) -> Parts:
    return {name: size for name, size in parts.items() if size}


_SMALL_PIECES = ("gathered layers", "activations")
"""The C library keeps freed pieces of less than 32 MiB for later ones, so a CPU's memory has these
while gradients are reduced too."""
_READ = ("weights", "adapters")
"""What a forward pass reads stays on the device."""
