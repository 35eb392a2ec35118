"""What a run computes on."""

from __future__ import annotations

import pytest

from t2g_ray.planning.cards import CARDS, Card
from t2g_ray.planning.speed.hardware import Hardware
from tests.unit.planning.parts import grpo, rates

ON_CPU = grpo(device="cpu", rollout={"gpus": 0}, learner={"gpus": 0}).learner


def test_a_card_whose_speed_is_not_known_is_refused() -> None:
    for card in (CARDS["T4"], Card(name="80GiB", memory_gib=80)):
        with pytest.raises(ValueError, match=f"found no figures of {card.name}"):
            Hardware(source=card)
        with pytest.raises(ValueError, match=f"found no figures of {card.name}"):
            Hardware(source=CARDS["H100"], engine_card=card)


def test_engines_have_the_learners_card_unless_they_have_another_or_were_measured() -> None:
    h100, l4 = CARDS["H100"], CARDS["L4"]
    assert Hardware(source=h100).samplers_card is h100
    assert Hardware(source=h100, engine_card=l4).samplers_card is l4
    assert Hardware(source=rates(), engine_card=l4).samplers_card is None


def test_weights_pass_the_network_between_nodes_alone() -> None:
    assert Hardware(source=rates(), network=50).sync_network == 50
    assert Hardware(source=rates(), network=50, is_one_node=True).sync_network is None


@pytest.mark.parametrize(
    ("cores", "threads", "measured", "factor"),
    [(2, 1, 1, 1), (2, 4, 1, 2), (2, 4, 2, 1), (2, 2, 2, 0.5), (None, 4, 1, 1)],
)
def test_more_threads_than_cores_take_turns_beyond_what_was_measured_of_it(
    cores: float | None, threads: float, measured: float, factor: float
) -> None:
    hardware = Hardware(source=rates(), cores=cores)
    assert hardware.crowding(threads, ON_CPU, measured) == factor
    assert hardware.crowding(threads, grpo().learner, measured) == 1
