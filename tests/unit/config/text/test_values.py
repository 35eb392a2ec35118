"""YAML text -> plain values: what is read, and what is refused because readers disagree on it."""

from __future__ import annotations

import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2g_ray.config.text.values import plain_value, read_override, read_text, write_text

DISPUTED = (
    "010 -010 0_1 0o17 0x1F 0b11 1_000 1:30 1:30.5 yes No on OFF .inf -.INF .nan 2024-01-01 << = "
    "08 1e999 1e-999 0.00001e-400 9223372036854775808 -9223372036854775808"
)
LIKE_VALUES = "1e3 1E3 .5 5. ~ null -0 +1 #a a#b -a ?a a: *a &a !a"


def test_off_is_a_word_and_nothing_else() -> None:
    assert read_override("off") == "off" == plain_value("off")
    assert read_text("a: off\nb: [off]") == {"a": "off", "b": ["off"]}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("-0", 0),
        ("+7", 7),
        ("1e-4", 1e-4),
        ("1E3", 1000.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("true", True),
        ("False", False),
        ("~", None),
        ("null", None),
        ("", None),
        ("a b", "a b"),
        ("y", "y"),
        ("inf", "inf"),
        ("nan", "nan"),
        ("1.2.3", "1.2.3"),
        ("v1", "v1"),
        ("1,5", "1,5"),
    ],
)
def test_a_plain_value_is_what_it_looks_like(text: str, value: object) -> None:
    found = plain_value(text)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    "text",
    [
        *DISPUTED.split(),
        "2024-01-01 10:00:00",
        "9" * 5000,
        "~nobody_by_this_name/x",
        "$HOME/x",
        "${HOME}/x",
    ],
    ids=lambda text: text[:20],
)
def test_what_readers_disagree_on_is_refused_and_quotes_make_it_text(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        plain_value(text)
    assert len(str(caught.value)) < 500
    with pytest.raises(ValueError, match="line 2: "):
        read_text(f"a: 1\nb: {text}\n")
    if "/" not in text:
        assert read_override(f"'{text}'") == text
        assert read_text(f'a: "{text}"') == {"a": text}


def test_the_home_folder_is_filled_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    assert read_text("a: ~/runs\nb: '~/x'\nc: a~/b\nd: '~'") == {
        "a": "/home/ann/runs",
        "b": "/home/ann/x",
        "c": "a~/b",
        "d": "~",
    }
    assert read_override("~/runs") == os.path.join("/home/ann", "runs")


LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "line 3: a key must stand once, found a again, first in line 1"),
        ("a: {b: 1, b: 1}\n", "line 1: a key must stand once, found b again"),
        ("a: 1\n'a': 2\n", "line 2: a key must stand once"),
        ("- {a: 1}\n- {a: 1, a: 2}\n", "line 2: a key must stand once"),
        (LAUGHS, "at most 10000 values"),
        ("a: &a [*a]\n", "nest 32 deep"),
        ("a: &a {b: *a}\n", "nest 32 deep"),
        ("a: " + "[" * 40 + "]" * 40, "nest 32 deep"),
        ("[" * 100_000, "nest 32 deep"),
        ("? [a, b]\n: 1\n", "line 1: a key must be text, found something else"),
        ("? {a: b}\n: 1\n", "line 1: a key must be text"),
        ("1: x\n", "line 1: a key must be text, found 1"),
        ("true: x\n", "line 1: a key must be text, found true"),
        ("~: x\n", "line 1: a key must be text"),
        ("on: x\n", "line 1: on is read in different ways"),
        ("b: &b {c: 1}\na: {<<: *b}\n", "line 2: << is read in different ways"),
        ("a: !!python/object/apply:os.getcwd []\n", "line 1: tags are not read"),
        ("a: !!int '5'\n", "line 1: tags are not read"),
        ("a: !!binary aGk=\n", "line 1: tags are not read"),
        ("a: *nobody\n", "it must be valid YAML: found undefined alias"),
        ("a: 1\n---\nb: 2\n", "it must be valid YAML: expected a single document"),
        ("a: 'open\n", "it must be valid YAML"),
        ("a: '\nb: '\n", "line 1: text of several lines"),
        ("a: b\n  c\n", "line 1: text of several lines"),
        ("a: 'b'#c\n", "line 1: a blank must stand before #"),
        ("a: [b]#c\n", "line 1: a blank must stand before #"),
        ("\ta: 1\n", "it must be valid YAML"),
        ("a: b\x07\n", "it must be valid YAML"),
        ("x" * 300_000, "at most 200000 characters"),
        ("a: &" + "n" * 100_000 + " 1\nb: *m" + "n" * 90_000, "it must be valid YAML"),
    ],
    ids=lambda text: text[:20],
)
def test_a_text_that_hides_or_repeats_something_is_refused(text: str, message: str) -> None:
    started_s = time.process_time()
    with pytest.raises(ValueError) as caught:
        read_text(text)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 500
    assert time.process_time() - started_s < 5


def test_an_alias_is_a_copy() -> None:
    value = read_text("a: &a {b: [1]}\nc: *a\n")
    assert value == {"a": {"b": [1]}, "c": {"b": [1]}}
    assert isinstance(value, dict)
    value["a"]["b"].append(2)
    assert value["c"] == {"b": [1]}


def test_nothing_follows_the_value_of_an_override() -> None:
    assert read_override(" [1, {a: b}] ") == [1, {"a": "b"}]
    with pytest.raises(ValueError, match="nothing may follow the value, found # one"):
        read_override("[1] # one")


plain = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
)
odd = st.sampled_from(f"{DISPUTED} {LIKE_VALUES}".split())
trees = st.recursive(
    plain | odd | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"])) | odd, inner, max_size=4
        )
    ),
    max_leaves=8,
)


@given(trees)
def test_what_is_written_is_read_back_as_it_was(tree: object) -> None:
    again = read_text(write_text(tree))
    assert repr(again) == repr(tree)


@pytest.mark.parametrize(
    "text", ["a: &0", "a: &x\nb: 1", "a: [&x , 1]", "a: {b: &1}", "&z", "- &y"]
)
def test_an_anchor_of_nothing_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="line 1: an anchor must have a value, found none"):
        read_text(text)
    assert read_text("a:\nb: ~\nc: &x 1\nd: *x") == {"a": None, "b": None, "c": 1, "d": 1}
