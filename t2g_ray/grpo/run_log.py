"""Steps of the loop -> files of the run folder, evaluations, checkpoints and the progress bar."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from t2g_ray.config import GrpoConfig
from t2g_ray.grpo.stages import WAITING, Ready
from t2g_ray.prompts.ledger import Ledger
from t2g_ray.run.folder import RunDir
from t2g_ray.run.jsonlines import JsonLinesWriter
from t2g_ray.run.metrics import MetricsSink, MetricsWriter
from t2g_ray.run.progress import StageProgress
from t2g_ray.run.stopping import RunStopped
from t2g_ray.run.trace import Span, TraceFile, busy_share
from t2g_ray.run.trackers.state import num_faults

GENERATING = ("generate",)
SCORING = ("score",)
TRAINING = ("train", "gather", "checkpoint")
WANTED = (*GENERATING, "load", WAITING)
"""Work of a sampler, and times in which it is not held back though it has none: its share of the
groups that the loop waits for came early."""


class RunLog:
    """Implements `grpo.stages.Watcher`; calls evaluation and checkpoints when they are due."""

    def __init__(
        self,
        config: GrpoConfig,
        run: RunDir,
        *,
        resume_step: int | None,
        drain_spans: Callable[[], list[Span]],
        evaluate: Callable[[int], None],
        checkpoint: Callable[[int, Ledger], None],
        sample: Callable[[Ready], Mapping[str, object]],
        samples: JsonLinesWriter,
        num_samplers: Callable[[], int] | None = None,
        sinks: Sequence[MetricsSink] = (),
    ) -> None:
        self._config, self._run = config, run
        self._drain_spans, self._evaluate = drain_spans, evaluate
        self._checkpoint, self._sample_of = checkpoint, sample
        writer = MetricsWriter(run.metrics, resume_step=resume_step)
        self._sinks: list[MetricsSink] = [writer, *sinks]
        self._samples = samples
        self._num_samplers = num_samplers or (lambda: config.rollout.actors)
        self._ledger = JsonLinesWriter(run.ledger, resume_step=resume_step)
        self._trace = TraceFile(run.trace)
        self._progress = StageProgress("GRPO", config.steps)
        self._spans: list[Span] = []
        self.last_line: Mapping[str, float] = {}
        """What was written of the last step."""

    def __enter__(self) -> RunLog:
        self._progress.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is None or issubclass(kind, RunStopped):
            # After a failure, an actor that no longer answers would hide the reason.
            self._trace.append(self._drain_spans())
        for sink in self._sinks:
            sink.close()
        self._ledger.close()
        self._trace.close()
        self._progress.__exit__(None, None, None)

    def after_step(self, line: Mapping[str, float], taken: Sequence[Ready], ledger: Ledger) -> None:
        """Write everything about the step, then evaluate and save where that is due."""
        step = int(line["step"])
        shares = self._shares(line)
        full = self.last_line = {**line, **shares, "faults/tracker": num_faults(self._run)}
        for sink in self._sinks:
            sink.write(full)
        self._ledger.append({"step": step, "positions": [ready.summary.index for ready in taken]})
        sample = self._sample_of(taken[0])
        self._samples.append({"step": step, "policy_version": step, "split": "train", **sample})
        self._progress.update(
            step,
            reward=line["reward/mean"],
            f1_entities=line["f1/entities"],
            f1_relations=line["f1/relations"],
            tokens_per_s=line["throughput/tokens_per_s"],
        )
        is_last = step == self._config.steps
        if self.needs_samplers(step):
            self._evaluate(step)
        every = self._config.checkpoint.every
        if is_last or (every and step % every == 0):
            self._checkpoint(step, ledger)

    def needs_samplers(self, step: int) -> bool:
        """True at steps with an evaluation, except the last: the final one follows it."""
        every = self._config.eval.every
        return bool(every) and step % every == 0 and step != self._config.steps

    def _shares(self, line: Mapping[str, float]) -> dict[str, float]:
        """Times and idle shares of the step, from the spans of all actors."""
        spans = self._drain_spans()
        self._trace.append(spans)
        end_s = max((span.end_s for span in spans), default=0.0)
        window = (end_s - line["time/step_s"], end_s)
        # A span kept from the step before may reach into this window, and counts for that part.
        self._spans = [s for s in self._spans if s.end_s > window[0]] + spans
        wall_s = line["time/step_s"]
        config, num_samplers = self._config, self._num_samplers()
        learner = busy_share(
            self._spans, "learner/", TRAINING, window, num_actors=config.learner.ranks
        )
        samplers = busy_share(self._spans, "rollout/", GENERATING, window, num_actors=num_samplers)
        waits = [span for span in self._spans if span.name == WAITING]
        shared = [replace(s, actor=f"rollout/{n}") for n in range(num_samplers) for s in waits]
        wanted = busy_share(
            [*self._spans, *shared], "rollout/", WANTED, window, num_actors=num_samplers
        )
        merged = [
            Span(name=s.name, start_s=s.start_s, end_s=s.end_s, actor=s.actor.split("/")[0], step=0)
            for s in self._spans
        ]
        return {
            "tokens/per_pass": _tokens_per_pass(spans),
            "time/generate_s": wall_s * busy_share(merged, "rollout", GENERATING, window),
            "time/reward_s": wall_s * busy_share(merged, "reward", SCORING, window),
            "time/train_s": wall_s * busy_share(merged, "learner", ("train",), window),
            "time/rollout_wait_s": wall_s * busy_share(waits, "", (WAITING,), window),
            "time/backpressure_s": wall_s * (1 - wanted),
            "idle/learner": 1 - learner,
            "idle/samplers": 1 - samplers,
            "rollout/actors": num_samplers,
            # Of the devices that the run has now, which `t2g scale` changes.
            "throughput/tokens_per_s_per_device": line["throughput/tokens_per_s"]
            / config.devices_with(num_samplers),
        }


def _tokens_per_pass(spans: Sequence[Span]) -> float:
    """Growth of a completion in a pass of the model; 0 where no group ended."""
    tokens, passes = (sum(int(s.args.get(name, 0)) for s in spans) for name in ("tokens", "passes"))
    return tokens / max(1, passes)
