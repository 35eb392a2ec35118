"""What the checks of one self-test share: hardware, model, a folder, and a pair of actors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from benchmarks.selftest.running import CheckSkipped
from benchmarks.selftest.settings import Hardware, selftest_config
from t2g_ray.config import GrpoConfig

if TYPE_CHECKING:
    from benchmarks.selftest.subjects.pair import Actors, Pair


class Finding(Protocol):
    """A line of `t2g doctor`."""

    @property
    def name(self) -> str:
        """What was looked at."""

    @property
    def found(self) -> str:
        """What is there."""

    @property
    def status(self) -> str:
        """good, note or missing."""

    @property
    def advice(self) -> str:
        """What to do."""


@dataclass(slots=True)
class Session:
    """One self-test under way. Several checks use one pair of actors, since starts take longest."""

    hardware: Hardware
    model: str
    """Folder of the model."""
    work: Path
    findings: Callable[[], Sequence[Finding]]
    actors: Actors | None = None
    """None: those of the product. Tests of the checks give broken ones."""
    _pair: Pair | None = field(default=None)

    def config(self, **changes: Any) -> GrpoConfig:
        """Learner and engine side by side on one device, small, with changes."""
        return selftest_config(self.model, self.hardware, self.work, **changes)

    def apart(self, **changes: Any) -> GrpoConfig:
        """Each on a GPU of its own."""
        return self.config(**{"colocate": "off", **changes})

    def alone(self) -> GrpoConfig:
        """For measurements of one side, which then has the whole device."""
        return self.config() if self.hardware.device == "cpu" else self.apart()

    def spread(self) -> GrpoConfig:
        """An engine on two devices; raises CheckSkipped where there are none."""
        if self.hardware.device == "cuda":
            self.needs_gpus(3, "two for the engine and one for the learner")
        return self.apart(rollout={"tensor_parallel": 2})

    def needs_gpus(self, count: int, reason: str) -> None:
        """Raises CheckSkipped where there are fewer."""
        if self.hardware.num_gpus < count:
            raise CheckSkipped(f"needs {count} GPUs, found {self.hardware.num_gpus}: {reason}")

    def pair(self) -> Pair:
        """Learner and engine on one device, started where they are not."""
        if self._pair is None:
            self._pair = self.new_pair(self.config())
        return self._pair

    def new_pair(self, config: GrpoConfig) -> Pair:
        """A pair of its own; whoever asks for it closes it."""
        from actors.cluster.placement import connect
        from actors.cluster.refusal import check_device
        from benchmarks.selftest.subjects.pair import Actors, Pair

        check_device(config.device)
        connect(config.deadlines)
        return Pair(config, self.actors or Actors())

    def free_devices(self) -> None:
        """End the shared pair: what comes next needs its devices, or it may be broken."""
        if self._pair is not None:
            self._pair.close()
            self._pair = None
