"""What every section of a configuration is.

Each field is documented by the string below it, and docs/configuration.md lists them all. What
follows from several sections is a property of the stage that holds them (`config.stages`).
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

EMBEDDED = "embedded"


class Section(BaseModel):
    """Base of all sections: frozen, and closed to unknown keys."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, use_attribute_docstrings=True
    )
