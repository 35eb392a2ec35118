"""Every module has a test file of its own name, or a row of the table below says what tests it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
UNIT = ROOT / "tests" / "unit"

ELSEWHERE = """
unit/config/test_stages.py: fields with bounds, and one rule on muon
    t2g_ray.config.learner
unit/data/generate/test_pipeline.py: whole runs, with teachers that are made up there
    t2g_ray.data.generate.config
    t2g_ray.data.generate.teachers.teacher
    t2g_ray.data.generate.write
unit/data/generate/teachers/test_endpoint.py: the choice of an endpoint, and every kind of reply
    t2g_ray.data.generate.teachers.reply
    t2g_ray.data.generate.teachers.start
unit/data/importers/test_registry.py: a file of each layout is read there
    t2g_ray.data.importers.layout
    t2g_ray.data.importers.texts.records
    t2g_ray.data.importers.texts.text2kgbench
    t2g_ray.data.importers.tokens.dygie
    t2g_ray.data.importers.tokens.span_json
    t2g_ray.data.importers.tokens.spert
    t2g_ray.data.importers.tokens.tagged_json
unit/data/importers/tokens/test_tags.py: its error for a row that is wrong
    t2g_ray.data.importers.row
unit/grpo/test_loop.py: interfaces; the stages that are made up there have them
    t2g_ray.grpo.stages
unit/model/attention/test_reference.py: lengths and an interface, which the definition has
    t2g_ray.model.attention.kernel
unit/planning/memory/test_places.py: plain values, which the parts of every place come from
    t2g_ray.planning.memory.held
    t2g_ray.planning.memory.processes
unit/report/test_run_page.py: files of a run that are whole, damaged or missing
    t2g_ray.report.load
unit/rewards/test_custom.py: runs in child processes, which that test starts
    t2g_ray.rewards.child
unit/rewards/test_parts.py: every part is graded through it
    t2g_ray.rewards.completion
unit/run/trackers/test_tracking.py: real trackers, and what they hold
    t2g_ray.run.trackers.tools.to_mlflow
    t2g_ray.run.trackers.tools.to_tensorboard
    t2g_ray.run.trackers.tools.to_trackio
    t2g_ray.run.trackers.tools.to_wandb
unit/run/trackers/parts.py: an interface, and what made-up and real runs are told
    t2g_ray.run.trackers.tracker
unit/vllm_private/test_parts.py: a layer that is packed and restored; the rest needs an engine
    t2g_ray.vllm_private.layers
    t2g_ray.vllm_private.table
faults/test_shards.py: needs an engine of several processes, with experts
    t2g_ray.vllm_private.experts
    t2g_ray.vllm_private.worker
    t2g_ray.weights.proof
unit/benchmarks/quality/test_ablations.py: variants and their table
    benchmarks.quality.variants
unit/benchmarks/scale/virtual/test_run.py: worlds that are run there, and their stages
    benchmarks.scale.virtual.costs
    benchmarks.scale.virtual.engines
    benchmarks.scale.virtual.records
    benchmarks.scale.virtual.stages
integration/test_generate.py: needs an engine and Ray
    t2g_ray.data.generate.teachers.vllm_teacher
    actors.generate
integration/test_engine.py: needs an engine
    t2g_ray.vllm_private.engine
integration/test_drafting.py: needs an engine
    t2g_ray.rollout.vllm_drafting
integration/test_learner.py: needs ranks of DeepSpeed
    t2g_ray.learner.deepspeed_rank
integration/test_sharded.py: needs ranks of DeepSpeed
    t2g_ray.model.files.sharded
integration/test_sft.py: needs ranks of DeepSpeed
    t2g_ray.sft.learner
    t2g_ray.sft.rank
faults/test_weight_sync.py: needs an engine's worker and Ray
    t2g_ray.weights.vllm_backend
integration/test_storage.py: needs nodes with disks of their own
    actors.cluster.storage.kept
integration/test_groups.py: needs Ray's actors
    actors.cluster.waiting
    actors.stages.greedy
    actors.stages.groups
    actors.stages.scoring
integration/test_grpo.py: needs Ray's actors, engines and ranks
    actors.stages.evaluation
    actors.stages.trainer
unit/actors/test_grpo.py: what a start and a resume read
    actors.inputs
integration/test_transports.py: needs Ray's actors, engines and ranks
    actors.stages.transports
    actors.workers.learner
    actors.workers.rollout
integration/test_reward_actor.py: needs a Ray actor
    actors.workers.reward
integration/test_benchmarks.py: each measures Ray's actors, engines or ranks
    benchmarks.inputs.policy
    benchmarks.inputs.random_model
    benchmarks.inputs.workload
    benchmarks.scale.fleet
    benchmarks.speed.measured
    benchmarks.speed.rewards
    benchmarks.speed.sync
unit/cli/machine/test_selftest_command.py: runs it, with checks that are made up there
    benchmarks.selftest.app
integration/test_selftest.py: needs Ray's actors, an engine and a rank
    benchmarks.selftest.subjects.pair
"""
"""A test file below tests/, why the modules below it have none of their own, and these modules."""


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def own_test(module: str) -> Path:
    """The mirrored place: t2g_ray itself is no folder there, actors and benchmarks are."""
    *folders, name = module.removeprefix("t2g_ray.").split(".")
    return UNIT.joinpath(*folders, f"test_{name}.py")


MODULES = [
    module_name(path)
    for package in ("t2g_ray", "actors", "benchmarks")
    for path in sorted((ROOT / package).rglob("*.py"))
    if path.stem not in ("__init__", "__main__")
]


def rows() -> Iterator[tuple[str, str, str]]:
    """Module, its test file, and why."""
    test = reason = ""
    for line in ELSEWHERE.strip().splitlines():
        if line.startswith(" "):
            yield line.strip(), test, reason
        else:
            test, _, reason = line.partition(": ")


ROWS = list(rows())
LISTED = {module for module, _, _ in ROWS}


def test_modules_and_their_places_are_found() -> None:
    assert {"t2g_ray.types", "actors.grpo", "benchmarks.result"} <= set(MODULES)
    assert own_test("t2g_ray.grpo.loop") == UNIT / "grpo" / "test_loop.py"
    assert own_test("actors.grpo") == UNIT / "actors" / "test_grpo.py"


def names(text: str, module: str) -> bool:
    """Whether a test has the module's last name as a word, in an import or anywhere else."""
    return re.search(rf"\b{module.rpartition('.')[2]}\b", text) is not None


@pytest.mark.parametrize("module", MODULES)
def test_a_module_has_a_test_of_its_own_name_or_a_row(module: str) -> None:
    is_own = own_test(module).is_file()
    assert is_own or module in LISTED, f"write {own_test(module).relative_to(ROOT)}, or add a row"
    assert not (is_own and module in LISTED), "the row says nothing any more: remove it"


@pytest.mark.parametrize(("module", "test", "reason"), ROWS)
def test_a_row_is_of_a_module_that_is_there_and_its_test_names_it(
    module: str, test: str, reason: str
) -> None:
    assert module in MODULES
    assert names((ROOT / "tests" / test).read_text(encoding="utf-8"), module)
    assert reason


def test_no_module_has_two_rows() -> None:
    assert len(ROWS) == len(LISTED)


def test_a_name_counts_as_a_word_only() -> None:
    assert names("from actors.stages.groups import RayGroups", "actors.stages.groups")
    assert not names("test_every_subgroups", "actors.stages.groups")
