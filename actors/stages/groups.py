"""Rollout and reward actors as one stage of the loop: positions in, scored groups out.

Invariant: a position is open with one rollout actor until its summary arrived or it was ended,
and every wait has a deadline.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from actors.cluster.fleet import Fleet
from actors.cluster.handles import Handle, Stream
from actors.cluster.waiting import AnyRef, is_over, listed, ready, results_of
from actors.stages.scoring import Scoring, Ungraded
from actors.workers.reward import GoldRecords, RewardActor
from actors.workers.rollout import RolloutActor
from t2g_ray.config import GrpoConfig
from t2g_ray.grpo.books import Stock, Surplus
from t2g_ray.grpo.dealing import Dealer
from t2g_ray.grpo.stages import LoopError, Prompts, Ready
from t2g_ray.grpo.staleness import Due, choose
from t2g_ray.rollout.spec import sampling_of
from t2g_ray.run.progress import announced_wait
from t2g_ray.run.stopping import RunStopped
from t2g_ray.types import Group, Prompt

_POLL_S = 1.0
_GATHER_S = 0.02
"""Groups that arrive within this time are scored by one call, since a call costs the driver and the
reward actor more than a group in it does."""
_GATHER_S_PER_CALL = 1e-4
"""With more calls under way the driver gathers for longer: looking at one of them costs it some
2e-6 s, so it spends a few hundredths of its time on looking, however many there are."""


@dataclass(slots=True)
class _RolloutCall:
    """A call of a rollout actor whose groups have not all arrived."""

    stream: Stream[Group]
    gold: GoldRecords
    """The records of its prompts."""
    num_left: int


class RayGroups:
    """Implements `grpo.stages.Groups` on Ray actors."""

    def __init__(
        self,
        config: GrpoConfig,
        *,
        fleet: Fleet,
        rewards: Sequence[Handle[RewardActor]],
        prompts: Prompts,
    ) -> None:
        self._fleet, self._prompts = fleet, prompts
        self._deadline = config.deadlines.generate
        self._sampling = sampling_of(config)
        self.dealer = Dealer(config, len(fleet))
        """Which rollout actor has which prompts; the scaler says how many actors get any."""
        self._writing: dict[object, _RolloutCall] = {}
        """Reference of a stream -> the call."""
        self._scoring = Scoring(rewards)
        self._ready: dict[int, Ready] = {}
        self._arrived_groups = self._arrived_tokens = 0

    @property
    def serving(self) -> list[Handle[RolloutActor]]:
        """The rollout actors that get prompts: not those that still wait for their first weights,
        nor those that are about to leave."""
        return list(self._fleet)[: self.dealer.num_used]

    def queue(self) -> dict[str, int]:
        """Groups by where they are: being written, being scored, ready to be trained."""
        scoring = self._scoring.num_groups
        num_open = sum(map(len, self.dealer.open_by_actor().values()))
        return {"writing": num_open - scoring, "scoring": scoring, "ready": len(self._ready)}

    def open_by_actor(self) -> list[int]:
        """How many groups each rollout actor that gets prompts still has to finish."""
        by_actor = self.dealer.open_by_actor()
        return [len(by_actor.get(number, ())) for number in range(self.dealer.num_used)]

    def start(self, positions: Sequence[int], *, min_version: int) -> None:
        """Deal the prompts to the rollout actors with the fewest tokens outstanding."""
        for number, share in enumerate(self.dealer.deal(map(self._prompts.prompt, positions))):
            if share:
                self._write(number, share, min_version)

    def _write(self, number: int, share: Sequence[Prompt], min_version: int) -> None:
        gold = {prompt.index: self._prompts.record(prompt.index) for prompt in share}
        stream = self._fleet[number].stream(
            RolloutActor.generate, share, self._sampling, min_version
        )
        self._writing[stream.reference] = _RolloutCall(stream, gold, len(share))

    def take(
        self, count: int, *, dues: Sequence[Due], should_stop: Callable[[], bool]
    ) -> list[Ready]:
        """Wait for `count` scored groups that `choose` may give out; hand them over."""

        def is_enough() -> bool:
            if should_stop():
                raise RunStopped("the run was asked to stop while it waited for groups")
            return choose(self._ready, count, dues) is not None

        self._wait_until(is_enough)
        return [self._ready.pop(index) for index in choose(self._ready, count, dues) or ()]

    def _wait_until(self, is_enough: Callable[[], bool]) -> None:
        end = time.monotonic() + self._deadline.seconds
        with announced_wait(self._describe_wait):
            while not is_enough():
                self._collect()
                if time.monotonic() > end:
                    raise LoopError(
                        f"groups must arrive within {self._deadline}, still waiting: "
                        f"{self._describe_wait()}"
                    )

    def _describe_wait(self) -> str:
        by_actor = self.dealer.open_by_actor()
        parts = [f"rollout/{n}: prompts {p[:4]} ({len(p)})" for n, p in sorted(by_actor.items())]
        num_open = sum(map(len, by_actor.values()))
        return f"{num_open} groups ({listed(parts, '; ')}), {self._scoring.num_groups} in scoring"

    def _collect(self) -> None:
        """Wait for something to arrive, and accept all that did."""
        waiting = self._references()
        if not waiting:
            raise LoopError("some group must be in flight to be waited for, found none")
        if ready(waiting, 1, _POLL_S):
            self._accept_arrivals(waiting, self._gather_s())

    def _references(self) -> list[object]:
        return [*self._writing, *self._scoring.references]

    def _gather_s(self) -> float:
        return max(_GATHER_S, _GATHER_S_PER_CALL * len(self._writing))

    def attend(self, calls: Sequence[AnyRef], timeout_s: float) -> None:
        """Until these calls are over, accept what arrives, so that it is scored meanwhile."""
        end = time.monotonic() + timeout_s
        while not is_over(calls, self._gather_s()) and time.monotonic() < end:
            if waiting := self._references():
                self._accept_arrivals(waiting, 0)

    def _accept_arrivals(self, waiting: Sequence[object], timeout_s: float) -> None:
        done = ready(waiting, len(waiting), timeout_s)
        self._accept([reference for reference in done if reference not in self._writing])
        self._scoring.begin(self._arrived_on([one for one in done if one in self._writing]))

    def _arrived_on(self, streams: Sequence[object]) -> list[Ungraded]:
        """The groups that have arrived by now on these streams, each of which holds something."""
        arrived: list[Ungraded] = []
        while streams:
            for stream in streams:
                arrived += self._next_of(stream)
            left = [stream for stream in streams if stream in self._writing]
            # Asked together: a question about one stream costs as much as one about fifty.
            streams = ready(left, len(left), 0) if left else []
        return arrived

    def _next_of(self, stream: object) -> list[Ungraded]:
        writing = self._writing[stream]
        group = writing.stream.next()
        if group is not None:
            writing.num_left -= 1
        if group is None or not writing.num_left:
            # The call's end needs no wait of its own.
            del self._writing[stream]
        return [] if group is None else [Ungraded(group, writing.gold)]

    def _accept(self, done: Sequence[object]) -> None:
        try:
            arrived = self._scoring.accept(done)
        except LoopError as error:
            error.add_note(f"open at that time: {self._describe_wait()}")
            raise
        for group in arrived:
            self.dealer.close(group.summary.index)
            self._arrived_groups += 1
            self._arrived_tokens += group.summary.generated_tokens
            self._ready[group.summary.index] = group

    def end(self, positions: Sequence[int]) -> Surplus:
        """Give up these groups, finished or not; returns once none of them is left."""
        shares = self.dealer.open_by_actor(positions)
        calls = [
            self._fleet[number].call(RolloutActor.abort, share) for number, share in shares.items()
        ]
        aborted: dict[int, list[int]] = {}
        for part in results_of(calls, "abort of groups", self._deadline):
            aborted |= part
        for position in aborted:
            self.dealer.close(position)
        # The others were finished before the message came: they are on their way here.
        finished = [position for position in positions if position not in aborted]
        self._wait_until(lambda: all(position in self._ready for position in finished))
        return Surplus(tuple(self._ready.pop(p).summary for p in finished), aborted)

    def stock(self) -> Stock:
        """What arrived since the start, and what of it was not taken yet."""
        waiting = [group.summary for group in self._ready.values()]
        return Stock(
            arrived_groups=self._arrived_groups,
            arrived_tokens=self._arrived_tokens,
            waiting_groups=len(waiting),
            waiting_tokens=sum(summary.generated_tokens for summary in waiting),
        )
