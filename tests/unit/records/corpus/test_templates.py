"""The sentences of the embedded world: what they state, and that levels can fill them."""

from __future__ import annotations

from collections import Counter

from t2g_ray.records.corpus import (
    ALL_TEMPLATES,
    RELATION_ENDS,
)
from t2g_ray.records.corpus.generate import LEVELS
from t2g_ray.records.corpus.templates import slot_type


def test_every_fact_of_a_template_has_the_end_types_of_its_relation() -> None:
    stating = [t for t in ALL_TEMPLATES if t.facts]
    assert sum(len(template.facts) for template in stating) >= len(stating) > 20
    for template in stating:
        for head, tail, relation in template.facts:
            assert {head, tail} <= set(template.slots)
            assert (slot_type(head), slot_type(tail)) == RELATION_ENDS[relation]


def test_every_level_can_fill_its_templates() -> None:
    for level in LEVELS.values():
        for template in level.stating + level.mentioning:
            needed = Counter(slot_type(slot) for slot in template.slots)
            assert all(count <= level.names_per_type for count in needed.values())
        assert level.facts[1] <= len(level.stating)
        assert level.mentions[1] <= len(level.mentioning)
