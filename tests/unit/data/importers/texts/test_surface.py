"""Names of a knowledge base -> the form that stands in the text."""

import pytest

from t2g_ray.data.importers.texts.surface import mend, plain_name, surface


def test_names_of_a_knowledge_base_find_their_form_in_the_text() -> None:
    assert plain_name('"Orbit_Mills"@en') == "Orbit Mills"
    assert plain_name('"5.2"^^xsd:double') == "5.2"
    assert surface("Red Fort", "the red fort stands") == "red fort"
    assert surface("Rome", "a romeo") is None


@pytest.mark.parametrize(
    ("broken", "mended"),
    [
        ("caf\u00c3\u00a9", "caf\u00e9"),
        ("it\u00e2\u20ac\u2122s", "it\u2019s"),
        ("caf\u00e9 \u00e0 la", "caf\u00e9 \u00e0 la"),
        ("na\u00efve \u00ab\u00e9\u00bb", "na\u00efve \u00ab\u00e9\u00bb"),
    ],
)
def test_only_text_that_decodes_again_is_mended(broken: str, mended: str) -> None:
    assert mend(broken) == mended
