"""Schema files -> the types that a source asks for, and the names behind its codes.

It can be a SpERT types file, a Text2KGBench ontology, DocRED relation names, or plain lists.
Invariant: a file of no known form is an error that shows the forms.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from t2g_ray.graph.parsing import STRICT_JSON
from t2g_ray.records.files import TextFile

FORMS = (
    '{"entity_types": [...], "relation_types": [...]}, SpERT {"entities": {...}, "relations": '
    '{...}}, Text2KGBench {"concepts": [...], "relations": [...]} or DocRED {"P17": "country"}'
)

UNNAMED = "other"
CODE = re.compile(r"Q\d+")

Domain = tuple[str, str]
"""Types of a relation's subject and of its object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """Entity and relation types; None where the file says nothing of them.

    `names`: code -> name of a relation. `domains`: relation name -> types of its two ends.
    """

    entity_types: tuple[str, ...] | None = None
    relation_types: tuple[str, ...] | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    domains: Mapping[str, Domain] = field(default_factory=dict)
    id: str = ""


def read_schema(path: Path) -> Schema:
    """The schema of one file. Raises ValueError that names the file and the forms."""
    try:
        value = STRICT_JSON.decode(TextFile.read(path).text())
        schema = _schema(value)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: must be {FORMS}, found {error!r:.120}") from None
    if schema is None:
        raise ValueError(f"{path}: must be {FORMS}, found {ascii(value)[:120]}")
    return schema


def _schema(value: Any) -> Schema | None:
    if not isinstance(value, dict) or not value:
        return None
    if "concepts" in value:
        return _ontology(value)
    if set(value) & {"entity_types", "relation_types"}:
        return Schema(
            entity_types=_names(value.get("entity_types")),
            relation_types=_names(value.get("relation_types")),
        )
    if isinstance(value.get("entities"), dict):
        return Schema(
            entity_types=_names(list(value["entities"])),
            relation_types=_names(list(value.get("relations", {}))),
        )
    if all(isinstance(name, str) for name in value.values()):
        return Schema(relation_types=_names(list(value.values())), names=value)
    return None


def _ontology(value: Mapping[str, Any]) -> Schema:
    """Ranges that are no concept (string, number, date) are types too; a code or "" has no name."""
    labels = {concept["qid"]: concept["label"] for concept in value["concepts"]}
    relations = value["relations"]
    domains = {
        relation["label"]: (_label(relation["domain"], labels), _label(relation["range"], labels))
        for relation in relations
    }
    ends = [end for domain in domains.values() for end in domain]
    return Schema(
        entity_types=tuple(dict.fromkeys([*labels.values(), *ends])),
        relation_types=tuple(domains),
        names={relation["pid"]: relation["label"] for relation in relations},
        domains=domains,
        id=value["id"],
    )


def _label(code: str, labels: Mapping[str, str]) -> str:
    return labels.get(code) or (UNNAMED if not code or CODE.fullmatch(code) else code)


def _names(value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(name, str) and name for name in value):
        raise TypeError(f"a list of type names, not {value!r}")
    return tuple(dict.fromkeys(value))
