"""What an engine's passes are bound by, and how long all answers of a step take."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2g_ray.planning.cards import CARDS
from t2g_ray.planning.shapes import ModelShape
from t2g_ray.planning.speed.engine import (
    COMPUTE,
    LINK,
    MEMORY,
    CardEngine,
    EngineLoad,
    MeasuredEngine,
    decode,
)
from tests.unit.planning.parts import QWEN_7B, rates

H100 = CardEngine(card=CARDS["H100"], shape=QWEN_7B, number_bytes=2)
ENGINE = rates().engine
assert ENGINE is not None
EASY = MeasuredEngine(ENGINE)


def load(sequences: float = 64, **changes: float) -> EngineLoad:
    fields = {"most": 512, "prompt": 600, "answer": 200, "longest": 400, **changes}
    return EngineLoad(
        sequences=sequences,
        most=int(fields["most"]),
        prompt=fields["prompt"],
        answer=fields["answer"],
        longest=fields["longest"],
        in_flight=int(fields.get("in_flight", 1)),
    )


def test_one_sequence_takes_as_long_as_all_weights_take_to_be_read() -> None:
    cost = H100.grow(1, 0)
    weights_s = 2 * (QWEN_7B.parameters - QWEN_7B.vocab * QWEN_7B.hidden) / (3350e9 * 0.65)
    assert cost.bound == MEMORY
    assert cost.seconds == pytest.approx(weights_s + 4e-3, rel=0.01)


def test_many_sequences_are_bound_by_products_where_their_contexts_are_short() -> None:
    few, many = H100.grow(8, 50), H100.grow(4096, 50)
    assert few.bound == MEMORY and many.bound == COMPUTE
    assert H100.grow(8192, 50).seconds == pytest.approx(2 * many.seconds, rel=0.1)


def test_long_contexts_make_passes_memory_bound_again() -> None:
    assert H100.grow(1024, 50).bound == COMPUTE
    assert H100.grow(1024, 8000).bound == MEMORY


def test_two_cards_halve_the_reading_and_pay_for_their_sums_over_the_link() -> None:
    two = CardEngine(card=CARDS["H100"], shape=QWEN_7B, number_bytes=2, devices=2)
    assert H100.grow(1, 0).seconds / 2 < two.grow(1, 0).seconds < H100.grow(1, 0).seconds
    slow = CardEngine(card=CARDS["L40S"], shape=QWEN_7B, number_bytes=2, devices=8)
    assert slow.read(1e5, 500).bound == LINK


def test_a_pass_reads_only_those_experts_that_its_tokens_go_through() -> None:
    sparse = ModelShape(
        layers=4,
        hidden=64,
        inner=512,
        queries=64,
        keys=64,
        vocab=10,
        is_tied=True,
        experts=64,
        active=2,
    )
    engine = CardEngine(card=CARDS["L4"], shape=sparse, number_bytes=2)
    one, many = (engine._read_parameters(count) for count in (1, 10_000))
    expert = 4 * 3 * 64 * 512
    assert many - one == pytest.approx(62 * expert)


def test_measured_passes_lie_on_the_line_through_what_was_measured() -> None:
    assert [round(EASY.grow(n, 0).seconds * 1e3) for n in (10, 50, 90, 190)] == [20, 60, 100, 200]


def test_answers_of_one_length_take_as_many_full_passes() -> None:
    assert decode(EASY, load(40, answer=100, longest=100)).seconds == pytest.approx(100 * 0.050)


def test_answers_of_all_lengths_pay_for_every_pass_and_for_every_token() -> None:
    # 400 passes of 10 ms, and 40 x 200 tokens of 1 ms.
    assert decode(EASY, load(40)).seconds == pytest.approx(4 + 8, rel=0.01)


def test_steps_in_flight_share_the_passes() -> None:
    one, two = decode(EASY, load(40)).seconds, decode(EASY, load(40, in_flight=2)).seconds
    assert one - two == pytest.approx(2, rel=0.05)


def test_what_does_not_fit_at_once_is_written_in_full_passes_before() -> None:
    together = decode(EASY, load(90, most=90)).seconds
    assert decode(EASY, load(180, most=90)).seconds == pytest.approx(together + 200 * 0.1)
    assert decode(EASY, load(180, most=90, in_flight=2)).seconds == pytest.approx(400 * 0.1)


@given(
    sequences=st.floats(1, 2000),
    answer=st.floats(1, 500),
    tail=st.floats(1, 8),
    prompt=st.floats(1, 4000),
    more=st.floats(1, 3),
    in_flight=st.integers(1, 4),
)
def test_more_sequences_and_longer_texts_never_take_less(
    sequences: float, answer: float, tail: float, prompt: float, more: float, in_flight: int
) -> None:
    for engine in (EASY, H100):

        def seconds(
            count: float, answer: float, prompt: float, engine: CardEngine | MeasuredEngine = engine
        ) -> float:
            longest = tail * answer
            given = load(count, answer=answer, longest=longest, prompt=prompt, in_flight=in_flight)
            return decode(engine, given).seconds

        least = seconds(sequences, answer, prompt) * (1 - 1e-9)
        assert seconds(more * sequences, answer, prompt) >= least
        assert seconds(sequences, more * answer, prompt) >= least
        assert seconds(sequences, answer, more * prompt) >= least
