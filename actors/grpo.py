"""Configuration -> data, actors and loop -> a complete run folder: the GRPO stage as a whole."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from functools import partial

from actors.cluster.placement import connect
from actors.cluster.refusal import check_device
from actors.cluster.start import start_cluster
from actors.cluster.storage.kept import KeptRun
from actors.cluster.waiting import result_of
from actors.inputs import GrpoInputs
from actors.stages.evaluation import Evaluator
from actors.stages.groups import RayGroups
from actors.stages.scaling import scaler_of
from actors.stages.scoring import scored_of
from actors.stages.trainer import RayTrainer
from actors.stages.turns import turns_of
from actors.stages.weights import RayWeights
from actors.watch import trackers
from actors.watch.gauges import LoopGauges
from actors.workers.learner import LearnerActor
from actors.workers.reward import RewardActor
from t2g_ray.config import GrpoConfig, dump_config
from t2g_ray.grpo.loop import GrpoLoop
from t2g_ray.grpo.run_log import RunLog
from t2g_ray.grpo.stages import Ready, Scaler
from t2g_ray.model.policy import pin_model
from t2g_ray.prompts.ledger import Curriculum, Ledger
from t2g_ray.prompts.settings import write_prompt_settings
from t2g_ray.records.outputs import check_folder
from t2g_ray.rewards.custom import check_custom
from t2g_ray.run.checkpoint import FoundCheckpoint
from t2g_ray.run.folder import RunDir, write_json, write_text
from t2g_ray.run.jsonlines import JsonLinesWriter
from t2g_ray.run.machine import describe_machine
from t2g_ray.run.metrics import MetricsSink, last_time_s
from t2g_ray.run.resume.ending import kept_failure
from t2g_ray.run.resume.lock import held
from t2g_ray.run.resume.start import (
    enter,
    enter_at_nothing,
    find_start,
    is_at_end,
    resume_step,
    tell,
)
from t2g_ray.run.stopping import RunStopped, StopSignal
from t2g_ray.run.timing.startup import DRIVER, part, seconds_by_actor, start_line, take_spans
from t2g_ray.run.trace import Span, Tracer


def run_grpo(config: GrpoConfig, *, sinks: Sequence[MetricsSink] = ()) -> RunDir:
    """Run or resume the GRPO stage; the run folder is complete when this returns.

    A finished run is left as it is. `sinks` get each step's line after metrics.jsonl; what one
    raises ends the run without a checkpoint. Raises ConfigError or ValueError for bad input,
    DeviceError and PlacementError where machine or cluster cannot hold it, LoopError and
    WeightSyncError where an invariant does not hold.
    """
    started = time.time()
    take_spans(DRIVER)  # what an earlier run of this process left that did not get this far
    check_device(config.device, config.deadlines)
    check_custom(config.reward_spec.custom, os.getcwd())
    trackers.check(config)
    run = RunDir(config.run_dir)
    check_folder("run_dir", run.path, (config.model, config.data.train, config.data.heldout))
    with held(run.path):
        kept = KeptRun(config, run)
        kept.open()
        is_new = not run.prepare(resume=config.resume == "auto")
        try:
            config = pin_model(config, run)
            is_finished = not is_new and is_at_end(run, config.steps)
            # Of a finished run people remove the checkpoints, which are large.
            has_none = is_finished and not any(run.checkpoints.glob("step_*"))
            start = None if is_new or has_none else find_start(run)
            if start is None and not is_finished:
                write_text(run.config, dump_config(config))
                enter_at_nothing(run)
            with part("inputs"):
                inputs = GrpoInputs(config, run)
            told = inputs.check(start) if start is not None else []
            if is_finished:
                tell(f"{run.path} is finished, all {config.steps} steps: nothing is changed in it")
                return run
            with part("Ray"):
                connect(config.deadlines)
            kept.push()
            stage = _GrpoRun(config, run, inputs, start, kept, sinks)
            if start is not None:
                write_text(run.config, dump_config(config))
                enter(run, start, told)
                kept.discard_after(start.step)
        except BaseException:
            # Nothing was trained: the corrected command must find the folder as empty as it was.
            if is_new:
                kept.remove_all()
            raise
        step = resume_step(is_new, start)
        with kept_failure(run), trackers.tracked(config, run, step):
            stage.run(step, started)
    return run


class _GrpoRun:
    """The parts of one run, wired together."""

    def __init__(
        self,
        config: GrpoConfig,
        run: RunDir,
        inputs: GrpoInputs,
        start: FoundCheckpoint | None,
        kept: KeptRun,
        sinks: Sequence[MetricsSink] = (),
    ) -> None:
        self.config, self.run_dir, self.inputs, self.start = config, run, inputs, start
        self.prompts, self.kept = inputs.prompts, kept
        checkpoint = start.path.name if start else ""
        with part("actors"):
            self.cluster = start_cluster(
                config, inputs.model, inputs.tokenizer, checkpoint=checkpoint
            )
        fleet, learners = self.cluster.fleet, self.cluster.learners
        try:
            self.groups = RayGroups(
                config, fleet=fleet, rewards=self.cluster.rewards, prompts=self.prompts
            )
            gauges = LoopGauges(config, self.groups.queue, self.groups.open_by_actor)
            self.sinks = [gauges, *sinks]
            self.turns = turns_of(config, learners, fleet)
            self.weights = RayWeights(config, learners=learners, fleet=fleet, turns=self.turns)
            self.version, self.ledger = self._restore()
        except BaseException:
            self.cluster.close()
            raise

    def run(self, resume_step: int | None, started: float) -> None:
        version, ledger = self.version, self.ledger
        try:
            samples = JsonLinesWriter(self.run_dir.samples, resume_step=resume_step)
            evaluator = Evaluator(
                self.config,
                self.run_dir,
                self.groups,
                self.inputs.tokenizer,
                samples,
                resume_step,
                self.inputs.heldout,
            )
            # Restore, then a verified sync, then rollouts: samplers hold random weights so far.
            tracer = Tracer("loop")
            starts = self._first_sync(version, tracer)
            evaluator.before(version)
            log = RunLog(
                self.config,
                self.run_dir,
                resume_step=resume_step,
                drain_spans=lambda: [*self.cluster.drain_spans(), *tracer.drain()],
                evaluate=evaluator.during,
                checkpoint=self._checkpoint,
                sample=self._sample,
                samples=samples,
                num_samplers=lambda: len(self.cluster.fleet),
                sinks=self.sinks,
            )
            loop_started = time.time()
            with log, StopSignal() as stop:
                loop = GrpoLoop(
                    self.config,
                    groups=self.groups,
                    trainer=RayTrainer(
                        self.config, self.cluster.learners, self.groups.attend, self.turns
                    ),
                    weights=self.weights,
                    watcher=log,
                    scaler=self._scaler(log, tracer),
                    tracer=tracer,
                    ledger=ledger,
                    version=version,
                    elapsed_s=last_time_s(self.run_dir.metrics),
                    should_stop=stop,
                )
                self._run_loop(loop, ledger)
            loop_s = time.time() - loop_started
            self._export()
            report = evaluator.after(self.config.steps)
            walls = {"grpo_wall_s": loop_s, "wall_s": time.time() - started}
            self._report({**report, **walls, "startup": seconds_by_actor(starts)})
        finally:
            self.cluster.close()

    def _first_sync(self, version: int, tracer: Tracer) -> list[Span]:
        """Ends the start, which is told in a line, traced, and returned by parts."""
        with part("first sync"):
            self.weights.publish(version)
        spans = [*self.cluster.start_spans(), *take_spans(DRIVER)]
        tracer.extend(spans)
        tell(start_line(spans))
        return spans

    def _scaler(self, log: RunLog, tracer: Tracer) -> Scaler | None:
        return scaler_of(
            self.config,
            self.run_dir,
            model=self.inputs.model,
            cluster=self.cluster,
            dealer=self.groups.dealer,
            weights=self.weights,
            last_line=lambda: log.last_line,
            tracer=tracer,
        )

    def _sample(self, ready: Ready) -> Mapping[str, object]:
        """The best completion of a group, as a line of samples.jsonl."""
        index = ready.summary.index
        asked = self.cluster.rewards[0].call(
            RewardActor.best_sample, scored_of(ready).as_argument(), self.prompts.record(index)
        )
        phase = f"question for a sample of prompt {index}"
        return result_of(asked, phase, self.config.deadlines.generate)

    def _run_loop(self, loop: GrpoLoop, ledger: Ledger) -> None:
        try:
            loop.run()
        except RunStopped:
            self._checkpoint(loop.version, ledger)
            raise RunStopped(
                f"stopped at step {loop.version} of {self.config.steps}; the checkpoint is in "
                f"{self.kept.place_of(loop.version)}, resume=auto goes on from there"
            ) from None
        except Exception as error:
            error.add_note(f"the run stood at version {loop.version}")
            raise
        self.weights.wait_for_loads()

    def _restore(self) -> tuple[int, Ledger]:
        curriculum = None
        if self.config.data.order == "half_right_first":
            order = self.prompts.order
            curriculum = Curriculum(order.record_index, order.num_records)
        if self.start is None:
            return 0, Ledger(curriculum=curriculum)
        version = self.start.step
        phase = f"restore of step {version}"
        self.cluster.each_learner(phase, LearnerActor.load, self.start.path)
        return version, Ledger.from_state(self.start.state["ledger"], curriculum)

    def _checkpoint(self, step: int, ledger: Ledger) -> None:
        state = {"step": step, "ledger": ledger.state(), "meaning": self.inputs.meaning.state()}
        self.kept.save(step, state, partial(self.cluster.save, step))

    def _export(self) -> None:
        phase = "export of the model"
        self.cluster.each_learner(phase, LearnerActor.export, self.run_dir.model)
        self.kept.bring_model(self.cluster.placement()["learner/0"])
        write_prompt_settings(
            self.run_dir.model, self.config.prompt, self.config.sampling.max_new_tokens
        )

    def _report(self, result: Mapping[str, object]) -> None:
        from t2g_ray.report import write_report

        report = {
            "seed": self.config.seed,
            "steps": self.config.steps,
            "model": self.config.model,
            "prompts_too_long": self.prompts.num_too_long,
            "placement": self.cluster.placement(),
            "devices": self.cluster.devices(),
            **result,
            **describe_machine(),
        }
        write_json(self.run_dir.report_json, report)
        write_report(self.run_dir)
        self.kept.push()
