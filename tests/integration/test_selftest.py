"""`t2g selftest` on real actors: it passes where all is well, and each fault fails its check.

The actors of a `pair` are the product's own; broken ones take their place here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from typer.testing import CliRunner

from actors.workers.learner import BucketRef
from actors.workers.rollout import fetch
from benchmarks.selftest import plan
from benchmarks.selftest.outcome import read_report
from benchmarks.selftest.running import CheckFailed
from benchmarks.selftest.session import Session
from benchmarks.selftest.settings import Hardware, model_folder
from benchmarks.selftest.subjects.pair import Actors, SpoilingLearner
from t2g_ray.cli.main import app
from t2g_ray.rollout.engine import GenerationEngine
from t2g_ray.vllm_private.worker import weight_receiver
from t2g_ray.weights.manifest import Manifest, WeightSyncError

CPU = Hardware(device="cpu")
OF_ONE_PAIR = ("parity", "sync_store", "sync_ipc", "seeds", "memory", "sync_broadcast")

pytestmark = pytest.mark.skipif(
    torch.cuda.is_available(), reason="`t2g selftest` itself runs on this GPU, see tests/gpu"
)


class BrokenLearner(SpoilingLearner):
    """Breaks in the way that it is told to."""

    _fault = ""
    _leaked: list[object]

    def break_down(self, fault: str) -> None:
        """Shift its log-probs, keep what it sends, forget a tensor, or, which is none, learn."""
        self._fault, self._leaked = fault, []
        self._learner._temperature = 1.5 if fault == "shift" else 1.0
        if fault == "learn":
            for parameter in self._learner.policy.parameters():
                parameter.data.mul_(1.25)

    def publish(
        self, version: int, bucket_mib: float, is_whole: bool
    ) -> tuple[Manifest, list[BucketRef]] | None:
        """`publish`, with fewer tensors where it forgets one."""
        tensors = self._learner.sampler_tensors
        if self._fault == "forget":
            self._learner.sampler_tensors = lambda v, is_whole: (  # type: ignore[method-assign]
                pair
                for pair in tensors(v, is_whole=is_whole)
                if not pair[0].endswith("up_proj.weight")
            )
        try:
            return super().publish(version, bucket_mib, is_whole)
        finally:
            self._learner.sampler_tensors = tensors  # type: ignore[method-assign]

    def share(
        self, version: int, bucket_mib: float, is_whole: bool, is_proven: bool, is_source: bool
    ) -> tuple[Manifest, list[BucketRef]] | None:
        """`share`; where it leaks, a copy of everything stays."""
        sent = super().share(version, bucket_mib, is_whole, is_proven, is_source)
        if sent is not None and self._fault == "leak":
            buckets: Any = fetch(sent[1])
            self._leaked += [bucket.open().clone() for bucket in buckets]
        return sent


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    # The broken actors live in a module that only the tests can import.
    ray.init("local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """A session whose pair breaks on demand."""
    work = tmp_path_factory.mktemp("selftest")
    model = model_folder("demo", CPU, work)
    session = Session(CPU, model, work, list, Actors(learner=BrokenLearner))
    yield session
    session.free_devices()


@pytest.fixture
def fault(broken: Session) -> Iterator[Callable[[str], None]]:
    """Break the learner; afterwards it is mended."""
    learner = broken.pair().learner

    def set_fault(name: str) -> None:
        ray.get(learner.actor.break_down.remote(name))

    yield set_fault
    set_fault("")


def test_a_machine_on_which_all_is_well_passes(tmp_path: Path) -> None:
    done = CliRunner().invoke(
        app, ["selftest", "--out", str(tmp_path), "--only", ",".join(OF_ONE_PAIR)]
    )
    assert done.exit_code == 0, done.output
    report = read_report(tmp_path / "selftest.json")
    assert [(check.name, check.verdict) for check in report.checks] == [
        (name, "passed") for name in OF_ONE_PAIR
    ]
    decided = {claim.id for claim in report.claims if claim.status == "confirmed"}
    assert decided == {"gpu-2"}


def test_a_learner_whose_log_probs_are_shifted_fails_parity(
    broken: Session, fault: Callable[[str], None]
) -> None:
    fault("shift")
    with pytest.raises(CheckFailed, match="must agree on the log-probs of the same tokens"):
        plan.parity(broken)


def test_a_learner_that_forgets_a_tensor_fails_the_sync_by_its_name(
    broken: Session, fault: Callable[[str], None]
) -> None:
    fault("forget")
    with pytest.raises(Exception, match=r"layers\.0\.mlp\.up_proj\.weight") as caught:
        plan.sync("store", broken)
    assert isinstance(caught.value, WeightSyncError)


def test_a_copy_that_each_sync_leaves_behind_fails_memory(
    broken: Session, fault: Callable[[str], None]
) -> None:
    fault("leak")
    with pytest.raises(CheckFailed, match="learner must keep no weights of earlier syncs"):
        plan.memory(broken)


def deafen(engine: GenerationEngine) -> None:
    """Let the engine's proof find everything in order."""
    engine._call(_believe_everything)


def _believe_everything(worker: Any) -> None:
    proof = weight_receiver(worker).proof
    proof.check_loaded = lambda: None
    proof.check = lambda: 0


def keep_packed_copies(engine: GenerationEngine) -> None:
    """Let the engine compute with copies of older weights."""
    engine._call(_forget_to_pack)


def _forget_to_pack(worker: Any) -> None:
    weight_receiver(worker).finish_weight_update = lambda: None


@pytest.mark.parametrize(
    ("break_engine", "words"),
    [
        (deafen, "a tensor that lost its values after its load must fail, found .* unnoticed"),
        (
            keep_packed_copies,
            r"the layer of tensors? model\..* must compute",
        ),
    ],
)
def test_an_engine_that_proves_nothing_or_uses_old_weights_fails_the_sync(
    broken: Session, break_engine: Callable[[GenerationEngine], None], words: str
) -> None:
    broken.pair().publish("store")
    broken.pair().ask(break_engine)
    # Copies of weights that did not change would be right.
    ray.get(broken.pair().learner.actor.break_down.remote("learn"))
    try:
        with pytest.raises((CheckFailed, WeightSyncError), match=words):
            plan.sync("store", broken)
    finally:
        broken.free_devices()


@pytest.mark.long
def test_the_whole_of_it_passes_within_its_ten_minutes(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["selftest", "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    report = read_report(tmp_path / "selftest.json")
    assert not [check.name for check in report.checks if check.verdict == "failed"]
    assert sum(check.seconds for check in report.checks) < 600
