"""Names that a policy's tensors have in its checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from t2g_ray.model.files.names import checkpoint_tensors
from tests.integration.parts import make_policy


@pytest.mark.parametrize("kind", ["tied", "untied", "moe"])
def test_tensors_one_by_one_have_the_names_and_values_of_a_saved_checkpoint(
    kind: str, tmp_path: Path
) -> None:
    policy = make_policy(kind)  # type: ignore[arg-type]
    policy.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    for model in (policy, AutoModelForCausalLM.from_pretrained(tmp_path)):
        found = dict(
            pair
            for name, parameter in model.named_parameters()
            for pair in checkpoint_tensors(model, name, parameter.detach())
        )
        assert found.keys() == saved.keys()
        assert all(torch.equal(found[name], tensor) for name, tensor in saved.items())
