"""Configuration -> data, actors and loop -> a complete run folder: the GRPO stage as a whole."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from actors.cluster.placement import connect
from actors.cluster.start import start_cluster, start_newcomer
from actors.cluster.waiting import results_of
from actors.stages.evaluation import Evaluator
from actors.stages.groups import RayGroups
from actors.stages.scaling import RolloutScaler
from actors.stages.trainer import RayTrainer
from actors.stages.weights import RayWeights
from t2g_ray.config import GrpoConfig, dump_config
from t2g_ray.grpo.loop import GrpoLoop
from t2g_ray.grpo.run_log import RunLog
from t2g_ray.grpo.stages import Ready
from t2g_ray.model.policy import resolve_model
from t2g_ray.model.tokenizer import load_tokenizer
from t2g_ray.prompts.ledger import Curriculum, Ledger
from t2g_ray.prompts.load import encode_prompts, likely_answers, load_split
from t2g_ray.prompts.order import PromptOrder
from t2g_ray.prompts.settings import write_prompt_settings
from t2g_ray.rewards.custom import check_custom
from t2g_ray.rewards.group import sample_line
from t2g_ray.run.checkpoint import begin, discard_after, find_checkpoint, finish, keep_last
from t2g_ray.run.folder import RunDir, write_json, write_text
from t2g_ray.run.jsonlines import JsonLinesWriter
from t2g_ray.run.machine import describe_machine
from t2g_ray.run.metrics import last_time_s
from t2g_ray.run.stopping import RunStopped, StopSignal
from t2g_ray.types import Prompt


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
        stage = _Stage(config, run)
    except BaseException:
        # Nothing was trained: the corrected command must find the folder as empty as it was.
        if not is_resumed:
            shutil.rmtree(run.path)
        raise
    stage.run(is_resumed, started)
    return run


class _Stage:
    """The parts of one run, wired together."""

    def __init__(self, config: GrpoConfig, run: RunDir) -> None:
        self.config, self.run_dir = config, run
        self.model = resolve_model(config, run)
        self.tokenizer = load_tokenizer(self.model)
        pairs, num_too_long = encode_prompts(
            self.tokenizer, load_split(config, "train"), config.prompt
        )
        self._pairs, self.num_too_long = pairs, num_too_long
        self._likely: list[tuple[int, ...]] = [()] * len(pairs)
        if config.rollout.num_guessed:
            records = [record for record, _ in pairs]
            self._likely = likely_answers(self.tokenizer, records, config.prompt)
        self._order = PromptOrder(len(pairs), config.data_seed, self._sizes())
        self.cluster = start_cluster(config, self.model, self.model)
        self.groups = RayGroups(
            config,
            rollouts=self.cluster.rollouts,
            rewards=self.cluster.rewards,
            prompt_at=self._prompt_at,
        )
        self.weights = RayWeights(
            config, learners=self.cluster.learners, rollouts=self.cluster.rollouts
        )

    def _sizes(self) -> tuple[int, ...] | None:
        if self.config.data.order != "small_first":
            return None
        graphs = [record.graph for record, _ in self._pairs]
        return tuple(len(graph.entities) + len(graph.relations) for graph in graphs)

    def _prompt_at(self, position: int) -> Prompt:
        number = self._order.record_index(position)
        record, ids = self._pairs[number]
        return Prompt(index=position, record=record, token_ids=ids, likely_ids=self._likely[number])

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
                num_samplers=lambda: len(self.cluster.rollouts),
            )
            scaler = RolloutScaler(
                self.run_dir,
                log,
                cluster=self.cluster,
                groups=self.groups,
                weights=self.weights,
                start=partial(start_newcomer, self.config, self.model),
            )
            loop_started = time.time()
            with log, StopSignal() as stop:
                loop = GrpoLoop(
                    self.config,
                    groups=self.groups,
                    trainer=RayTrainer(self.config, self.cluster, self.groups.attend),
                    weights=self.weights,
                    watcher=scaler,
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
        actor = f"rewards (prompt {ready.summary.index})"
        (scored,) = results_of(
            {actor: ready.handle}, "fetch of a sample", self.config.deadlines, "generate_s"
        )
        best = max(range(len(scored.rewards)), key=lambda i: scored.rewards[i].total)
        prompt, reward = scored.group.prompt, scored.rewards[best]
        thinking = self.config.prompt.thinking
        line = sample_line(prompt.index, prompt.record, scored.texts[best], thinking=thinking)
        return {**line, "reward": reward.total, "parts": dict(reward.parts)}

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
            curriculum = Curriculum(self._order.record_index, len(self._pairs))
        if found is None:
            return 0, Ledger(curriculum=curriculum)
        version = int(found.state["version"])
        phase = f"restore of step {version}"
        self.cluster.each_learner("load", found.path / "learner", phase=phase)
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
        self.cluster.each_learner("save", temporary / "learner", phase=phase)
        finish(folder, {"version": step, "ledger": ledger.state()})
        keep_last(self.run_dir.checkpoints, self.config.checkpoint.keep)

    def _export(self) -> None:
        self.cluster.each_learner("export", self.run_dir.model, phase="export of the model")
        write_prompt_settings(
            self.run_dir.model, self.config.prompt, self.config.sampling.max_new_tokens
        )

    def _report(self, result: Mapping[str, Any]) -> None:
        from t2g_ray.report import write_report

        report = {
            "seed": self.config.seed,
            "steps": self.config.steps,
            "prompts_too_long": self.num_too_long,
            "placement": self.cluster.placement(),
            **result,
            **describe_machine(),
        }
        write_json(self.run_dir.report_json, report)
        write_report(self.run_dir)
