"""YAML file + key=value overrides -> one frozen, fully resolved configuration.

Invariant: an unknown key is an error that names the nearest valid one, and nothing outside this
module fills in a default. This module imports neither torch, ray nor vllm, so that the command line
responds at once.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from t2g_ray.config.section import Section


class ConfigError(ValueError):
    """The configuration is wrong: says what must hold, what was found, what to do."""


AnyConfig = TypeVar("AnyConfig", bound=Section)


def load_config(kind: type[AnyConfig], path: Path, overrides: Iterable[str] = ()) -> AnyConfig:
    """Read a YAML file, apply `a.b=value` overrides, check everything.

    Raises ConfigError for a missing file, bad YAML, an unknown key or a value out of range.
    """
    if not path.is_file():
        raise ConfigError(f"the configuration must be a YAML file, found no file at {path}")
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} must be valid YAML: {error}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} must hold a mapping of keys, found {type(tree).__name__}")
    for override in overrides:
        _apply_override(tree, override)
    return build_config(kind, tree)


def build_config(kind: type[AnyConfig], tree: Mapping[str, Any]) -> AnyConfig:
    """Check a tree of plain values; raises ConfigError with one line per problem."""
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        lines = [_explain(kind, item) for item in error.errors()]
        raise ConfigError("the configuration is not valid:\n  " + "\n  ".join(lines)) from error


def dump_config(config: Section) -> str:
    """The resolved configuration as YAML; loading it again gives the same object."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def _apply_override(tree: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"an override must look like key=value, found {override!r}")
    *parents, leaf = key.split(".")
    node = tree
    for parent in parents:
        child = node.setdefault(parent, {})
        if not isinstance(child, dict):
            raise ConfigError(f"{key}: {parent} must be a section, found the value {child!r}")
        node = child
    try:
        node[leaf] = yaml.safe_load(text) if text else None
    except yaml.YAMLError as error:
        raise ConfigError(f"{key}: the value must be valid YAML, found {text!r}") from error


def _explain(kind: type[BaseModel], item: Any) -> str:
    path = [str(part) for part in item["loc"]]
    name = ".".join(path) or "configuration"
    if item["type"] != "extra_forbidden":
        return f"{name}: {item['msg']} (found {item['input']!r})"
    valid = _keys_of(kind)
    near = difflib.get_close_matches(name, valid, n=1, cutoff=0.5) or [
        key for key in valid if key.split(".")[-1] == path[-1]
    ]
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
