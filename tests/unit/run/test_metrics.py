"""metrics.jsonl: valid JSON whatever the numbers, one line a step, nothing lost."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from t2g_ray.grpo.books import ConservationError, conservation_check
from t2g_ray.run.metrics import (
    MetricsWriter,
    read_metrics,
    throughput_metrics,
)


def test_each_line_is_on_disk_as_soon_as_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    writer = MetricsWriter(path)
    writer.write({"step": 1, "loss": 0.5})
    assert read_metrics(path) == [{"step": 1, "loss": 0.5}]
    writer.write({"step": 2, "loss": 0.25})
    assert [line["step"] for line in read_metrics(path)] == [1, 2]
    writer.close()


def test_values_that_are_not_finite_become_null_and_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    writer = MetricsWriter(path)
    writer.write({"step": 1, "loss": float("nan"), "grad_norm": float("inf"), "kl": 0.0})
    writer.close()

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    line = json.loads(path.read_text(), parse_constant=refuse)
    assert line == {
        "step": 1,
        "loss": None,
        "grad_norm": None,
        "kl": 0.0,
        "nonfinite/loss": 1,
        "nonfinite/grad_norm": 1,
    }


def test_resume_cuts_the_lines_after_the_resumed_step_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    writer = MetricsWriter(path)
    for step in (1, 2, 3, 4):
        writer.write({"step": step, "loss": float(step)})
    writer.close()
    path.write_bytes(path.read_bytes() + b'{"step": 5, "lo')  # killed while writing
    resumed = MetricsWriter(path, resume_step=2)
    resumed.write({"step": 3, "loss": 30.0})
    resumed.close()
    assert read_metrics(path) == [
        {"step": 1, "loss": 1.0},
        {"step": 2, "loss": 2.0},
        {"step": 3, "loss": 30.0},
    ]


def test_a_new_run_does_not_continue_the_lines_of_another(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n')
    with pytest.raises(ValueError, match=r"must not exist.*found 12 bytes.*resume=auto"):
        MetricsWriter(path)


def test_a_step_is_written_once(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    writer = MetricsWriter(path)
    writer.write({"step": 3})
    with pytest.raises(ValueError, match=r"above 3.*found 3"):
        writer.write({"step": 3})
    writer.close()
    resumed = MetricsWriter(path, resume_step=3)
    with pytest.raises(ValueError, match=r"above 3.*found 2"):
        resumed.write({"step": 2})
    resumed.close()


def test_a_torn_last_line_is_skipped_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n{"step": 2')
    assert read_metrics(path) == [{"step": 1}]
    path.write_bytes(b'{"step": 1}\nnot json\n{"step": 3}\n')
    with pytest.raises(ValueError, match=r"metrics\.jsonl:2 must be a JSON object"):
        read_metrics(path)
    path.write_bytes(b"[1]\n")
    with pytest.raises(ValueError, match="found list"):
        read_metrics(path)
    assert read_metrics(tmp_path / "none.jsonl") == []


def test_throughput_divides_tokens_by_wall_clock() -> None:
    assert throughput_metrics(
        prompt_tokens=600, generated_tokens=400, wall_s=2.0, num_devices=4
    ) == {
        "throughput/tokens_per_s": 500.0,
        "throughput/generated_tokens_per_s": 200.0,
        "throughput/tokens_per_s_per_device": 125.0,
    }


@pytest.mark.parametrize(("wall_s", "num_devices"), [(0.0, 1), (-1.0, 1), (1.0, 0)])
def test_throughput_refuses_no_time_and_no_device(wall_s: float, num_devices: int) -> None:
    with pytest.raises(ValueError, match=f"found wall_s={wall_s} and num_devices={num_devices}"):
        throughput_metrics(
            prompt_tokens=1, generated_tokens=1, wall_s=wall_s, num_devices=num_devices
        )


def test_conservation_holds_when_the_counts_add_up() -> None:
    conservation_check("groups", generated=10, trained=6, dropped=3, waiting=1)


@pytest.mark.parametrize(("trained", "told"), [(5, "1 lost"), (8, "2 counted twice")])
def test_conservation_raises_with_all_numbers(trained: int, told: str) -> None:
    with pytest.raises(ConservationError) as caught:
        conservation_check("tokens", generated=10, trained=trained, dropped=3, waiting=1)
    assert f"10 != {trained} + 3 + 1 ({told})" in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
