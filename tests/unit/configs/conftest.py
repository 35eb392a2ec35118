"""Packages that only tests of the files for clusters need."""

import pytest

from tests.unit.configs.parts import REFERENCE


@pytest.fixture(autouse=True)
def reference_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(REFERENCE))
