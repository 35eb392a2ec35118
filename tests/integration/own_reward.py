"""Reward functions as a user writes them, for the runs of the tests."""

from __future__ import annotations

import asyncio
import time


async def brevity(completion: str, entity_types: list[str]) -> float:
    """Less for a longer completion."""
    await asyncio.sleep(0)
    return -len(completion) / 1000 / len(entity_types)


def slow_on_nothing(completion: str) -> float:
    """Hangs on an empty completion."""
    while not completion:
        time.sleep(60)
    return 1.0
