"""Folder of a test -> its marker and time limit; what is traced; no test asks the network."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

TESTS = Path(__file__).parent
TIMEOUT_S = {"integration": 600, "faults": 600, "gpu": 600}

# Workers of pytest-xdist share the cores, and threads that wait for each other spin: on two cores a
# test of 4 seconds takes 27. Whatever shall have more threads says so itself.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")

# How fast a machine makes examples says nothing about the code.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
            item.add_marker("untraced")
        folder = item.path.relative_to(TESTS).parts[0]
        if folder in TIMEOUT_S:
            item.add_marker(folder)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(TIMEOUT_S[folder]))


@contextmanager
def untraced() -> Iterator[None]:
    """Inside, coverage's tracer is off.

    The marker `no_cover` of pytest-cov stops it in no worker of pytest-xdist: it starts two there.
    """
    tracer = sys.gettrace()
    sys.settrace(None)
    try:
        yield
    finally:
        sys.settrace(tracer)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """A test that goes through the same lines thousands of times takes twice as long if traced."""
    if item.get_closest_marker("untraced") is None:
        return (yield)
    with untraced():
        return (yield)
