"""What several tests of importers write and read alike."""

import json
from pathlib import Path
from typing import Any

from t2g_ray.data.importers.finish import ImportOptions
from t2g_ray.data.importers.run import (
    ImportResult,
    import_source,
)
from t2g_ray.data.importers.source import Source
from t2g_ray.types import Record

TOKENS = ["Ada", "Stone", "joined", "Orbit", "Mills", "."]


def write(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_text(text, encoding="utf-8")
    return path


def lines(*values: object) -> str:
    return "".join(json.dumps(value) + "\n" for value in values)


def read(
    path: Path, layout: str = "auto", columns: str | None = None, **options: Any
) -> ImportResult:
    names = tuple(columns.split(",")) if columns else None
    source = Source.of(str(path))
    return import_source(source, ImportOptions(**options), layout=layout, columns=names)


def entities(record: Record) -> list[tuple[str, str]]:
    return [(entity.text, entity.type) for entity in record.graph.entities]


def relations(record: Record) -> list[tuple[str, str, str]]:
    return [(r.head, r.tail, r.type) for r in record.graph.relations]
