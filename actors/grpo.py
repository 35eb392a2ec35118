"""Configuration -> data, actors and loop -> a complete run folder: the GRPO stage as a whole."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from functools import partial

from actors.cluster.placement import connect
from actors.cluster.start import start_cluster, start_newcomer
from actors.cluster.waiting import result_of
from actors.stages.evaluation import Evaluator
from actors.stages.groups import RayGroups
from actors.stages.scaling import RolloutScaler
from actors.stages.scoring import scored_of
from actors.stages.trainer import RayTrainer
from actors.stages.weights import RayWeights
from actors.workers.learner import LearnerActor
from actors.workers.reward import RewardActor
from t2g_ray.config import GrpoConfig, dump_config
from t2g_ray.grpo.loop import GrpoLoop
from t2g_ray.grpo.run_log import RunLog
from t2g_ray.grpo.stages import Ready
from t2g_ray.model.policy import resolve_model
from t2g_ray.model.tokenizer import load_tokenizer
from t2g_ray.prompts.ledger import Curriculum, Ledger
from t2g_ray.prompts.load import PromptStream
from t2g_ray.prompts.settings import write_prompt_settings
from t2g_ray.rewards.custom import check_custom
from t2g_ray.run.checkpoint import begin, discard_after, find_checkpoint, finish, keep_last
from t2g_ray.run.folder import RunDir, write_json, write_text
from t2g_ray.run.jsonlines import JsonLinesWriter
from t2g_ray.run.machine import describe_machine
from t2g_ray.run.metrics import last_time_s
from t2g_ray.run.stopping import RunStopped, StopSignal


def run_grpo(config: GrpoConfig) -> RunDir:
    """Run or resume the GRPO stage; the run folder is complete when this returns.

    Raises ConfigError or ValueError for bad input, PlacementError where the cluster is too small,
    LoopError and WeightSyncError where an invariant does not hold.
    """
    started = time.time()
    check_custom(config.reward_spec.custom, os.getcwd())
    run = RunDir(config.run_dir)
    is_resumed = run.prepare(resume=config.resume == "auto")
    write_text(run.config, dump_config(config))
    try:
        connect(config.deadlines)
        stage = _GrpoRun(config, run)
    except BaseException:
        # Nothing was trained: the corrected command must find the folder as empty as it was.
        if not is_resumed:
            shutil.rmtree(run.path)
        raise
    stage.run(is_resumed, started)
    return run


class _GrpoRun:
    """The parts of one run, wired together."""

    def __init__(self, config: GrpoConfig, run: RunDir) -> None:
        self.config, self.run_dir = config, run
        self.model = resolve_model(config, run)
        self.tokenizer = load_tokenizer(self.model)
        self.prompts = PromptStream(self.tokenizer, config)
        self.cluster = start_cluster(config, self.model, self.model)
        fleet, learners = self.cluster.fleet, self.cluster.learners
        self.groups = RayGroups(
            config, fleet=fleet, rewards=self.cluster.rewards, prompts=self.prompts
        )
        self.weights = RayWeights(config, learners=learners, fleet=fleet)

    def run(self, is_resumed: bool, started: float) -> None:
        try:
            version, ledger = self._restore(is_resumed)
            resume_step = version if is_resumed else None
            samples = JsonLinesWriter(self.run_dir.samples, resume_step=resume_step)
            evaluator = Evaluator(
                self.config, self.run_dir, self.groups, self.tokenizer, samples, resume_step
            )
            # Restore, then a verified sync, then rollouts: samplers hold random weights so far.
            self.weights.publish(version)
            evaluator.before(version)
            log = RunLog(
                self.config,
                self.run_dir,
                resume_step=resume_step,
                drain_spans=self.cluster.drain_spans,
                evaluate=evaluator.during,
                checkpoint=self._checkpoint,
                sample=self._sample,
                samples=samples,
                num_samplers=lambda: len(self.cluster.fleet),
            )
            scaler = RolloutScaler(
                self.run_dir,
                cluster=self.cluster,
                dealer=self.groups.dealer,
                weights=self.weights,
                start=partial(start_newcomer, self.config, self.model),
            )
            loop_started = time.time()
            with log, StopSignal() as stop:
                loop = GrpoLoop(
                    self.config,
                    groups=self.groups,
                    trainer=RayTrainer(self.config, self.cluster.learners, self.groups.attend),
                    weights=self.weights,
                    watcher=log,
                    scaler=scaler,
                    ledger=ledger,
                    version=version,
                    elapsed_s=last_time_s(self.run_dir.metrics),
                    should_stop=stop,
                )
                self._run_loop(loop, ledger)
            loop_s = time.time() - loop_started
            self._export()
            report = evaluator.after(self.config.steps)
            self._report({**report, "grpo_wall_s": loop_s, "wall_s": time.time() - started})
        finally:
            self.cluster.close()

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
                f"{self.run_dir.checkpoint(loop.version)}, resume=auto goes on from there"
            ) from None
        except Exception as error:
            error.add_note(f"the run stood at version {loop.version}")
            raise
        self.weights.wait_for_loads()

    def _restore(self, is_resumed: bool) -> tuple[int, Ledger]:
        found = find_checkpoint(self.run_dir.checkpoints) if is_resumed else None
        curriculum = None
        if self.config.data.order == "half_right_first":
            order = self.prompts.order
            curriculum = Curriculum(order.record_index, order.num_records)
        if found is None:
            return 0, Ledger(curriculum=curriculum)
        version = int(found.state["version"])
        phase, folder = f"restore of step {version}", found.path / "learner"
        self.cluster.each_learner(phase, LearnerActor.load, folder)
        # Later checkpoints were found damaged; kept, they would count as the newest.
        discard_after(self.run_dir.checkpoints, version)
        for reason in found.rejected:
            print(f"left out: {reason}")
        print(f"resumed at step {version} from {found.path}")
        return version, Ledger.from_state(found.state["ledger"], curriculum)

    def _checkpoint(self, step: int, ledger: Ledger) -> None:
        folder = self.run_dir.checkpoint(step)
        temporary = begin(folder)
        phase = f"checkpoint of step {step}"
        self.cluster.each_learner(phase, LearnerActor.save, temporary / "learner")
        finish(folder, {"version": step, "ledger": ledger.state()})
        keep_last(self.run_dir.checkpoints, self.config.checkpoint.keep)

    def _export(self) -> None:
        phase = "export of the model"
        self.cluster.each_learner(phase, LearnerActor.export, self.run_dir.model)
        write_prompt_settings(
            self.run_dir.model, self.config.prompt, self.config.sampling.max_new_tokens
        )

    def _report(self, result: Mapping[str, object]) -> None:
        from t2g_ray.report import write_report

        report = {
            "seed": self.config.seed,
            "steps": self.config.steps,
            "prompts_too_long": self.prompts.num_too_long,
            "placement": self.cluster.placement(),
            **result,
            **describe_machine(),
        }
        write_json(self.run_dir.report_json, report)
        write_report(self.run_dir)
