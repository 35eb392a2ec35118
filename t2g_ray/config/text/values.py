"""YAML text -> plain values: mappings, lists, strings, integers, floats, booleans and None.

What versions of YAML or other readers take for different values (010, 1:30, yes, 2024-01-01, a key
that stands twice, a merge key) is refused, so that nobody gets another value than the one they
read. Text in quotes is a string, always.

Invariant: no value is shared between two places, and none is larger than MAX_VALUES and MAX_CHARS
allow, whatever aliases a text expands to.
"""

from __future__ import annotations

import math
import os
import re
from typing import Any

import yaml

from t2g_ray.config.text.pictures import shortened

MAX_CHARS = 200_000
MAX_VALUES = 10_000
MAX_DEPTH = 32
MAX_INT = 2**63
"""Integers stay below; larger ones fit into no setting."""

MAX_DIGITS = 20
"""With a sign; Python takes quadratic time to read digits."""

INT = re.compile(r"[-+]?(0|[1-9][0-9]*)")
FLOAT = re.compile(r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")
AMBIGUOUS = re.compile(r"[-+]?0[0-9_]+|[-+]?0[oO][0-7]+")
"""Octal in one version of YAML, decimal or text in another. More is found by YAML 1.1's rules."""
HOME = re.compile(r"~[\w.-]*/")
VARIABLE = re.compile(r"\$\{?\w+\}?/")
NAMES = {
    "": None,
    **dict.fromkeys(("~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
WORDS = frozenset({"off"})
"""Text, although YAML 1.1 takes them for truth values: settings have such values, and no setting
that must be true or false takes text."""
PLAIN, QUOTED = "plain", "quoted"
MAPPING, SEQUENCE = "mapping", "sequence"


class _Loader(yaml.SafeLoader):
    """Scalars are told apart by being plain or quoted only; `_scalar` reads them."""

    def resolve(self, kind: Any, value: Any, implicit: Any) -> str:
        if kind is yaml.ScalarNode:
            return PLAIN if implicit[0] else QUOTED
        return MAPPING if kind is yaml.MappingNode else SEQUENCE


class _Dumper(yaml.SafeDumper):
    """Quotes all that `read_text` would not take for text, and writes each text in one line."""

    def represent_str(self, data: str) -> yaml.ScalarNode:
        style = '"' if "\n" in data else None
        return self.represent_scalar("tag:yaml.org,2002:str", data, style)


_Dumper.add_representer(str, _Dumper.represent_str)
_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", FLOAT, list("-+.0123456789"))
_Dumper.add_implicit_resolver("tag:yaml.org,2002:int", AMBIGUOUS, list("-+0"))


def write_text(value: object) -> str:
    """The YAML that `read_text` reads as this value."""
    return str(yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=float("inf")))


def read_text(text: str) -> object:
    """The value of a YAML document; None for an empty one.

    Raises ValueError with the line, what must hold and what was found.
    """
    if len(text) > MAX_CHARS:
        raise ValueError(f"at most {MAX_CHARS} characters are read, found {len(text)}")
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ValueError(
            f"it must be valid YAML: {shortened(' '.join(str(error).split()))}"
        ) from None
    except RecursionError:
        raise ValueError(f"values may nest {MAX_DEPTH} deep, found more") from None
    return None if node is None else _Values().of(node, 0)


def read_override(text: str) -> object:
    """The value of `key=value`: YAML where it starts as a list, a mapping or text in quotes, else
    one plain value with every character that it has. Raises ValueError.
    """
    text = text.strip()
    if not text.startswith(("[", "{", '"', "'")):
        return plain_value(text)
    value = read_text(text)
    node = yaml.compose(text, Loader=_Loader)
    if node is not None and (rest := text[node.end_mark.index :].strip()):
        raise ValueError(f"nothing may follow the value, found {shortened(rest)}")
    return value


def plain_value(text: str) -> object:
    """What text without quotes stands for. Raises ValueError where readers do not agree on it."""
    if text in WORDS:
        return text
    if text in NAMES:
        return NAMES[text]
    if INT.fullmatch(text):
        if len(text) > MAX_DIGITS or abs(int(text)) >= MAX_INT:
            raise ValueError(f"a number must be below 2**63, found {shortened(text)}")
        return int(text)
    if FLOAT.fullmatch(text):
        number = float(text)
        if math.isinf(number) or (number == 0 and re.match("[-+.0]*[1-9]", text)):
            raise ValueError(f"a number must not be too large or small, found {shortened(text)}")
        return number
    if AMBIGUOUS.fullmatch(text) or _is_value_in_yaml_1_1(text):
        raise ValueError(
            f"{shortened(text)} is read in different ways (as a number, a date, a truth value or "
            "text): write a plain decimal number, true or false, or put text in quotes"
        )
    return _expanded(text)


def _is_value_in_yaml_1_1(text: str) -> bool:
    resolvers = yaml.SafeLoader.yaml_implicit_resolvers.get(text[0], [])
    return any(pattern.match(text) for _, pattern in resolvers)


def _expanded(text: str) -> str:
    """The text, with the home folder where it is a path that begins with ~."""
    if VARIABLE.match(text):
        raise ValueError(f"variables are not expanded, found {shortened(text)}; write the path")
    if not HOME.match(text):
        return text
    path = os.path.expanduser(text)
    if path == text:
        raise ValueError(f"~ must stand for a home folder, found none for {shortened(text)}")
    return path


class _Values:
    """Nodes -> values of their own, as long as they are not too many."""

    def __init__(self) -> None:
        self._num_left = MAX_VALUES

    def of(self, node: yaml.Node, depth: int) -> object:
        line = node.start_mark.line + 1
        self._num_left -= 1
        if self._num_left < 0:
            raise ValueError(f"line {line}: at most {MAX_VALUES} values are read, found more")
        if depth > MAX_DEPTH:
            raise ValueError(f"line {line}: values may nest {MAX_DEPTH} deep, found more")
        if node.tag not in (PLAIN, QUOTED, MAPPING, SEQUENCE):
            raise ValueError(f"line {line}: tags are not read, found {shortened(node.tag)}")
        if _has_remark_without_blank(node):
            raise ValueError(f"line {line}: a blank must stand before #, found none after a value")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, depth)
        if isinstance(node, yaml.SequenceNode):
            return [self.of(item, depth + 1) for item in node.value]
        assert isinstance(node, yaml.ScalarNode)
        if node.tag == PLAIN and not node.value and node.start_mark.index < node.end_mark.index:
            raise ValueError(f"line {line}: an anchor must have a value, found none")
        return _scalar(node)

    def _mapping(self, node: yaml.MappingNode, depth: int) -> dict[str, object]:
        values: dict[str, object] = {}
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            key = _scalar(key_node) if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, str):
                found = shortened(str(key_node.value)) if key is not None else "something else"
                raise ValueError(f"line {line}: a key must be text, found {found}")
            if key in lines:
                raise ValueError(
                    f"line {line}: a key must stand once, found {shortened(key)} again, first in "
                    f"line {lines[key]}; remove one"
                )
            lines[key] = line
            values[key] = self.of(value_node, depth + 1)
        return values


def _has_remark_without_blank(node: yaml.Node) -> bool:
    """Whether # follows directly, where this parser sees a remark and others see a fault."""
    is_quoted = isinstance(node, yaml.ScalarNode) and node.style in ("'", '"')
    is_flow = isinstance(node, yaml.CollectionNode) and bool(node.flow_style)
    end = node.end_mark
    return (is_quoted or is_flow) and end.buffer is not None and end.buffer[end.pointer] == "#"


def _scalar(node: yaml.ScalarNode) -> object:
    line = node.start_mark.line + 1
    if node.style not in ("|", ">") and node.end_mark.line >= line:
        raise ValueError(
            f"line {line}: text of several lines must begin with | or >, found "
            f"{shortened(node.value)}; write one line, or end its quotes"
        )
    if node.tag == QUOTED:
        return _expanded(node.value)
    try:
        return plain_value(node.value)
    except ValueError as error:
        raise ValueError(f"line {line}: {error}") from None
