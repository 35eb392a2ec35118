"""A schema file in any known form -> types."""

from pathlib import Path
from typing import Any

import pytest

from t2g_ray.data.importers.run import (
    import_source,
)
from t2g_ray.data.importers.source import Source
from tests.unit.data.importers.parts import TOKENS, write

SPERT_ROW: dict[str, Any] = {
    "tokens": TOKENS,
    "entities": [{"type": "Peop", "start": 0, "end": 2}, {"type": "Org", "start": 3, "end": 5}],
    "relations": [{"type": "Work_For", "head": 0, "tail": 1}],
}


def test_a_schema_file_of_no_known_form_shows_the_forms(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.json", [SPERT_ROW])
    schema = write(tmp_path / "s.json", {"a": 1})
    with pytest.raises(ValueError, match=r"s\.json: must be .*SpERT.*Text2KGBench.*DocRED"):
        import_source(Source.of(str(path)), schema_file=schema)
