"""Shares of the peak by hand, and a share that cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.result import make_row
from benchmarks.selftest.checks import speed
from benchmarks.selftest.running import CheckFailed
from benchmarks.selftest.settings import Hardware, selftest_config
from tests.unit.planning.parts import rates


def learner_speed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, mfu: float, card: str
) -> dict[str, float]:
    rows = [
        make_row("matmul_peak", [500_000.0], "GFLOP/s"),
        make_row("sequence_tokens", [1100.0], "tokens"),
        make_row("tokens_per_s/packed", [9000.0], "tokens/s"),
        make_row("mfu/packed", [mfu], "share"),
    ]
    monkeypatch.setattr(speed.learner, "run", lambda *_, **__: rows)
    config = selftest_config("demo", Hardware(device="cpu"), tmp_path)
    figures = speed.learner_speed(config, steps=1, card=card, completion_tokens=None)
    return {figure.name: figure.value for figure in figures}


def test_the_share_is_of_the_cards_peak_where_it_is_known(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    figures = learner_speed(monkeypatch, tmp_path, mfu=0.5, card="NVIDIA H100 80GB HBM3")
    assert figures["mfu"] == pytest.approx(0.5 * 500 / 989)
    assert figures["peak"] == 989
    assert figures["sequence_tokens"] == 1100


def test_elsewhere_it_is_of_a_measured_product(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert learner_speed(monkeypatch, tmp_path, mfu=0.5, card="")["mfu"] == pytest.approx(0.5)


@pytest.mark.parametrize("mfu", [3.0, 0.0])
def test_a_share_above_one_or_of_nothing_is_a_wrong_measurement(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mfu: float
) -> None:
    with pytest.raises(CheckFailed, match="a share of the peak between 0 and 1"):
        learner_speed(monkeypatch, tmp_path, mfu=mfu, card="")


@pytest.mark.parametrize(
    ("card", "peak"),
    [
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA A10G", 70e12),
        ("Tesla T4", None),
        ("NVIDIA GeForce RTX 4090", 165e12),
        ("Unknown 9000", None),
    ],
)
def test_a_card_has_the_peak_of_its_own_kind(card: str, peak: float | None) -> None:
    assert speed.peak_of(card) == peak


def test_rates_are_figures_that_a_plan_reads_back(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(speed, "measure_rates", lambda config: rates())
    found = speed.rates(selftest_config("demo", Hardware(device="cpu"), tmp_path))
    assert {one.name: one.value for one in found} == rates().figures()
    assert {one.unit for one in found} >= {"tokens/s", "GFLOP/s", "s"}


def test_engines_that_wrote_less_than_asked_for_fail_by_their_count(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def run(*_: object, **__: object) -> None:
        speed.rollout.check_count("completions", 3, 16)

    monkeypatch.setattr(speed.rollout, "run", run)
    config = selftest_config("demo", Hardware(device="cpu"), tmp_path)
    with pytest.raises(ValueError, match="16 completions must be measured, found 3"):
        speed.rollout_speed(config, calls=1)
