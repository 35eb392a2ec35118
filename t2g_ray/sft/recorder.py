"""Steps of SFT -> lines of metrics and evaluations."""

from __future__ import annotations

import time
from collections.abc import Sequence

from t2g_ray.run.folder import RunDir
from t2g_ray.run.jsonlines import JsonLinesWriter
from t2g_ray.run.metrics import MetricsWriter, throughput_metrics
from t2g_ray.run.resume.start import resume_step
from t2g_ray.run.trackers.state import num_faults
from t2g_ray.sft.batches import Encoded, num_answer_tokens
from t2g_ray.sft.learner import SftReport
from t2g_ray.sft.plan import SftPlan
from t2g_ray.types import Example


class Recorder:
    """Rank 0's view of the run: a line of metrics a step, and one an evaluation."""

    def __init__(self, plan: SftPlan, encoded: Encoded, num_ranks: int) -> None:
        self._num_ranks = num_ranks
        self._num_samples = len(encoded.examples)
        self._left_out = {
            "records/long_prompts": encoded.num_long_prompts,
            "records/long_answers": encoded.num_long_answers,
        }
        last_step = resume_step(plan.is_new, plan.start)
        self._run = RunDir(plan.config.run_dir)
        self._writer = MetricsWriter(self._run.metrics, resume_step=last_step)
        self._evals = JsonLinesWriter(self._run.evals, resume_step=last_step)
        self.time_s = float(plan.start.state["time_s"]) if plan.start else 0.0
        self._last_s = time.perf_counter()

    def step(self, step: int, batch: Sequence[Example], report: SftReport) -> None:
        """Write the line of a step that all ranks took on `batch`."""
        now_s = time.perf_counter()
        wall_s, self._last_s = now_s - self._last_s, now_s
        self.time_s += wall_s
        prompt_tokens = sum(len(example.prompt_ids) for example in batch)
        answer_tokens = num_answer_tokens(batch)
        self._writer.write(
            {
                "step": step,
                "time_s": self.time_s,
                "epoch": step * len(batch) / self._num_samples,
                "loss": report.loss,
                "entropy": report.entropy,
                "grad_norm": report.grad_norm,
                "lr": report.lr,
                "tokens/prompt": prompt_tokens,
                "tokens/trained": answer_tokens,
                **self._left_out,
                "faults/tracker": num_faults(self._run),
                "time/train_s": report.seconds,
                **throughput_metrics(
                    prompt_tokens=prompt_tokens,
                    generated_tokens=answer_tokens,
                    wall_s=wall_s,
                    num_devices=self._num_ranks,
                ),
            }
        )

    def evaluation(self, step: int, loss: float, heldout: Encoded) -> None:
        """Write the held-out loss after `step`, in nats a token."""
        self._evals.append(
            {
                "step": step,
                "policy_version": step,
                "split": "heldout",
                "time_s": self.time_s,
                "loss": loss,
                "records": len(heldout.examples),
                "records/left_out": heldout.num_long_prompts + heldout.num_long_answers,
            }
        )
