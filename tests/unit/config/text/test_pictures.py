"""Pictures of values stay short, whatever the value."""

import pytest

from t2g_ray.config.text.pictures import picture, shortened


@pytest.mark.parametrize(
    "value",
    [
        "x" * 10**7,
        10**5000,
        [10**5000] * 10**6,
        {"a" * 10**6: "b" * 10**6},
        [[[[[[]]]]]] * 9,
        object,
    ],
    ids=["text", "number", "numbers", "mapping", "depth", "other"],
)
def test_a_large_value_has_a_small_picture(value: object) -> None:
    assert len(picture(value)) < 300


def test_a_small_value_is_shown_as_it_is() -> None:
    assert picture({"a": [1, "b", None]}) == "{'a': [1, 'b', None]}"
    assert picture(-5) == "-5"


def test_what_is_cut_says_how_long_it_was() -> None:
    assert shortened("abc", 2) == "ab... (3 characters)"
    assert shortened("ab", 2) == "ab"
