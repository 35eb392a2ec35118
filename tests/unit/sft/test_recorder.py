"""Lines of an SFT run by hand, and what a resumed run goes on from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from t2g_ray.config import SftConfig, build_config
from t2g_ray.run.folder import RunDir
from t2g_ray.run.jsonlines import read_json_lines
from t2g_ray.run.metrics import read_metrics
from t2g_ray.run.resume.meaning import Meaning
from t2g_ray.sft import recorder as module
from t2g_ray.sft.batches import Encoded
from t2g_ray.sft.learner import SftReport
from t2g_ray.sft.plan import SftPlan
from t2g_ray.sft.recorder import Recorder
from t2g_ray.types import Example

REPORT = SftReport(loss=0.5, entropy=0.25, grad_norm=1.5, lr=1e-3, seconds=0.75)


def example(num_prompt: int, num_answer: int) -> Example:
    ids = np.ones(num_answer, dtype=np.int32)
    return Example(group=0, prompt_ids=(1,) * num_prompt, completion_ids=ids)


BATCH = [example(3, 2), example(5, 4)]
ENCODED = Encoded(examples=tuple(BATCH * 4), num_long_prompts=1, num_long_answers=2)


@pytest.fixture
def recorder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """Two ranks; two seconds pass between any two looks at the clock."""
    clock = iter(range(0, 100, 2))
    monkeypatch.setattr(module.time, "perf_counter", lambda: float(next(clock)))
    config = build_config(SftConfig, {"run_dir": str(tmp_path)})
    meaning = Meaning(stage="SFT", settings={}, contents={})
    plan = SftPlan(
        config=config, records=(), heldout=(), is_new=True, start=None, meaning=meaning, model=""
    )
    return Recorder(plan, ENCODED, num_ranks=2)


def test_a_step_is_a_line_with_tokens_epochs_and_speed(recorder: Recorder, tmp_path: Path) -> None:
    recorder.step(1, BATCH, REPORT)
    recorder.step(2, BATCH, REPORT)
    first, second = read_metrics(RunDir(tmp_path).metrics)
    assert (first["tokens/prompt"], first["tokens/trained"]) == (3 + 5, 2 + 4)
    assert (first["epoch"], second["epoch"]) == (2 / 8, 4 / 8)
    assert (first["time_s"], second["time_s"]) == (2.0, 4.0)
    assert first["throughput/tokens_per_s"] == (8 + 6) / 2.0
    assert first["throughput/tokens_per_s_per_device"] == (8 + 6) / 2.0 / 2
    assert (first["loss"], first["entropy"], first["grad_norm"], first["lr"]) == (
        *(0.5, 0.25, 1.5),
        1e-3,
    )
    assert (first["records/long_prompts"], first["records/long_answers"]) == (1, 2)


def test_an_evaluation_counts_the_records_that_it_left_out(
    recorder: Recorder, tmp_path: Path
) -> None:
    recorder.evaluation(3, 0.125, ENCODED)
    (line,) = read_json_lines(RunDir(tmp_path).evals)
    assert (line["step"], line["policy_version"], line["split"]) == (3, 3, "heldout")
    assert (line["loss"], line["records"], line["records/left_out"]) == (0.125, 8, 3)
