"""A folder or a name -> a tokenizer; token ids -> texts."""

from pathlib import Path

import pytest

from t2g_ray.model.tokenizer import load_tokenizer


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must hold config\.json"):
        load_tokenizer(str(tmp_path))
    with pytest.raises(ValueError, match="must be an existing folder or a hub name"):
        load_tokenizer(str(tmp_path / "none"))
