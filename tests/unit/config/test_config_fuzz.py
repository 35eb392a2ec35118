"""Configurations with the oddities of YAML become what they say, or are refused.

What they say is worked out here without YAML; a refusal names key or line.
"""

from __future__ import annotations

import os
import tempfile
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t2g_ray.config import ConfigError, GrpoConfig, load_config

GOOD = {
    "steps": (int, "7"),
    "seed": (int, "0"),
    "learner.zero_stage": (int, "1"),
    "learner.ranks": (int, "2"),
    "data.train_records": (int, "12"),
    "learner.optimizer.lr": (float, "1e-4"),
    "deadlines.train_s": (float, "90"),
    "reward.beta": (float, ".5"),
    "learner.packing": (bool, "false"),
    "learner.gradient_checkpointing": (bool, "true"),
    "model": (str, "owner/name"),
    "data.train": (str, "a b.jsonl"),
    "resume": (str, "auto"),
    "prompt.style": (str, "compact"),
}
"""Key -> its kind, and a value that is certainly right."""
NOT_GIVEN = {"", "~", "null", "Null", "NULL"}
TRUTHS = {
    name: name.lower() == "true" for name in ("true", "True", "TRUE", "false", "False", "FALSE")
}
ODD_TEXT = """
true True yes no on off y 1 0 -1 +1 -0 010 08 0o7 0x1F 0b1 1_000 1,000 1:30 1.0 1. 1.5 .5 1e3 1E-3
1e999 1e-999 .inf -.inf inf nan .nan ~ null None 2024-01-01 9223372036854775808 << =
@a `a` %a *a &a !a !!int | > a#b ~/x auto never compact full embedded 'auto' "1"
'1' 1d [1] {} [] {a:1} \u0661 \uff11
"""
ODD = ODD_TEXT.split()
EXTRAS = ("", "", "", "twice", "merge", "tag", "number", "deep", "laughs", "second")
TEXTS = st.text(st.sampled_from("aA1.0_-+eE:~'\"#&*!|>%@`?,x /\\ é漢"), min_size=1, max_size=6)
written = st.sampled_from(ODD) | TEXTS.map(str.strip) | st.integers().map(str)
written |= st.floats().map(repr)
cases = st.fixed_dictionaries(
    {
        "values": st.dictionaries(st.sampled_from(sorted(GOOD)), st.none() | written, max_size=4),
        "flow": st.booleans(),
        "newline": st.sampled_from(("\n", "\r\n")),
        "mark": st.sampled_from(("", "\ufeff", "# a remark\n", "---\n", "%YAML 1.2\n---\n")),
        "extra": st.sampled_from(EXTRAS),
        "is_override": st.booleans(),
    }
)
EXTRA = {
    "twice": "sampling: {temperature: 1.0}\nsampling: {}\n",
    "merge": "sampling: &s {temperature: 0.5}\nsync: {<<: *s}\n",
    "tag": "sampling: {temperature: !!float '0.5'}\n",
    "number": "1: 2\n",
    "deep": "sampling: " + "{a: " * 99 + "1" + "}" * 99 + "\n",
    "laughs": "a: &a [1,1,1,1,1,1,1,1,1]\n"
    + "".join(
        f"{b}: &{b} [{('*' + a + ',') * 9}]\n" for a, b in zip("abcdef", "bcdefg", strict=True)
    ),
    "second": "---\nsteps: 3\n",
}
"""What makes any file wrong."""


def meaning(kind: type, text: str) -> Any:
    """The value that this text must have where it is not refused; `...` where it must be."""
    if text in NOT_GIVEN:
        return None
    if kind is bool:
        return TRUTHS.get(text, ...)
    if kind is str:
        if (
            text[0] in "'\""
            and len(text) > 1
            and text[0] == text[-1]
            and text[0] not in text[1:-1]
            and "\\" not in text
        ):
            return text[1:-1]
        return os.path.expanduser(text) if text.startswith("~/") else text
    plain = text.lstrip("+") if text.startswith("+") and not text.startswith("++") else text
    if not plain.isascii() or "_" in plain:
        return ...
    try:
        number = Decimal(plain)
    except InvalidOperation:
        return ...
    digits = plain.lstrip("-")
    if not number.is_finite() or (digits[:1] == "0" and digits[1:2].isdigit()):
        return ...
    if kind is float:
        return float(plain)
    return int(number) if plain == str(int(number)) or plain == "-0" else ...


def flat(config: GrpoConfig, key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = getattr(value, part)
    return value


def yaml_of(values: dict[str, str], *, flow: bool) -> str:
    """The file, written without a YAML library: sections as blocks or in braces."""
    tree: dict[str, Any] = {}
    for key, text in values.items():
        node = tree
        *parents, leaf = key.split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = text

    def block(node: dict[str, Any], indent: str) -> str:
        lines = []
        for key, value in node.items():
            if isinstance(value, str):
                lines.append(f"{indent}{key}: {value}\n")
            elif flow:
                lines.append(f"{indent}{key}: {braces(value)}\n")
            else:
                lines.append(f"{indent}{key}:\n{block(value, indent + '  ')}")
        return "".join(lines)

    def braces(node: dict[str, Any]) -> str:
        pairs = (f"{k}: {v if isinstance(v, str) else braces(v)}" for k, v in node.items())
        return "{" + ", ".join(pairs) + "}"

    return block(tree, "")


def check(case: dict[str, Any]) -> None:
    given = {key: GOOD[key][1] if text is None else text for key, text in case["values"].items()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "c.yaml"
        head = case["mark"] + "run_dir: x\n" + EXTRA.get(case["extra"], "")
        body = "" if case["is_override"] else yaml_of(given, flow=case["flow"])
        text = (head + body).replace("\n", case["newline"])
        path.write_bytes(text.encode())
        overrides = (
            [f"{key}={value}" for key, value in given.items()] if case["is_override"] else []
        )
        try:
            config = load_config(GrpoConfig, path, overrides)
        except ConfigError as error:
            message = str(error)
            assert len(message) < 12_000
            # Braces can make another key of a value: then it is that one of the same section.
            places = [*given, *(f"{key.partition('.')[0]}." for key in given)]
            names_place = "line " in message or any(place in message for place in places)
            assert names_place or case["extra"] or "muon" in message, message
            is_fine = all(value is None for value in case["values"].values()) and not case["extra"]
            assert not is_fine, message
            return
    assert case["extra"] == "", text
    default = GrpoConfig(run_dir=Path("x"))
    for key, (kind, _) in GOOD.items():
        found = flat(config, key)
        if key not in given:
            assert found == flat(default, key)
            continue
        expected = meaning(kind, without_remark(given[key], is_override=case["is_override"]))
        assert expected is not ..., (key, given[key], found)
        assert (found, type(found)) == (expected, type(expected)), (key, given[key], found)


def without_remark(text: str, *, is_override: bool) -> str:
    """In a file, # after a blank begins a remark; on the command line it is a character."""
    if is_override:
        return text
    text = "" if text.startswith("#") else text.split(" #")[0].strip()
    return "''" if text in ("|", ">") else text  # the beginning of a longer text that is empty


@given(cases)
@settings(max_examples=150)
def test_a_configuration_is_what_it_says_or_is_refused_by_key_or_line(case: dict[str, Any]) -> None:
    check(case)


@pytest.mark.long
@pytest.mark.timeout(3600)
@given(cases)
@settings(max_examples=20_000)
def test_20_000_configurations_are_what_they_say_or_are_refused(case: dict[str, Any]) -> None:
    check(case)
