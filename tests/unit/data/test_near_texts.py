"""Texts that are nearly the same, against comparing all with all."""

import random
import time

import pytest

from t2g_ray.data.inspect import find_leaks
from t2g_ray.data.near_texts import TextIndex
from tests.unit.data.parts import split


def test_the_index_finds_every_near_pair_that_comparing_all_finds() -> None:
    draw = random.Random(5)
    words = [f"w{number}" for number in range(30)]
    texts = [" ".join(draw.choices(words, k=12)) for _ in range(60)]
    for text in texts[:30]:
        changed = text.split()
        changed[draw.randrange(12)] = draw.choice(words)
        texts.append(" ".join(changed))
    index = TextIndex(texts)
    for place in range(len(texts)):
        assert index.find(place) is None, "nothing is found before it was added"
    for place in range(60):
        index.add(place)
    found = [index.find(place) for place in range(60, 90)]
    assert [match.index for match in found if match is not None] == list(range(30))


@pytest.mark.untraced
def test_a_thousand_texts_against_ten_thousand_take_seconds() -> None:
    draw = random.Random(0)
    words = [f"w{number}" for number in range(200)]
    texts = [" ".join(draw.choices(words, k=20)) for _ in range(11_000)]
    started_s = time.process_time()
    leak = find_leaks(split("train", *texts[:10_000]), split("dev", *texts[10_000:]))
    assert time.process_time() - started_s < 20
    assert leak.num_identical == 0
