"""The order of things, with stages that finish in any order and at any speed."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t2g_ray.config import GrpoConfig, build_config
from t2g_ray.grpo.books import ConservationError, Stock, Surplus
from t2g_ray.grpo.guards import MAX_EMPTY_BATCHES
from t2g_ray.grpo.loop import GrpoLoop
from t2g_ray.grpo.stages import LoopError, Ready, TrainGroup
from t2g_ray.grpo.staleness import Due, choose
from t2g_ray.prompts.ledger import MOST_POSTPONED, Curriculum, Ledger
from t2g_ray.run.stopping import RunStopped
from t2g_ray.types import GroupSummary, SyncReport, TrainReport
from tests.unit.parts import FOUND, group_summary, sync_report, train_report

MakeSummary = Callable[[int, int], GroupSummary]


def summary(
    index: int, version: int, *, rewards: Sequence[float] = (1.0, 0.0), **fields: Any
) -> GroupSummary:
    return group_summary(index, rewards, version=version, **fields)


@dataclass
class World:
    """All stages at once, with a diary of what happened. `chance` decides who finishes next."""

    chance: random.Random = field(default_factory=lambda: random.Random(0))
    make: MakeSummary = summary
    report: TrainReport = field(default_factory=train_report)
    diary: list[str] = field(default_factory=list)
    open: dict[int, int] = field(default_factory=dict)
    """Position -> version it begins under."""
    ready: dict[int, Ready] = field(default_factory=dict)
    trained: list[tuple[list[TrainGroup], float]] = field(default_factory=list)
    taken: list[tuple[int, list[int]]] = field(default_factory=list)
    """(version, positions) of every step."""
    ended: list[tuple[int, list[int]]] = field(default_factory=list)
    """(version, positions) given up at the end of a step."""
    admitted: dict[int, int] = field(default_factory=dict)
    lines: list[Mapping[str, float]] = field(default_factory=list)
    states: list[dict[str, object]] = field(default_factory=list)
    arrived: list[GroupSummary] = field(default_factory=list)
    version: int = 0
    num_lost: int = 0
    most_open: int = 0
    idle_steps: frozenset[int] = frozenset()
    """Steps whose end wants idle samplers."""
    last_step: int | None = None
    """The run is killed at the end of this step."""

    def start(self, positions: Sequence[int], *, min_version: int) -> None:
        self.diary.append(f"start {len(positions)} under {min_version}")
        for position in positions:
            self.open[position] = self.admitted[position] = min_version
        self.most_open = max(self.most_open, len(self.open) + len(self.ready))

    def take(
        self, count: int, *, dues: Sequence[Due], should_stop: Callable[[], bool]
    ) -> list[Ready]:
        if should_stop():
            raise RunStopped("asked to stop")
        # Any number of groups may be ready before the loop asks.
        for _ in range(self.chance.randint(0, len(self.open))):
            self._finish_one()
        while (chosen := choose(self.ready, count, dues)) is None:
            self._finish_one()
        self.diary.append(f"take {count}")
        self.taken.append((self.version, chosen))
        return [self.ready.pop(index) for index in chosen]

    def _finish_one(self) -> None:
        assert self.open, "the loop waits for groups that do not exist"
        self._finish(self.chance.choice(sorted(self.open)))

    def _finish(self, position: int) -> None:
        # It began under some version between its admission and now.
        begun = self.chance.randint(self.open.pop(position), self.version)
        made = self.make(position, begun)
        self.arrived.append(made)
        self.ready[position] = Ready(made, f"handle {position}")

    def end(self, positions: Sequence[int]) -> Surplus:
        # Some finish before the message that ends them is read.
        late = sorted(self.chance.sample(sorted(self.open), self.chance.randint(0, len(self.open))))
        aborted = {p: [self.chance.randint(0, 9)] for p in self.open if p not in late}
        for position in aborted:
            del self.open[position]
        for position in late:
            self._finish(position)
        assert sorted([*aborted, *self.ready]) == list(positions)
        self.diary.append(f"end {len(aborted)}")
        self.ended.append((self.version, list(positions)))
        finished = tuple(self.ready.pop(p).summary for p in sorted(self.ready))
        return Surplus(finished, aborted)

    def stock(self) -> Stock:
        waiting = [ready.summary for ready in self.ready.values()]
        return Stock(
            arrived_groups=len(self.arrived) + self.num_lost,
            arrived_tokens=sum(one.generated_tokens for one in self.arrived),
            waiting_groups=len(waiting),
            waiting_tokens=sum(one.generated_tokens for one in waiting),
        )

    def step(self, groups: Sequence[TrainGroup], *, divisor: float) -> TrainReport:
        self.diary.append(f"train {len(groups)}")
        self.trained.append((list(groups), divisor))
        return self.report

    def publish(self, version: int) -> SyncReport:
        self.diary.append(f"publish {version}")
        self.version = version
        return sync_report()

    def needs_samplers(self, step: int) -> bool:
        return step in self.idle_steps

    def after_step(self, line: Mapping[str, float], taken: Sequence[Ready], ledger: Ledger) -> None:
        self.diary.append(f"write {int(line['step'])}")
        self.lines.append(line)
        self.states.append(ledger.state())
        if line["step"] == self.last_step:
            raise Killed


def config(**tree: object) -> GrpoConfig:
    # The groups that are made up here have rewards of their own.
    small = {"run_dir": "x", "steps": 3, "prompts_per_step": 2, "group_size": 2}
    return build_config(GrpoConfig, {**small, "reward": {"level": "record"}, **tree})


def loop_of(
    world: World, config: GrpoConfig, *, version: int = 0, ledger: Ledger | None = None
) -> GrpoLoop:
    world.version = version
    return GrpoLoop(
        config,
        groups=world,
        trainer=world,
        weights=world,
        watcher=world,
        ledger=ledger or Ledger(),
        version=version,
    )


def run(world: World, config: GrpoConfig) -> World:
    assert loop_of(world, config).run() == config.steps
    return world


def test_a_synchronous_step_is_take_train_publish_start_write() -> None:
    world = run(World(), config(steps=2))
    assert world.diary == [
        "start 2 under 0",
        # The samplers work on the next step while this one is written down.
        *("take 2", "train 2", "publish 1", "start 2 under 1", "write 1"),
        *("take 2", "train 2", "publish 2", "write 2"),
    ]


def test_actors_join_and_leave_when_a_step_is_written_down() -> None:
    world = World()

    class Scaler:
        def step(self) -> None:
            world.diary.append("scale")

    loop = loop_of(world, config(steps=2))
    loop._scaler = Scaler()
    loop.run()
    assert [e for e in world.diary if e.startswith(("write", "scale", "take"))] == [
        *("take 2", "write 1", "scale"),
        *("take 2", "write 2", "scale"),
    ]


def test_nothing_is_started_before_an_evaluation_is_over() -> None:
    world = run(World(idle_steps=frozenset({1})), config(steps=2))
    assert world.diary.index("write 1") < world.diary.index("start 2 under 1")


def test_a_stop_leaves_the_ledger_at_the_last_whole_step() -> None:
    world, ledger = World(), Ledger()
    loop = loop_of(world, config(steps=9, max_staleness=2), ledger=ledger)
    loop._should_stop = lambda: loop.version == 3
    with pytest.raises(RunStopped):
        loop.run()
    assert (loop.version, len(world.lines)) == (3, 3)
    # What was in flight is drawn again, lowest first.
    assert ledger.num_consumed == 6
    assert ledger.state() == world.states[-1]


def test_staleness_lets_later_groups_begin_before_they_are_needed() -> None:
    world = run(World(), config(steps=3, max_staleness=1))
    starts = [entry for entry in world.diary if entry.startswith("start")]
    # Two steps' worth at first, then one a step; none that would come after the last step.
    assert starts == ["start 4 under 0", "start 2 under 1"]


@pytest.mark.parametrize("max_staleness", [0, 1, 3])
def test_admission_fills_up_to_the_bound_and_no_further(max_staleness: int) -> None:
    world = World()
    loop = loop_of(world, config(steps=50, prompts_per_step=4, max_staleness=max_staleness))
    loop._admit()
    # (max_staleness + version + 1) x groups a step, less what exists or was consumed.
    assert len(world.open) == (max_staleness + 1) * 4
    loop._admit()
    assert len(world.open) == (max_staleness + 1) * 4


def test_a_resumed_loop_admits_as_if_it_had_never_stopped() -> None:
    world = World()
    ledger = Ledger(watermark=20)
    loop_of(world, config(steps=50, max_staleness=2), version=10, ledger=ledger)._admit()
    assert sorted(world.open) == list(range(20, 26))
    assert set(world.admitted.values()) == {10}


class Killed(Exception):
    """What a kill looks like from inside."""


def resumed_runs(
    seed: int,
    *,
    steps: int,
    size: int,
    max_staleness: int,
    stops: Sequence[int],
    make: MakeSummary = summary,
    curriculum: Callable[[], Curriculum | None] = lambda: None,
    **tree: object,
) -> list[World]:
    """A run that is killed after each of the given steps and resumed from its last ledger."""
    worlds: list[World] = []
    settings = config(steps=steps, prompts_per_step=size, max_staleness=max_staleness, **tree)
    version, ledger = 0, Ledger(curriculum=curriculum())
    for number, stop in enumerate([*stops, None]):
        world = World(chance=random.Random(f"{seed} {number}"), last_step=stop, make=make)
        loop = loop_of(world, settings, version=version, ledger=ledger)
        if stop is None:
            assert loop.run() == steps
        elif stop > version:
            with pytest.raises(Killed):
                loop.run()
            version, ledger = stop, Ledger.from_state(world.states[-1], curriculum())
        worlds.append(world)
    return worlds


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    max_staleness=st.integers(0, 4),
    size=st.integers(1, 4),
    stops=st.lists(st.integers(1, 9), max_size=2).map(sorted),
)
def test_bound_batch_size_and_ledger_hold_for_any_order_and_any_resume(
    seed: int, max_staleness: int, size: int, stops: list[int]
) -> None:
    worlds = resumed_runs(seed, steps=10, size=size, max_staleness=max_staleness, stops=stops)
    consumed: list[int] = []
    for world in worlds:
        for version, positions in world.taken:
            assert len(positions) == size
            ages = [version - world.admitted[position] for position in positions]
            assert all(0 <= age <= max_staleness for age in ages)
            consumed += positions
        assert all(line["staleness/max"] <= max_staleness for line in world.lines)
        assert world.most_open <= (max_staleness + 1) * size
    # Every position exactly once, and nothing is left over when the run ends.
    assert sorted(consumed) == list(range(10 * size))
    assert [line["step"] for world in worlds for line in world.lines] == list(range(1, 11))
    assert not worlds[-1].open and not worlds[-1].ready


def test_a_group_older_than_the_bound_stops_the_run() -> None:
    world = World()
    loop = loop_of(world, config(steps=9), version=4, ledger=Ledger(watermark=8))
    # A sampler that began before the version it was asked for.
    world.make = lambda index, version: summary(index, version - 1)
    with pytest.raises(LoopError, match="at most 0 versions old, found 1 for prompt 8"):
        loop.run()


def test_advantages_and_token_counts_go_to_the_trainer_with_the_handles() -> None:
    world = run(World(), config(steps=1, algorithm={"advantage": "group_mean"}))
    ((groups, divisor),) = world.trained
    assert [(g.index, g.handle) for g in groups] == [(0, "handle 0"), (1, "handle 1")]
    assert all(g.advantages == (0.5, -0.5) for g in groups)
    # Completions of 2 and 3 tokens in each group.
    assert ([g.num_tokens for g in groups], divisor) == ([5, 5], 10)


@pytest.mark.parametrize(
    ("normalisation", "divisor"), [("tokens", 10), ("sequences", 4), ("constant", 4 * 20)]
)
def test_the_divisor_counts_the_whole_batch(normalisation: str, divisor: float) -> None:
    tree = {"algorithm": {"normalisation": normalisation}, "sampling": {"max_new_tokens": 20}}
    world = run(World(), config(steps=1, **tree))
    assert [found for _, found in world.trained] == [divisor]


def test_truncated_completions_are_left_out_of_the_batch_and_of_its_tokens() -> None:
    def make(index: int, version: int) -> GroupSummary:
        made = summary(index, version, rewards=(1.0, 0.0, 0.0))
        # The second group was truncated whole: nothing of it is left to train.
        return dataclasses.replace(made, is_truncated=(index == 1, True, index == 1))

    world = run(World(make=make), config(steps=1, algorithm={"mask_truncated": True}))
    (((group,), divisor),) = world.trained
    assert (group.index, group.advantages[1], group.lengths) == (0, None, (2, 4))
    assert divisor == 6 == world.lines[0]["tokens/trained"]
    assert (world.lines[0]["groups/trained"], world.lines[0]["groups/no_signal"]) == (1, 1)


@pytest.mark.parametrize("max_staleness", [0, 2])
@pytest.mark.parametrize("name", ["loss", "grad_norm"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_step_that_is_not_finite_is_never_published(
    name: str, value: float, max_staleness: int
) -> None:
    world = World()

    def report(groups: Sequence[TrainGroup], *, divisor: float) -> TrainReport:
        return train_report(**({name: value} if world.version == 1 else {}))

    world.step = report  # type: ignore[method-assign]
    with pytest.raises(LoopError, match=rf"must be finite, found {name}={value} at step 2, whose"):
        loop_of(world, config(steps=5, max_staleness=max_staleness)).run()
    assert [entry for entry in world.diary if entry.startswith("publish")] == ["publish 1"]
    assert len(world.lines) == 1


def test_groups_without_signal_are_counted_and_not_trained() -> None:
    def make(index: int, version: int) -> GroupSummary:
        return summary(index, version, rewards=(1.0, 1.0) if index % 2 else (1.0, 0.0))

    world = run(World(make=make), config(steps=2))
    assert [[g.index for g in groups] for groups, _ in world.trained] == [[0], [2]]
    assert all(line["groups/no_signal"] == 1 == line["groups/trained"] for line in world.lines)


def test_a_run_in_which_all_rewards_are_equal_stops_with_advice() -> None:
    world, ledger = World(make=without_signal), Ledger()
    with pytest.raises(LoopError, match=r"unequal rewards, found none in 20 batches .*temperature"):
        loop_of(world, config(steps=100), ledger=ledger).run()
    assert (world.trained, world.lines, ledger.num_consumed) == ([], [], 0)
    assert len(world.taken) == MAX_EMPTY_BATCHES


def without_signal(index: int, version: int, *, until: int = 10**6) -> GroupSummary:
    return summary(index, version, rewards=(0.5, 0.5) if index < until else (1.0, 0.0))


@pytest.mark.parametrize("max_staleness", [0, 1, 3])
@pytest.mark.parametrize("over_sample", [1.0, 2.0])
@pytest.mark.parametrize("until", [0, 1, 2, 5, 12])
def test_every_step_is_one_of_the_optimiser(
    until: int, over_sample: float, max_staleness: int
) -> None:
    if max_staleness and over_sample > 1:
        return  # refused by the configuration

    def make(index: int, version: int) -> GroupSummary:
        return without_signal(index, version, until=until)

    tree = {"max_staleness": max_staleness, "sampling": {"over_sample": over_sample}}
    world, ledger = World(make=make), Ledger()
    assert loop_of(world, config(steps=4, **tree), ledger=ledger).run() == 4
    assert len(world.trained) == len(world.lines) == 4
    assert all(line["groups/trained"] >= 1 for line in world.lines)
    assert [line["staleness/max"] <= max_staleness for line in world.lines] == [True] * 4
    # All that was taken is counted, in the line of the step that took it.
    taken = sum(2 + int(line["groups/extra"]) for line in world.lines)
    assert taken == ledger.num_consumed == sum(len(positions) for _, positions in world.taken)


def test_a_stop_between_batches_without_signal_leaves_the_ledger_at_the_last_step() -> None:
    world, ledger = World(make=without_signal), Ledger()
    loop = loop_of(world, config(steps=9), ledger=ledger)
    loop._should_stop = lambda: len(world.taken) == 3
    with pytest.raises(RunStopped):
        loop.run()
    assert (loop.version, ledger.num_consumed) == (0, 0)


def test_a_completion_whose_grader_failed_is_masked() -> None:
    def make(index: int, version: int) -> GroupSummary:
        if index:
            return summary(index, version)
        return summary(index, version, rewards=(1.0, 0.0, 0.0), is_valid=(True, False, True))

    graders = {"max_error_rate": 1, "level": "record"}
    settings = config(steps=1, algorithm={"advantage": "group_mean"}, reward=graders)
    world = run(World(make=make), settings)
    ((groups, divisor),) = world.trained
    # The mean is over the graded two; the masked one's 3 tokens are no part of the loss.
    assert groups[0].advantages == (0.5, None, -0.5)
    assert (groups[0].num_tokens, divisor) == (2 + 4, 6 + 5)
    assert world.lines[0]["groups/grader_errors"] == 1


def test_a_group_with_one_graded_completion_is_dropped() -> None:
    def make(index: int, version: int) -> GroupSummary:
        return summary(index, version, is_valid=(True, index > 0))

    world = run(World(make=make), config(steps=1, reward={"max_error_rate": 1}))
    ((groups, _),) = world.trained
    assert [g.index for g in groups] == [1]
    assert (world.lines[0]["groups/dropped"], world.lines[0]["groups/no_signal"]) == (1, 0)


@pytest.mark.parametrize(("num_errors", "is_stopped"), [(1, False), (2, True)])
def test_the_run_stops_when_more_than_one_in_a_hundred_gradings_fail(
    num_errors: int, is_stopped: bool
) -> None:
    def make(index: int, version: int) -> GroupSummary:
        return summary(index, version, is_valid=(True, index >= num_errors))

    loop = loop_of(World(make=make), config(steps=3))
    if not is_stopped:
        assert loop.run() == 3
        return
    with pytest.raises(LoopError, match=r"share of 0\.01 .* found 2 of 4; the reward actors' logs"):
        loop.run()


def test_a_lost_group_is_noticed_at_the_end_of_its_step() -> None:
    with pytest.raises(ConservationError, match="1 lost"):
        loop_of(World(num_lost=1), config()).run()


@pytest.mark.parametrize("difference", [2e-5, float("nan")])
def test_samplers_that_disagree_with_the_learner_stop_the_run(difference: float) -> None:
    world = World(report=train_report(logprob_difference=difference))
    with pytest.raises(LoopError, match=r"must agree .* to 1e-05 nats .* at step 1; look at"):
        loop_of(world, config()).run()
    assert world.lines == []


def test_agreement_within_the_tolerance_goes_on() -> None:
    run(World(report=train_report(logprob_difference=9e-6)), config())


def test_the_first_to_finish_are_trained_and_the_others_come_again() -> None:
    world = run(World(), config(steps=2, prompts_per_step=4, sampling={"over_sample": 1.5}, seed=0))
    assert [e.split()[:2] for e in world.diary if e.split()[0] in ("start", "take")] == [
        ["start", "6"],
        ["take", "4"],
        ["start", "6"],
        ["take", "4"],
    ]
    (_, first), (_, second) = world.taken
    (_, given_up), _ = world.ended
    assert sorted([*first, *given_up]) == list(range(6))
    # The second step was offered the two that were given up, and four new ones.
    assert set(second) <= {*given_up, *range(6, 10)}
    for line in world.lines:
        assert line["groups/aborted"] + line["groups/dropped"] == 2
        assert line["groups/extra"] == 0


def test_groups_without_signal_are_replaced_up_to_a_bound() -> None:
    def make(index: int, version: int) -> GroupSummary:
        return summary(index, version, rewards=(1.0, 1.0) if index < 5 else (1.0, 0.0))

    world = run(World(make=make), config(steps=2, sampling={"extra_groups": 3}))
    # Both have no signal, nor have two more and the last that is allowed; the next batch has.
    assert [positions for _, positions in world.taken] == [[0, 1], [2, 3], [4], [5, 6], [7, 8]]
    assert [(line["groups/extra"], line["groups/no_signal"]) for line in world.lines] == [
        (5, 5),
        (0, 0),
    ]
    assert [[g.index for g in groups] for groups, _ in world.trained] == [[5, 6], [7, 8]]
    assert world.diary[:4] == ["start 2 under 0", "take 2", "start 2 under 0", "take 2"]


@pytest.mark.parametrize(("extra_groups", "trained"), [(0, [0, 1]), (1, [1, 2])])
def test_what_is_replaced_is_decided_by_f1_and_not_by_a_shaped_reward(
    extra_groups: int, trained: list[int]
) -> None:
    def make(index: int, version: int) -> GroupSummary:
        made = summary(index, version)
        return made if index else dataclasses.replace(made, counts=(FOUND, FOUND))

    settings = config(steps=1, sampling={"extra_groups": extra_groups})
    ((groups, _),) = run(World(make=make), settings).trained
    assert [group.index for group in groups] == trained


def test_a_stop_while_groups_are_replaced_leaves_the_whole_step_to_be_taken_again() -> None:
    world, ledger = World(), Ledger()
    world.make = lambda index, version: summary(index, version, rewards=(1.0, 1.0))
    loop = loop_of(world, config(steps=9, sampling={"extra_groups": 2}), ledger=ledger)
    loop._should_stop = lambda: len(world.taken) == 1
    with pytest.raises(RunStopped):
        loop.run()
    assert (len(world.taken), loop.version, ledger.num_consumed) == (1, 0, 0)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.integers(1, 4),
    over_sample=st.sampled_from([1.0, 1.25, 2.0]),
    extra_groups=st.integers(0, 3),
    max_staleness=st.integers(0, 2),
    stop=st.integers(1, 7),
    num_records=st.none() | st.integers(1, 9),
)
def test_every_prompt_is_consumed_once_however_groups_are_given_up_or_replaced(
    seed: int,
    size: int,
    over_sample: float,
    extra_groups: int,
    max_staleness: int,
    stop: int,
    num_records: int | None,
) -> None:
    def curriculum() -> Curriculum | None:
        return Curriculum(lambda p: p % (num_records or 1), num_records) if num_records else None

    chance = random.Random(seed)
    dull = {position for position in range(1000) if chance.random() < 0.4}

    def make(index: int, version: int) -> GroupSummary:
        return summary(index, version, rewards=(1.0, 1.0) if index in dull else (1.0, 0.0))

    worlds = resumed_runs(
        seed,
        steps=8,
        size=size,
        max_staleness=max_staleness if over_sample == 1 else 0,
        stops=[stop],
        make=make,
        curriculum=curriculum,
        sampling={"over_sample": over_sample, "extra_groups": extra_groups},
    )
    lines = [line for world in worlds for line in world.lines]
    consumed = [p for world in worlds for _, positions in world.taken for p in positions]
    assert len(consumed) == len(set(consumed))
    assert [line["step"] for line in lines] == list(range(1, 9))
    assert len(consumed) == sum(size + int(line["groups/extra"]) for line in lines)
    for line in lines:
        assert 1 <= line["groups/trained"] <= size
        # Fewer than a full batch only where no further group was allowed.
        assert line["groups/trained"] == size or line["groups/extra"] >= extra_groups
        assert line["staleness/max"] <= max_staleness
    if num_records is None:
        # Nothing is passed over: it lies behind all that was consumed, or was given up.
        given_up = {p for world in worlds for _, positions in world.ended for p in positions}
        assert set(range(max(consumed))) - set(consumed) <= given_up
    bound = (max_staleness + 1) * math.ceil(size * over_sample) + extra_groups
    assert all(world.most_open <= bound for world in worlds)
    assert not worlds[-1].open and not worlds[-1].ready


@pytest.mark.parametrize(("difference", "is_stopped"), [(0.3, False), (3.0, True)])
@pytest.mark.parametrize("max_staleness", [1, 2])
def test_tokens_of_older_weights_are_held_to_a_wider_bound(
    max_staleness: int, difference: float, is_stopped: bool
) -> None:
    world = World()
    # Samplers that finish at once, so that from the second step on no token is of the present.
    world.make = lambda index, version: summary(index, world.admitted[index])

    def report(groups: Sequence[TrainGroup], *, divisor: float) -> TrainReport:
        if not world.version:
            return train_report()
        return train_report(logprob_difference=difference, num_current=0)

    world.step = report  # type: ignore[method-assign]
    loop = loop_of(world, config(steps=30, max_staleness=max_staleness))
    if not is_stopped:
        assert loop.run() == 30
        return
    with pytest.raises(LoopError, match=r"weights of earlier steps .* found 3 at step 2"):
        loop.run()


@given(st.integers(0, 2**32 - 1), st.sampled_from([1.25, 1.5, 2.0, 3.0]), st.integers(1, 4))
def test_the_slowest_prompt_is_put_off_only_so_often(
    seed: int, over_sample: float, size: int
) -> None:
    """A prompt that always finishes last, of the first step or of a later one."""
    slow = seed % 7

    class Racing(World):
        def _finish_one(self) -> None:
            fast = [position for position in sorted(self.open) if position != slow]
            self._finish(self.chance.choice(fast or [slow]))

        def end(self, positions: Sequence[int]) -> Surplus:
            aborted = {p: [3] for p in self.open}
            self.open.clear()
            self.ended.append((self.version, list(positions)))
            finished = tuple(self.ready.pop(p).summary for p in sorted(self.ready))
            return Surplus(finished, aborted)

    settings = config(steps=12, prompts_per_step=size, sampling={"over_sample": over_sample})
    world = run(Racing(chance=random.Random(seed)), settings)
    offered = [version for version, given_up in world.ended if slow in given_up]
    begun = settings.prompts_begun - size
    # Put off twice, and then until those that were overdue before it fit into a step.
    assert len(offered) <= MOST_POSTPONED + math.ceil(begun / size)
    if slow < size:
        assert slow in {p for _, positions in world.taken for p in positions}
