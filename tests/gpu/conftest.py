"""Everything here is skipped, with the reason, where there is no GPU that torch can use."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def why_not() -> str | None:
    """What keeps these tests from running; None: nothing does."""
    import torch

    if torch.version.cuda is None:
        return "needs the CUDA set of packages and an NVIDIA GPU; torch is its CPU build"
    if not torch.cuda.is_available():
        return "needs an NVIDIA GPU; none is visible here"
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder; the hook sees those of all others too."""
    here = [item for item in items if HERE in item.path.parents]
    if here and (reason := why_not()) is not None:
        for item in here:
            item.add_marker(pytest.mark.skip(reason=reason))
