"""The prompt settings that a model was trained with <-> t2g.json in its folder.

A model answers best to the prompt it was trained with. The file goes wherever the model goes, so
that evaluation, extraction and serving need no flags.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from t2g_ray.prompts.messages import PromptStyle

if TYPE_CHECKING:
    from t2g_ray.config import PromptConfig

FILE_NAME = "t2g.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptSettings:
    """How to prompt a model. The defaults are for an instruction model from elsewhere."""

    style: PromptStyle = "full"
    thinking: bool = False
    max_new_tokens: int = 512


def write_prompt_settings(folder: Path, prompt: PromptConfig, max_new_tokens: int) -> None:
    """Write t2g.json into an exported model's folder."""
    settings = PromptSettings(
        style=prompt.style, thinking=prompt.thinking, max_new_tokens=max_new_tokens
    )
    (folder / FILE_NAME).write_text(json.dumps(asdict(settings)) + "\n", encoding="utf-8")


def read_prompt_settings(folder: str | Path) -> PromptSettings:
    """The settings of a model folder; the defaults where it has none (or is a hub name).

    Raises ValueError for a file that holds something else.
    """
    path = Path(folder) / FILE_NAME
    if not path.is_file():
        return PromptSettings()
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        settings = PromptSettings(**value)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{path} must hold style, thinking and max_new_tokens, and no more: {error}; "
            "correct it, or remove it to use the defaults"
        ) from None
    is_right = (
        settings.style in ("full", "compact")
        and isinstance(settings.thinking, bool)
        and type(settings.max_new_tokens) is int
        and settings.max_new_tokens > 0
    )
    if not is_right:
        raise ValueError(
            f'{path} must hold style "full" or "compact", thinking true or false and '
            f"max_new_tokens above 0, found {value}; correct it, or remove it"
        )
    return settings
