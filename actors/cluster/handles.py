"""A running Ray actor and its class, so that mypy checks the arguments and the result of a call.

Ray's own handles know no types. Functions that are run on a node have theirs checked too.
Invariant: nothing but this module calls `.remote` on an actor of a run, so that a call with wrong
arguments fails in the type checker and not on a cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, cast

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors.cluster.devices import Node

Actor = TypeVar("Actor", covariant=True)
"""A handle of a subclass serves where one of the class is asked for."""
Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


@dataclass(frozen=True)
class _FromActor:
    """What an actor is making."""

    actor: str
    reference: Any
    """What `waiting.ready` takes."""
    where: str = ""
    """The actor's device, as in "GPU 1 of node 10.0.0.5"; empty where it has none."""

    @property
    def who(self) -> str:
        """The actor in words, for errors."""
        return f"{self.actor} ({self.where})" if self.where else self.actor


@dataclass(frozen=True)
class Ref(_FromActor, Generic[Result]):
    """A result to come, and the actor that makes it."""

    reference: ray.ObjectRef[Result]

    def as_argument(self) -> Result:
        """To be passed to another call: Ray waits for the value and hands it over."""
        return cast(Result, self.reference)


def put(value: Result) -> Ref[Result]:
    """A value in the object store, to be passed to several calls."""
    return Ref("driver", ray.put(value))


@dataclass(frozen=True)
class Stream(_FromActor, Generic[Result]):
    """Results that come one by one, each an object of its own."""

    reference: Any
    """What `waiting.ready` takes: it is ready when the next result, or the end, has come."""

    def next(self) -> Ref[Result] | None:
        """The next result, waited for; None at the end."""
        reference = next(self.reference, None)
        return None if reference is None else Ref(self.actor, reference, self.where)


class Held(Protocol):
    """What is reserved for one actor alone."""

    def release(self) -> None:
        """Give it back."""


@dataclass(frozen=True)
class Handle(Generic[Actor]):
    """One actor. `name` is its role and number, as in "rollout/0"."""

    name: str
    actor: Any
    where: str = ""
    """Its device in words; empty where it has none."""
    held: Held | None = None
    """Given back when the actor is ended."""
    asked_s: float = 0.0
    """When the actor was asked for, in seconds since the epoch."""

    def call(
        self,
        method: Callable[Concatenate[Actor, Parameters], Result],
        *arguments: Parameters.args,
        **keywords: Parameters.kwargs,
    ) -> Ref[Result]:
        """Begin a call; its result comes by the reference."""
        return Ref(self.name, self._remote(method).remote(*arguments, **keywords), self.where)

    def call_apart(
        self,
        num_results: int,
        method: Callable[Concatenate[Actor, Parameters], Sequence[Result]],
        *arguments: Parameters.args,
        **keywords: Parameters.kwargs,
    ) -> list[Ref[Result]]:
        """`call` of a method that returns `num_results` results, with a reference for each."""
        remote = self._remote(method).options(num_returns=num_results)
        return [Ref(self.name, one, self.where) for one in remote.remote(*arguments, **keywords)]

    def stream(
        self,
        method: Callable[Concatenate[Actor, Parameters], Iterator[Result]],
        *arguments: Parameters.args,
        **keywords: Parameters.kwargs,
    ) -> Stream[Result]:
        """Begin a call whose results come one by one."""
        remote = self._remote(method).options(num_returns="streaming")
        return Stream(self.name, remote.remote(*arguments, **keywords), self.where)

    @property
    def identity(self) -> str:
        """What Ray's errors call this actor."""
        return str(self.actor._actor_id.hex())

    def wait_until_ready(self) -> None:
        """Wait until the actor is made."""
        ray.get(self.actor.__ray_ready__.remote())

    def kill(self) -> None:
        """End the actor at once."""
        ray.kill(self.actor)
        if self.held is not None:
            self.held.release()

    def _remote(self, method: Callable[..., Any]) -> Any:
        return getattr(self.actor, method.__name__)


def call_all(
    handles: Iterable[Handle[Actor]],
    method: Callable[Concatenate[Actor, Parameters], Result],
    *arguments: Parameters.args,
    **keywords: Parameters.kwargs,
) -> list[Ref[Result]]:
    """The same call to each actor; all are begun at once."""
    return [handle.call(method, *arguments, **keywords) for handle in handles]


def on_each(
    nodes: Iterable[Node],
    function: Callable[Concatenate[str, Parameters], Result],
    *arguments: Parameters.args,
    **keywords: Parameters.kwargs,
) -> dict[str, Ref[Result]]:
    """Begin `function(id of the node, ...)` on each node and nowhere else; results by that id."""
    task: Any = ray.remote(num_cpus=0)(function)
    calls: dict[str, Ref[Result]] = {}
    for node in nodes:
        there = NodeAffinitySchedulingStrategy(node.id, soft=False)
        begun = task.options(scheduling_strategy=there).remote(node.id, *arguments, **keywords)
        calls[node.id] = Ref(f"node {node.name} (id {node.id[:8]})", begun)
    return calls


def process_variables(threads: int, *, has_gpu: bool) -> dict[str, str]:
    """Environment of an actor that computes with so many threads.

    They are read when a library is loaded, which is before the actor's own first line. Ray would
    let an actor that has reserved no GPU see all of its node's.
    """
    variables = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    return variables if has_gpu else {**variables, "CUDA_VISIBLE_DEVICES": ""}


def start_alone(
    kind: type[Actor],
    *arguments: object,
    name: str,
    threads: int = 1,
    gpus: float = 0,
    max_concurrency: int = 1,
) -> Handle[Actor]:
    """An actor beside any run that reserves no CPU, as benchmarks start them."""
    remote: Any = ray.remote(kind)
    options = remote.options(
        num_cpus=0,
        num_gpus=gpus,
        max_concurrency=max_concurrency,
        runtime_env={"env_vars": process_variables(threads, has_gpu=gpus > 0)},
    )
    return Handle(name, options.remote(*arguments))


def get_all(calls: Iterable[Ref[Result]]) -> list[Result]:
    """The results in order, without a deadline; what an actor raised is raised as Ray wraps it."""
    return list(ray.get([call.reference for call in calls]))
