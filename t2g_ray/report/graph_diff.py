"""Gold and predicted graph -> what matches, what is wrong, what was missed, and a marked text.

Items compare as in exact scoring. Invariant: every distinct entity and relation has exactly one
status in each graph, and all text leaves here HTML-escaped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

from t2g_ray.graph import Graph
from t2g_ray.graph.composed import composed
from t2g_ray.graph.counts import ItemKey, entity_keys, relation_keys

ItemStatus = Literal["match", "wrong", "missed"]
MARKS: dict[ItemStatus, str] = {"match": "\u2713", "wrong": "\u2717", "missed": "\u2013"}
"""Shown beside the colour, so that nothing depends on colour vision."""


@dataclass(frozen=True, slots=True)
class MarkedGraph:
    """One of the two graphs: a status for each (text, type) and each (head, tail, type)."""

    entities: Mapping[ItemKey, ItemStatus]
    relations: Mapping[ItemKey, ItemStatus]

    def texts(self) -> list[str]:
        """Entity texts and relation ends, each once."""
        ends = [end for head, tail, _ in self.relations for end in (head, tail)]
        return list(dict.fromkeys([text for text, _ in self.entities] + ends))


def compare_graphs(gold: Graph, predicted: Graph) -> tuple[MarkedGraph, MarkedGraph]:
    """The gold side (match or missed) and the predicted side (match or wrong)."""
    entities = entity_keys(gold), entity_keys(predicted)
    relations = relation_keys(gold), relation_keys(predicted)
    return (
        MarkedGraph(_status(*entities, "missed"), _status(*relations, "missed")),
        MarkedGraph(_status(*entities[::-1], "wrong"), _status(*relations[::-1], "wrong")),
    )


def _status(
    own: list[ItemKey], other: list[ItemKey], otherwise: ItemStatus
) -> dict[ItemKey, ItemStatus]:
    others = set(other)
    return {key: "match" if key in others else otherwise for key in own}


def marked_text(text: str, gold: MarkedGraph, predicted: MarkedGraph) -> tuple[Markup, list[str]]:
    """The text with its entities marked inline, and the entities that do not occur in it.

    Longer mentions win over those inside them.
    """
    statuses: dict[str, list[tuple[ItemStatus, str]]] = {}
    for (mention, type_), status in {**gold.entities, **predicted.entities}.items():
        if mention:
            statuses.setdefault(mention, []).append((status, type_))
    text = composed(text)
    absent = [mention for mention in statuses if mention not in text]
    longest_first = sorted(
        statuses.keys() - set(absent), key=lambda mention: (-len(mention), mention)
    )
    if not longest_first:
        return Markup.escape(text), absent
    patterns = "|".join(_pattern(mention, text) for mention in longest_first)
    parts: list[Markup] = []
    for index, part in enumerate(re.split(f"({patterns})", text)):
        is_mention = index % 2 == 1
        parts.append(_mark(part, statuses[part]) if is_mention else Markup.escape(part))
    return Markup("").join(parts), absent


def _pattern(mention: str, text: str) -> str:
    """Whole words where the text has them; else (no spaces between words) any place."""
    whole = rf"(?<!\w){re.escape(mention)}(?!\w)"
    return whole if re.search(whole, text) else re.escape(mention)


def _mark(mention: str, statuses: list[tuple[ItemStatus, str]]) -> Markup:
    kinds = {status for status, _ in statuses}
    shown = next(kind for kind in ("wrong", "missed", "match") if kind in kinds)
    types = ", ".join(f"{MARKS[status]} {type_}" for status, type_ in sorted(statuses))
    return Markup('<mark class="{}">{}<small>{}</small></mark>').format(shown, mention, types)
