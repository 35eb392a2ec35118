"""Which rates and lengths a plan's time is made from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from t2g_ray.planning.cards import CARDS, Card
from t2g_ray.planning.cluster import Cluster, Machine, read_nodes
from t2g_ray.planning.parts import KvRoom, Seat, Speed
from t2g_ray.planning.timing import TimeNotKnown, Told, time_of
from tests.unit.planning.parts import QWEN_7B, TINY, grpo, rates, sft

APART = (Seat("learner/0", 0, (0,)), Seat("rollout/0", 1, (0,)))
TWO_KINDS = read_nodes("1 x 1 x H100, 1 x 1 x L4", "--nodes")
HERE = (Seat("learner/0", 0), Seat("learner/1", 0), Seat("rollout/0", 0))


def time(
    told: Told = Told(),  # noqa: B008
    *,
    cluster: Cluster = TWO_KINDS,
    room: KvRoom | None = None,
) -> Speed:
    return time_of(grpo(), QWEN_7B, APART, cluster, room, told)


def seconds(speed: Speed, name: str) -> float:
    return sum(part.seconds for part in speed.parts if part.name == name)


def test_each_side_is_planned_with_the_cards_that_it_sits_on() -> None:
    mixed = time()
    quick = time(cluster=read_nodes("2 x 1 x H100", "--nodes"))
    assert seconds(mixed, "forward") == seconds(quick, "forward")
    assert seconds(mixed, "decode") > 3 * seconds(quick, "decode")
    assert "H100" in mixed.rates and "L4" in mixed.rates


def test_a_named_card_and_measured_rates_come_before_those_of_the_cluster() -> None:
    assert time(Told(card="NVIDIA B200")).rates == CARDS["B200"].source
    assert time(Told(rates=rates(), card="B200")).rates.startswith("measured")
    with pytest.raises(ValueError, match=r"--card must be one of .*found 'V100'"):
        time(Told(card="V100"))


def test_a_card_that_is_given_by_its_memory_alone_has_no_time() -> None:
    nameless = replace(
        TWO_KINDS, machines=(Machine(name="x", cards=(Card(name="80GiB", memory_gib=80),)),) * 2
    )
    with pytest.raises(TimeNotKnown, match="no speed of 80GiB: give --card"):
        time(cluster=nameless)
    assert time(Told(card="H100"), cluster=nameless).step_s > 0


def test_actors_on_cpus_need_rates_that_were_measured() -> None:
    config = grpo(device="cpu", rollout={"gpus": 0}, learner={"gpus": 0, "ranks": 2})
    cluster = Cluster((Machine(name="this", cpus=2),), "this machine")
    with pytest.raises(TimeNotKnown, match="give --measure"):
        time_of(config, TINY, HERE, cluster, None, Told())
    crowded = time_of(config, TINY, HERE, cluster, None, Told(rates=rates()))
    room = replace(cluster, machines=(Machine(name="this"),))
    assert crowded.step_s >= time_of(config, TINY, HERE, room, None, Told(rates=rates())).step_s


def test_lengths_are_those_of_the_measurement_unless_they_are_told() -> None:
    measured = time(Told(rates=rates(prompt_tokens=50.0, answer_tokens=30.0)))
    assert measured.answer_tokens == 512 * 30
    assert time(Told(rates=rates(), answer_tokens=99)).answer_tokens == 512 * 99


def test_lengths_of_another_run_come_before_those_of_the_measurement(tmp_path: Path) -> None:
    line = '{"step": 1, "tokens/prompt": 40, "tokens/trained": 80, "completion_length/mean": 20}\n'
    (tmp_path / "metrics.jsonl").write_text(line)
    assert time(Told(rates=rates(), like=tmp_path)).answer_tokens == 512 * 20
    supervised = time_of(
        sft(batch_size=4), TINY, HERE[:2], TWO_KINDS, None, Told(rates=rates(), like=tmp_path)
    )
    assert supervised.tokens == 4 * 30


def test_a_sync_on_one_machine_passes_no_network() -> None:
    near = time_of(
        grpo(sync={"transport": "broadcast"}),
        QWEN_7B,
        (Seat("learner/0", 0, (0,)), Seat("rollout/0", 0, (1,))),
        read_nodes("1 x 2 x H100", "--nodes"),
        None,
        Told(),
    )
    assert seconds(near, "sync") < seconds(time(Told(card="H100")), "sync") / 10


def test_a_small_cache_makes_more_passes() -> None:
    small = KvRoom(num_bytes=4096, sequence_bytes=1024, sequence_tokens=1536, max_sequences=512)
    assert seconds(time(room=small), "decode") > 3 * seconds(time(), "decode")
