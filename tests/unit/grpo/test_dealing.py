"""Prompts go to the actor with the fewest tokens outstanding, and stay open with it."""

from __future__ import annotations

import random

from t2g_ray.config import GrpoConfig, build_config
from t2g_ray.grpo.dealing import Dealer
from t2g_ray.types import Prompt

# A group may become 2 completions x 10 tokens long, beside its prompt.
CONFIG = build_config(
    GrpoConfig, {"run_dir": "x", "group_size": 2, "sampling": {"max_new_tokens": 10}}
)


def prompt(index: int, num_tokens: int) -> Prompt:
    return Prompt(index=index, token_ids=(1,) * num_tokens)


def dealt(shares: list[list[Prompt]]) -> list[list[int]]:
    return [[one.index for one in share] for share in shares]


def test_the_actor_with_the_fewest_tokens_outstanding_is_next() -> None:
    dealer = Dealer(CONFIG, 2)
    # 30 to actor 0, 21 and 22 to actor 1 (43), 20 + 5 to actor 0.
    shares = dealer.deal([prompt(0, 10), prompt(1, 1), prompt(2, 2), prompt(3, 5)])
    assert dealt(shares) == [[0, 3], [1, 2]]
    assert (dealer.num_open(0), dealer.num_open(1)) == (2, 2)


def test_equal_loads_go_to_the_first_actor_and_every_actor_in_use_has_a_share() -> None:
    dealer = Dealer(CONFIG, 3)
    assert dealt(dealer.deal([prompt(7, 4)])) == [[7], [], []]
    assert dealt(dealer.deal([])) == [[], [], []]


def test_many_actors_are_dealt_to_as_a_search_for_the_fewest_tokens_would() -> None:
    chance, loads, dealer = random.Random(3), [0] * 20, Dealer(CONFIG, 20)
    tokens: dict[int, tuple[int, int]] = {}
    for first in range(0, 300, 30):
        prompts = [prompt(index, chance.randint(1, 40)) for index in range(first, first + 30)]
        wanted: list[list[int]] = [[] for _ in loads]
        for one in prompts:
            actor = loads.index(min(loads))
            tokens[one.index] = actor, len(one.token_ids) + 20
            loads[actor] += tokens[one.index][1]
            wanted[actor].append(one.index)
        assert dealt(dealer.deal(prompts)) == wanted
        for index in chance.sample(sorted(tokens), 20):
            dealer.close(index)
            actor, closed = tokens.pop(index)
            loads[actor] -= closed
        assert [dealer.num_open(actor) for actor in range(20)] == [
            sum(owner == actor for owner, _ in tokens.values()) for actor in range(20)
        ]


def test_what_is_closed_no_longer_counts() -> None:
    dealer = Dealer(CONFIG, 2)
    dealer.deal([prompt(0, 10), prompt(1, 1)])
    dealer.close(0)
    assert dealer.num_open(0) == 0
    # Actor 0 has nothing to do, actor 1 has 21 tokens.
    assert dealt(dealer.deal([prompt(2, 1)])) == [[2], []]


def test_open_positions_are_known_by_actor_in_ascending_order() -> None:
    dealer = Dealer(CONFIG, 2)
    dealer.deal([prompt(index, 1) for index in (5, 4, 3, 2)])
    assert dealer.open_by_actor() == {0: [3, 5], 1: [2, 4]}
    # Of those given, what is not open is left out.
    assert dealer.open_by_actor([2, 5, 9]) == {0: [5], 1: [2]}


def test_an_actor_that_leaves_gets_no_prompt_and_keeps_what_it_has() -> None:
    dealer = Dealer(CONFIG, 2)
    dealer.deal([prompt(0, 1), prompt(1, 1)])
    dealer.use_first(1)
    assert dealer.num_used == 1
    assert dealt(dealer.deal([prompt(2, 1)])) == [[2]]
    assert dealer.open_by_actor() == {0: [0, 2], 1: [1]}


def test_an_actor_that_joins_has_nothing_outstanding() -> None:
    dealer = Dealer(CONFIG, 1)
    dealer.deal([prompt(0, 1)])
    # It is asked about as soon as it is in the fleet, which is before it is used.
    assert dealer.num_open(2) == 0
    dealer.use_first(3)
    assert dealt(dealer.deal([prompt(1, 1), prompt(2, 1)])) == [[], [1], [2]]
