"""YAML file + key=value overrides -> one frozen, fully resolved configuration.

Invariant: an unknown key is an error that names the nearest valid one, a key that is set twice is
an error, and nothing outside this module fills in a default. This module imports neither torch, ray
nor vllm, so that the command line responds at once.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from t2g_ray.config.section import Section
from t2g_ray.config.text.pictures import picture, shortened
from t2g_ray.config.text.values import read_override, read_text, write_text

MAX_PROBLEMS = 20
MAX_LINE = 500
MAX_GUESSED_KEY = 100
"""Longer keys are like no valid one."""


class ConfigError(ValueError):
    """The configuration is wrong: says what must hold, what was found, what to do."""


AnyConfig = TypeVar("AnyConfig", bound=Section)


def load_config(kind: type[AnyConfig], path: Path, overrides: Iterable[str] = ()) -> AnyConfig:
    """Read a YAML file, apply `a.b=value` overrides (of two for one key, the later), check all.

    Raises ConfigError for a missing file, bad YAML, an unknown key or a value out of range.
    """
    return build_config(kind, read_tree(path, overrides))


def read_tree(path: Path, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """What is written in a YAML file and overrides: plain values, their meaning not yet checked.

    Raises ConfigError for a missing file, bad YAML or an override that is none.
    """
    if not path.is_file():
        raise ConfigError(f"the configuration must be a YAML file, found no file at {path}")
    try:
        tree = read_text(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:  # UnicodeDecodeError is one
        raise ConfigError(f"{path}: {error}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} must hold a mapping of keys, found {type(tree).__name__}")
    for override in overrides:
        _apply_override(tree, override)
    return tree


def build_config(kind: type[AnyConfig], tree: Mapping[str, Any]) -> AnyConfig:
    """Check a tree of plain values; raises ConfigError with one line per problem."""
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        problems = error.errors()
        lines = [shortened(_explain(kind, item), MAX_LINE) for item in problems[:MAX_PROBLEMS]]
        if len(problems) > MAX_PROBLEMS:
            lines.append(f"and {len(problems) - MAX_PROBLEMS} more")
        raise ConfigError("the configuration is not valid:\n  " + "\n  ".join(lines)) from None


def dump_config(config: Section) -> str:
    """The resolved configuration as YAML; loading it again gives the same object."""
    return write_text(config.model_dump(mode="json"))


def check_set_once(overrides: Iterable[str]) -> None:
    """Raise ConfigError where one override of a command line would undo another."""
    keys: list[str] = []
    for override in overrides:
        key = override.partition("=")[0]
        for earlier in keys:
            if f"{key}.".startswith(f"{earlier}.") or f"{earlier}.".startswith(f"{key}."):
                raise ConfigError(
                    f"a key must be set once, found {shortened(earlier)} and {shortened(key)}; "
                    "remove one"
                )
        keys.append(key)


def _apply_override(tree: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"an override must look like key=value, found {picture(override)}")
    *parents, leaf = key.split(".")
    node = tree
    for parent in parents:
        child = node.setdefault(parent, {})
        if not isinstance(child, dict):
            raise ConfigError(
                f"{shortened(key)}: {parent} must be a section, found the value {picture(child)}"
            )
        node = child
    try:
        value = read_override(text)
    except ValueError as error:
        raise ConfigError(f"{shortened(key)}: {error}") from None
    if isinstance(value, dict) and (lost := sorted(_lost(node.get(leaf), value))):
        raise ConfigError(
            f"{shortened(key)}: a mapping must not undo what is set, found {picture(lost)} left "
            f"out; override one key at a time, as in {shortened(key)}.{lost[0]}=VALUE"
        )
    node[leaf] = value


def _lost(old: object, new: object) -> set[str]:
    """Keys of `old` that are not in `new`."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return set()
    deeper = (f"{key}.{lost}" for key in old.keys() & new for lost in _lost(old[key], new[key]))
    return {*(old.keys() - new), *deeper}


def _explain(kind: type[BaseModel], item: Any) -> str:
    path = [str(part) for part in item["loc"]]
    name = shortened(".".join(path), MAX_LINE // 2) or "configuration"
    if item["type"] != "extra_forbidden":
        return f"{name}: {item['msg']} (found {picture(item['input'])})"
    valid = _keys_of(kind)
    near: list[str] = []
    if len(name) <= MAX_GUESSED_KEY:
        near = difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
    near = near or [key for key in valid if key.split(".")[-1] == path[-1]]
    hint = f"did you mean {near[0]}?" if near else "see the configuration reference"
    return f"unknown key {name}: {hint}"


def _keys_of(kind: type[BaseModel], prefix: str = "") -> list[str]:
    keys: list[str] = []
    for name, field in kind.model_fields.items():
        keys.append(prefix + name)
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            keys += _keys_of(annotation, f"{prefix}{name}.")
    return keys
