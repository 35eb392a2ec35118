"""What every section of a configuration is, and the kinds of values that several share.

Each field is documented by the string below it, and docs/configuration.md lists them all. What
follows from several sections is a property of the stage that holds them (`config.stages`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator

EMBEDDED = "embedded"


def _named_folder(value: object) -> object:
    if isinstance(value, str) and not value.strip():
        raise ValueError("a folder must have a name")
    return value


Folder = Annotated[Path, Field(strict=False), BeforeValidator(_named_folder)]
"""A path, which YAML writes as text."""
Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""What all random generators take."""


class Section(BaseModel):
    """Base of all sections: frozen, closed to unknown keys, and strict about kinds: true is not 1,
    "8" is no number, infinity is none either."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        validate_default=True,
        use_attribute_docstrings=True,
    )

    @field_validator("*", mode="before")
    @classmethod
    def _is_of_the_kind_of_the_choices(cls, value: Any, info: ValidationInfo) -> Any:
        """Choices are compared with ==, for which True is 1; here the kind counts too."""
        annotation = cls.model_fields[info.field_name or ""].annotation
        if get_origin(annotation) is Literal:
            choices = get_args(annotation)
            if type(value) not in {type(choice) for choice in choices}:
                raise ValueError(f"must be one of {', '.join(map(str, choices))}")
        return value
