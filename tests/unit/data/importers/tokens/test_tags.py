"""Tags of every scheme -> spans with their types."""

import pytest

from t2g_ray.data.importers.row import RowError
from t2g_ray.data.importers.tokens.tags import spans_of


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        ("B-A I-A O B-A B-A", [(0, 2, "A"), (3, 4, "A"), (4, 5, "A")]),
        ("I-A I-A I-B O", [(0, 2, "A"), (2, 3, "B")]),
        ("U-A B-B L-B U-B", [(0, 1, "A"), (1, 3, "B"), (3, 4, "B")]),
        ("B-A M-A E-A S-B", [(0, 3, "A"), (3, 4, "B")]),
        ("S-A B-B E-B I-B", [(0, 1, "A"), (1, 3, "B"), (3, 4, "B")]),
    ],
)
def test_tags_of_every_scheme_become_spans(tags: str, spans: list[tuple[int, int, str]]) -> None:
    assert spans_of(tags.split()) == spans


@pytest.mark.parametrize("tag", ["X-A", "B", "B-", "", "A"])
def test_an_unknown_tag_is_an_error(tag: str) -> None:
    with pytest.raises(RowError, match="a tag must be O or like B-Type"):
        spans_of([tag])
