"""Words for machines, and what is said about those that are none."""

from __future__ import annotations

import pytest

from t2g_ray.planning.cards import CARDS
from t2g_ray.planning.cluster import INSTANCES, Machine, read_nodes


def machines(text: str) -> list[Machine]:
    return list(read_nodes(text, "--nodes").machines)


def test_groups_of_machines_are_read_with_their_cards_cpus_memory_and_role() -> None:
    first, *others = machines("1 x 4 x l40s with 48 cpus and 384 GiB for learner, 2 x 1 x H100")
    assert first.cards == (CARDS["L40S"],) * 4
    assert (first.cpus, first.host_gib, first.roles) == (48, 384, ("learner",))
    assert [one.cards for one in others] == [(CARDS["H100"],)] * 2
    assert [(one.cpus, one.host_gib, one.roles) for one in others] == [(None, None, ())] * 2
    (both,) = machines("1 x 4 x L40S for learner and rollout")
    assert both.roles == ("learner", "rollout")


def test_instances_have_what_their_name_says_unless_more_is_written() -> None:
    plain, larger = machines("1 x g6e.12xlarge,1 x g6e.12xlarge with 9 cpus")
    assert plain == INSTANCES["g6e.12xlarge"]
    assert (larger.cpus, larger.host_gib) == (9, 384)


def test_a_card_without_a_name_and_a_machine_without_a_card() -> None:
    card, none = machines("1 x 2 x 80GiB, 1 x none with 8 cpus and 32 GiB")
    assert [one.memory_gib for one in card.cards] == [80, 80]
    assert (none.cards, none.cpus, none.host_gib) == ((), 8, 32)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must name machines"),
        ("four L40S", "COUNT x GPUS x CARD"),
        ("1 x 4 x A100", "one of T4, .*found 'A100'; choose one, or write"),
        ("1 x g9.large", "an instance is one of m7i"),
        ("0 x 1 x L4", "1 to 10000 machines"),
        ("1 x 1 x L4 for teacher", "kept for some of learner, rollout, reward"),
        ("1 x 1 x L4 for learner and teacher", "found 'teacher'"),
    ],
)
def test_what_names_no_machines_is_refused_with_what_to_write(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        machines(text)
