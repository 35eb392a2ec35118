"""What travels with a model comes back, and nothing else is taken."""

from pathlib import Path

import pytest

from t2g_ray.config import PromptConfig
from t2g_ray.prompts.settings import PromptSettings, read_prompt_settings, write_prompt_settings


def test_settings_come_back_from_the_folder(tmp_path: Path) -> None:
    write_prompt_settings(tmp_path, PromptConfig(style="compact", thinking=True), 77)
    assert read_prompt_settings(tmp_path) == PromptSettings(
        style="compact", thinking=True, max_new_tokens=77
    )


def test_a_foreign_model_has_the_defaults(tmp_path: Path) -> None:
    expected = PromptSettings(style="full", thinking=False, max_new_tokens=512)
    assert read_prompt_settings(tmp_path) == expected
    assert read_prompt_settings("owner/model") == expected


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"styl": "full"}',
        '{"style": "short"}',
        '{"thinking": 1}',
        '{"max_new_tokens": 0}',
        '{"max_new_tokens": "9"}',
    ],
)
def test_a_file_of_something_else_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "t2g.json").write_text(text)
    with pytest.raises(ValueError, match=r"t2g\.json must hold"):
        read_prompt_settings(tmp_path)
