"""Names of a knowledge base -> the form that stands in the text."""

import pytest

from t2g_ray.data.importers.texts.surface import mend, names_in_text, plain_name, surface


def test_names_of_a_knowledge_base_find_their_form_in_the_text() -> None:
    assert plain_name('"Orbit_Mills"@en') == "Orbit Mills"
    assert plain_name('"5.2"^^xsd:double') == "5.2"
    assert surface("Red Fort", "the red fort stands") == "red fort"
    assert surface("Rome", "a romeo") is None


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("5", "in 1995"), ("5", "at 5.2 m"), ("2", "at 5.2 m"), ("5", "of 1,500"), ("500", "1,500"),
        ("5", "at -5 C"), ("Alba", "Albania"), ("art", "Martha"), ("C", "in C# only"),
        ("C", "C++ only"), ("Jose", "Jose\u0301"), ("C", "\u010c"), ("a_b", "xa_b"),
    ],
)  # fmt: skip
def test_a_name_inside_a_word_or_number_is_not_there(name: str, text: str) -> None:
    assert surface(name, text) is None
    assert surface(name, f"{text}; {name}.") == name


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("5", "on page 5."), ("5", "3-5 km"), ("5", "5, 6"), ("Ada", "(Ada)"), 
        ("(US)", "the (US)!"), ("C#", "in C# only"),
        ("\u5317\u4eac", "\u5728\u5317\u4eac\u7684"), ("Ada", "Ada's"),
    ],
)  # fmt: skip
def test_a_name_that_is_a_word_is_there(name: str, text: str) -> None:
    assert surface(name, text) == name


def test_quotes_go_in_pairs_and_names_of_one_form_are_counted() -> None:
    assert plain_name('"Bo "Ace""@en') == 'Bo "Ace"'
    assert plain_name('Bo "Ace"') == 'Bo "Ace"'
    names = names_in_text(["Old_Rome", "Old Rome", "Bo"], "Bo saw old Rome.")
    assert names.forms == ("Bo", "old Rome", "old Rome")
    assert (names.indices["Old_Rome"], names.absent, len(names.notes)) == (1, (), 1)


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
