"""Measured rates, to selftest.json and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from t2g_ray.planning.speed.rates import EngineRates, rates_of_figures, read_rates, unit_of
from tests.unit.planning.parts import rates


def written(path: Path, **check: Any) -> Path:
    path.write_text(json.dumps({"checks": [{"name": "parity", "figures": []}, check]}))
    return path


def test_rates_are_read_back_from_the_figures_of_their_check(tmp_path: Path) -> None:
    for one in (rates(), rates(engine=None)):
        figures = [
            {"name": name, "value": value, "unit": unit_of(name)}
            for name, value in one.figures().items()
        ]
        path = written(tmp_path / "selftest.json", name="rates", figures=figures)
        assert read_rates(path) == rates_of_figures(one.figures(), str(path))
        assert read_rates(path).figures() == one.figures()


def test_a_check_that_did_not_pass_says_why(tmp_path: Path) -> None:
    path = written(
        tmp_path / "a.json", name="rates", figures=[], verdict="skipped", found="no time"
    )
    with pytest.raises(ValueError, match="found skipped: no time; run t2g selftest --only rates"):
        read_rates(path)


def test_another_file_is_refused_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    for text in ("[]", "no json"):
        path.write_text(text)
        with pytest.raises(
            ValueError, match=r"--rates must be the selftest.json .* found .*b.json"
        ):
            read_rates(path)


def test_missing_figures_are_named() -> None:
    figures = rates().figures()
    del figures["sync_s"]
    with pytest.raises(ValueError, match=r"the rates of x must have sync_s"):
        rates_of_figures(figures, "x")


def test_rates_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="finite and above 0"):
        rates(learner_flops_per_s=float("nan"))
    with pytest.raises(ValueError, match="finite and above 0"):
        rates(learner_flops_per_s=0.0)
    with pytest.raises(ValueError, match="one number of sequences"):
        EngineRates(decode=(), prefill_tokens_per_s=1.0, sync_s=1.0)


@given(
    st.lists(
        st.tuples(st.floats(1, 500), st.floats(1, 1e5)),
        min_size=1,
        max_size=4,
        unique_by=lambda x: x[0],
    ),
    st.floats(1, 1000),
    st.floats(1, 2),
)
@example([(1.0, 1.0), (2.0, 1.0), (3.0, 2.0), (4.0, 3.0)], 2.0, 2.0)
def test_more_sequences_never_grow_faster(
    points: list[tuple[float, float]], sequences: float, more: float
) -> None:
    engine = EngineRates(decode=tuple(sorted(points)), prefill_tokens_per_s=1.0, sync_s=1.0)
    assert engine.position_s(more * sequences) >= engine.position_s(sequences) * (1 - 1e-9)
