"""What every section of a configuration is, and the kinds of values that several share.

Each field is documented by the string below it, and docs/configuration.md lists them all. What
follows from several sections is a property of the stage that holds them (`config.stages`).
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
)

from t2g_ray.run.storage.place import is_url

EMBEDDED = "embedded"


def _named_folder(value: object) -> object:
    if isinstance(value, str) and not value.strip():
        raise ValueError("a folder must have a name")
    if isinstance(value, str) and is_url(value):
        raise ValueError("must be a folder here, not a URL")
    return value


Folder = Annotated[Path, Field(strict=False), BeforeValidator(_named_folder)]
"""A path, which YAML writes as text."""
Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""What all random generators take."""


_CODE_KEYS = re.compile(
    r"trust_remote_code|auto_map|code_revision|custom_pipeline|log_config_file|logging_config"
    r"|logits_processors|.*_?(cls|class|plugin|plugins|class_overrides|module_path|entrypoint)"
)
_IMPORTED = re.compile(
    r"(?!.*\.(safetensors|gguf|json|yaml|txt)$)[A-Za-z_]\w*(\.[A-Za-z_]\w*)+"
    r"|[A-Za-z_][\w.]*:[A-Za-z_]\w*|.*\.(py|so|pt|bin|pkl|pickle)"
)
"""Names by which Python finds code, and files that hold code or pickles."""
_ADDRESS = re.compile(r"(addr|address|endpoint|url|host)$")
_CHOICES = {
    "load_format": {"auto", "safetensors", "dummy"},
    "distributed_executor_backend": {"mp", "ray", "uni", "external_launcher"},
    "tokenizer_mode": {"auto", "hf", "slow", "mistral"},
}
"""Arguments whose other values come from plug-ins or pickles."""


def _loads_no_code(value: object, place: str = "engine") -> object:
    """The arguments as they are. Raises ValueError for those that make vLLM run code from outside
    the installed packages, or unpickle it, however deep they stand; and for "off", which vLLM would
    take for true."""
    if isinstance(value, dict):
        for key, inner in value.items():
            name = str(key).replace("-", "_").lower()
            inside = f"{place}.{key}"
            is_odd = name in _CHOICES and inner not in (None, *_CHOICES[name])
            if is_odd or (_CODE_KEYS.fullmatch(name) and inner not in (None, False)):
                raise ValueError(
                    f"engine arguments must load no code, found {inside}={str(inner)[:60]!a}; "
                    "leave it out (code that comes with a model is never run)"
                )
            _loads_no_code(inner, inside)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            _loads_no_code(inner, f"{place}[{number}]")
    elif isinstance(value, str):
        if value == "off":
            raise ValueError(f"engine arguments are on or off by true and false, found {place}=off")
        if value.strip()[:1] in ("{", "["):
            _loads_no_code(_parsed(value), place)
        elif not _ADDRESS.search(place) and _IMPORTED.fullmatch(value.strip()):
            raise ValueError(
                f"engine arguments must load no code, found {place}={value[:60]!a}, which names "
                "a module or a file of code; leave it out"
            )
    return value


def _parsed(text: str) -> object:
    """vLLM reads JSON in a text too; None for a text that only looks like it."""
    try:
        return json.loads(text)
    except ValueError:
        return None


EngineArguments = Annotated[dict[str, Any], AfterValidator(_loads_no_code)]
"""Arguments for vLLM, none of which makes it load code."""


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
