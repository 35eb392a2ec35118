"""Calls through a typed handle reach the actor's method as they were made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from actors.cluster.handles import Handle, Ref, call_all, process_variables


class Counter:
    """What an actor is of."""

    def add(self, number: int, *, times: int = 1) -> int:
        return number * times

    def halves(self, number: int) -> list[int]:
        return [number // 2, number - number // 2]

    def count(self, end: int) -> Iterator[int]:
        return iter(range(end))


class FakeMethod:
    """Stands for a method of a Ray actor: `remote` calls at once, and notes the options."""

    def __init__(self, method: Any, options: dict[str, Any]) -> None:
        self._method, self._options = method, options

    def options(self, **options: Any) -> FakeMethod:
        self._options.update(options)
        return self

    def remote(self, *arguments: Any, **keywords: Any) -> Any:
        return self._method(*arguments, **keywords)


class FakeActor:
    """Stands for a Ray actor."""

    def __init__(self) -> None:
        self.options: dict[str, Any] = {}

    def __getattr__(self, name: str) -> FakeMethod:
        return FakeMethod(getattr(Counter(), name), self.options)


def handle(name: str = "counter/0") -> Handle[Counter]:
    return Handle(name, FakeActor())


def test_a_call_passes_its_arguments_and_its_result_names_the_actor() -> None:
    assert handle().call(Counter.add, 4, times=3) == Ref("counter/0", 12)


def test_a_call_of_several_results_gives_a_reference_to_each() -> None:
    one = handle()
    assert one.call_apart(2, Counter.halves, 7) == [Ref("counter/0", 3), Ref("counter/0", 4)]
    assert one.actor.options == {"num_returns": 2}


def test_results_of_a_stream_come_one_by_one_and_then_none() -> None:
    one = handle()
    stream = one.stream(Counter.count, 2)
    assert one.actor.options == {"num_returns": "streaming"}
    found = [stream.next() for _ in range(3)]
    assert found == [Ref("counter/0", 0), Ref("counter/0", 1), None]


def test_one_call_reaches_every_actor_in_their_order() -> None:
    refs = call_all([handle("counter/0"), handle("counter/1")], Counter.add, 5)
    assert refs == [Ref("counter/0", 5), Ref("counter/1", 5)]


def test_a_result_that_is_passed_on_is_the_reference_itself() -> None:
    reference: Any = object()
    assert Ref("counter/0", reference).as_argument() is reference


def test_results_of_an_actor_with_a_device_name_it() -> None:
    one = Handle[Counter]("counter/0", FakeActor(), where="GPU 1 of node x")
    stream = one.stream(Counter.count, 1)
    assert one.call(Counter.add, 4).who == "counter/0 (GPU 1 of node x)" == stream.who
    assert [ref.who for ref in one.call_apart(2, Counter.halves, 7)] == [stream.who] * 2
    assert handle().call(Counter.add, 4).who == "counter/0"


def test_an_actor_without_a_gpu_is_shown_none() -> None:
    assert process_variables(3, has_gpu=False)["CUDA_VISIBLE_DEVICES"] == ""
    assert process_variables(3, has_gpu=True) == {"OMP_NUM_THREADS": "3", "MKL_NUM_THREADS": "3"}
