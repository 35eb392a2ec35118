"""Answer -> the named parts of its reward: scores in [0, 1], penalties in [-1, 0].

What a completion could earn without reading the text must be worth nothing: a failed parse earns 0
in every score, and an empty graph where there is something to find earns only that it is JSON.
Where the gold has nothing of a kind, its F1 is that of the whole graph, so that leaving the kind
out earns only with what was found of the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from t2g_ray.config.rewards import Shaping
from t2g_ray.graph.counts import Counts, ItemKey
from t2g_ray.graph.matching import Match, f_beta
from t2g_ray.graph.parsing import ParseFailure
from t2g_ray.rewards.answer import Answer

RewardPart = Callable[[Answer, Shaping], float]


def format_part(answer: Answer, shaping: Shaping) -> float:
    """1.0 if the answer follows exactly one non-empty reasoning. It counts only when thinking is
    on."""
    if isinstance(answer.outcome, ParseFailure) or answer.graph is None:
        return 0.0
    return float(answer.outcome.think_ok)


def json_part(answer: Answer, shaping: Shaping) -> float:
    """1.0 for a graph and nothing else; each character around it dilutes the answer."""
    outcome = answer.outcome
    if isinstance(outcome, ParseFailure):
        return 0.0
    return outcome.graph_chars / (outcome.graph_chars + outcome.outside_chars)


def schema_part(answer: Answer, shaping: Shaping) -> float:
    """1 less the items that break the request, over the number of gold items: a wanted type, a
    unique id, no copy of an earlier item, and relation ends that are listed entities.
    """
    if answer.graph is None:
        return 0.0
    num_items = len(answer.entities) + len(answer.relations)
    num_obedient = _num_obedient_entities(answer) + _num_obedient_relations(answer)
    return _less(num_items - num_obedient, len(answer.gold.entities) + len(answer.gold.relations))


def grounding_part(answer: Answer, shaping: Shaping) -> float:
    """1 less the entities whose text does not occur in the record's text, over the number of gold
    entities. Without entities 1.0 only for an empty answer where nothing is to be found.
    """
    if answer.graph is None:
        return 0.0
    if not answer.entities:
        return float(not (answer.gold.entities or answer.gold.relations or answer.relations))
    source = answer.gold.text
    num_found = sum(text != "" and text in source for text, _ in answer.entities)
    return _less(len(answer.entities) - num_found, len(answer.gold.entities))


def f1_entities_part(answer: Answer, shaping: Shaping) -> float:
    """Exact F1 of this record's entities; of its whole graph where the gold has no entities."""
    return _f1(answer, shaping, answer.gold.entities, [answer.entity_match])


def f1_relations_part(answer: Answer, shaping: Shaping) -> float:
    """Exact F1 of this record's relations; of its whole graph where the gold has no relations."""
    return _f1(answer, shaping, answer.gold.relations, [answer.relation_match])


def soft_entities_part(answer: Answer, shaping: Shaping) -> float:
    """Entity F1 with part of a point for near misses, so that early groups do not tie."""
    return _f1(answer, shaping, answer.gold.entities, [answer.entity_match], near=answer.near[:1])


def soft_relations_part(answer: Answer, shaping: Shaping) -> float:
    """Relation F1 with part of a point for near misses: one right end, or both swapped."""
    matches = [answer.relation_match]
    return _f1(answer, shaping, answer.gold.relations, matches, near=answer.near[1:])


def duplicates_part(answer: Answer, shaping: Shaping) -> float:
    """Minus the share of items that are copies of an earlier one."""
    num_items = len(answer.entities) + len(answer.relations)
    num_copies = num_items - len(set(answer.entities)) - len(set(answer.relations))
    return -num_copies / num_items if num_copies else 0.0


def overlong_part(answer: Answer, shaping: Shaping) -> float:
    """Soft overlong punishment of DAPO (arXiv:2503.14476), equation 13: 0 up to L_max - L_cache
    tokens, then down in a straight line to -1 at L_max = `max_new_tokens`;
    L_cache = `overlong_share` * L_max.
    """
    if shaping.max_new_tokens is None:
        raise ValueError("the overlong penalty needs max_new_tokens, found None; give the limit")
    cache = shaping.overlong_share * shaping.max_new_tokens
    excess = answer.num_tokens - (shaping.max_new_tokens - cache)
    return -min(1.0, excess / cache) if excess > 0 else 0.0


def _less(num_faults: int, num_gold: int) -> float:
    """Not the share of what was written, which padding with harmless junk would raise."""
    return max(0.0, 1.0 - num_faults / max(1, num_gold))


def _f1(
    answer: Answer,
    shaping: Shaping,
    gold: Sequence[ItemKey],
    matches: Sequence[Match],
    near: Sequence[float] = (),
) -> float:
    """F-beta to the power of one kind of item; of the whole graph where the gold has none of it."""
    if answer.graph is None:
        return 0.0
    if not gold:
        matches = [answer.entity_match, answer.relation_match]
        near = answer.near if near else ()
    counts = sum((match.counts for match in matches), Counts())
    return float(f_beta(counts, shaping.beta, sum(near)) ** shaping.power)


def _num_obedient_entities(answer: Answer) -> int:
    assert answer.graph is not None
    ids: set[int] = set()
    seen: set[tuple[str, ...]] = set()
    num_obedient = 0
    for entity, key in zip(answer.graph.entities, answer.entities, strict=True):
        text, type_ = key
        is_new = entity.id not in ids and key not in seen
        num_obedient += is_new and text != "" and type_ in answer.gold.entity_types
        ids.add(entity.id)
        seen.add(key)
    return num_obedient


def _num_obedient_relations(answer: Answer) -> int:
    texts = {text for text, _ in answer.entities}
    return sum(
        type_ in answer.gold.relation_types and head in texts and tail in texts
        for head, tail, type_ in dict.fromkeys(answer.relations)
    )


PARTS: dict[str, RewardPart] = {
    "format": format_part,
    "json": json_part,
    "schema": schema_part,
    "grounding": grounding_part,
    "f1_entities": f1_entities_part,
    "f1_relations": f1_relations_part,
    "soft_entities": soft_entities_part,
    "soft_relations": soft_relations_part,
    "duplicates": duplicates_part,
    "overlong": overlong_part,
}
