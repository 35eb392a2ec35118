"""The names of the embedded world: one type each, and none inside another or a phrase."""

from __future__ import annotations

import pytest

from t2g_ray.records.corpus import (
    ALL_TEMPLATES,
    HELDOUT_NAMES,
    NAMES,
    SPLITS,
    generate_records,
)


@pytest.mark.untraced
def test_names_are_unique_and_heldout_names_stay_out_of_the_other_splits() -> None:
    common = [name for names in NAMES.values() for name in names]
    heldout = [name for names in HELDOUT_NAMES.values() for name in names]
    assert len(set(common + heldout)) == len(common) + len(heldout)
    for split in SPLITS:
        for record in generate_records(split, 200, seed=0, level="hard"):
            for entity in record.graph.entities:
                assert (entity.text in heldout) == (split == "heldout_names")


def test_no_name_is_part_of_a_phrase_or_of_another_name() -> None:
    names = [n for pool in (NAMES, HELDOUT_NAMES) for group in pool.values() for n in group]
    phrases = [phrase for template in ALL_TEMPLATES for phrase in template.phrases]
    for name in names:
        assert not any(name in other for other in [*phrases, *names] if other != name)
