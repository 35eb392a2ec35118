"""Held-out prompts -> greedy graphs by the run's own rollout actors -> evals.jsonl and samples.

Scoring goes through `evaluate_texts`, not through the reward actors: what is reported does not
depend on what is rewarded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from actors.stages.greedy import greedy_groups
from actors.stages.groups import RayGroups
from t2g_ray.config import GrpoConfig
from t2g_ray.evaluation.evaluate import EvalResult, evaluate_texts
from t2g_ray.evaluation.intervals import bootstrap_interval, paired_interval
from t2g_ray.graph.counts import GraphCounts
from t2g_ray.prompts.load import LoadedSplit
from t2g_ray.prompts.messages import fitting_prompts
from t2g_ray.rewards.group import sample_line
from t2g_ray.run.folder import RunDir
from t2g_ray.run.jsonlines import JsonLine, JsonLinesWriter, read_json_lines
from t2g_ray.run.metrics import last_time_s
from t2g_ray.run.resume.meaning import ResumeError
from t2g_ray.types import Prompt, Record

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SHOWN = 16
"""How many held-out texts go to samples.jsonl with their graphs at each evaluation."""


def check_evaluated_before(run: RunDir, splits: Iterable[LoadedSplit]) -> None:
    """A resumed run must know how the policy answered before its first step.

    Raises ResumeError where evals.jsonl has lost that.
    """
    found = {line["split"] for line in read_json_lines(run.evals) if line["step"] == 0}
    if missing := sorted(set(splits) - found):
        raise ResumeError(
            f"{run.evals} must hold the evaluation before the first step of {', '.join(missing)}, "
            "found none; restore the file, or give another run_dir"
        )


class Evaluator:
    """Evaluates one run before, during and after training, on the same records."""

    def __init__(
        self,
        config: GrpoConfig,
        run: RunDir,
        groups: RayGroups,
        tokenizer: PreTrainedTokenizerBase,
        samples: JsonLinesWriter,
        resume_step: int | None,
        records: Mapping[LoadedSplit, Sequence[Record]],
    ) -> None:
        self._config, self._groups, self._tokenizer = config, groups, tokenizer
        self._metrics = run.metrics
        self._evals = JsonLinesWriter(run.evals, resume_step=resume_step)
        self._samples = samples
        self._records = records
        self._prompts = {split: self._encode(part) for split, part in records.items()}
        self._done = {(line["split"], line["step"]): line for line in read_json_lines(run.evals)}

    def _encode(self, records: Sequence[Record]) -> list[Prompt]:
        """Prompts of the records that fit; the others count as empty answers."""
        fitting = fitting_prompts(self._tokenizer, records, self._config.prompt)
        return [Prompt(index=number, token_ids=ids, purpose="eval") for number, ids in fitting]

    def before(self, version: int) -> None:
        """Evaluate all splits before the first step."""
        for split in self._records if version == 0 else ():
            self._evaluate(split, version)

    def during(self, version: int) -> None:
        """Evaluate the held-out records."""
        if "heldout" in self._records:
            self._evaluate("heldout", version)

    def after(self, version: int) -> JsonLine:
        """Evaluate all splits and compare; the evaluation part of report.json."""
        lines = {split: self._evaluate(split, version) for split in self._records}
        if not lines:
            return {"records": 0}
        blocks = {split: self._compare(self._done[split, 0], line) for split, line in lines.items()}
        report = {"records": len(self._records["heldout"]), **blocks["heldout"]}
        if "heldout_names" in blocks:
            report["heldout_names"] = blocks["heldout_names"]
        return report

    def _evaluate(self, split: LoadedSplit, version: int) -> JsonLine:
        """The line of an evaluation; the one that is there where a resumed run already made it."""
        if (split, version) not in self._done:
            self._done[split, version] = self._make(split, version)
        return self._done[split, version]

    def _make(self, split: LoadedSplit, version: int) -> JsonLine:
        prompts = self._prompts[split]
        limit = self._config.eval.max_new_tokens or self._config.sampling.max_new_tokens
        groups = greedy_groups(
            self._groups.serving,
            prompts,
            max_new_tokens=limit,
            min_version=version,
            deadline=self._config.deadlines.generate,
        )
        ids = {g.prompt.index: g.completions[0].token_ids.tolist() for g in groups}
        records = self._records[split]
        answers = [ids.get(number, []) for number in range(len(records))]
        texts = self._tokenizer.batch_decode(answers, skip_special_tokens=True)
        result = evaluate_texts(
            records,
            texts,
            thinking=self._config.prompt.thinking,
            lengths=[len(answer) for answer in answers],
        )
        line = {
            **result.line(version, version, split),
            "time_s": last_time_s(self._metrics),
            "by_record": [one.as_row() for one in result.by_record],
        }
        self._evals.append(line)
        if split == "heldout":
            self._show(records[:_SHOWN], texts, result, version)
        return line

    def _show(
        self, records: Sequence[Record], texts: Sequence[str], result: EvalResult, version: int
    ) -> None:
        shown = zip(records, texts, result.by_record, strict=False)
        for number, (record, text, counts) in enumerate(shown):
            line = sample_line(number, record, text, thinking=self._config.prompt.thinking)
            self._samples.append(
                {
                    "step": version,
                    "policy_version": version,
                    "split": "heldout",
                    **line,
                    "reward": (counts.entities.f1 + counts.relations.f1) / 2,
                    "parts": {
                        "f1_entities": counts.entities.f1,
                        "f1_relations": counts.relations.f1,
                    },
                }
            )

    def _compare(self, before: JsonLine, after: JsonLine) -> JsonLine:
        counts = [
            [GraphCounts.from_row(row) for row in line["by_record"]] for line in (before, after)
        ]
        seed = self._config.seed
        blocks = [
            {
                **{key: value for key, value in line.items() if key != "by_record"},
                "interval": bootstrap_interval(of_line, seed=seed),
            }
            for line, of_line in zip((before, after), counts, strict=True)
        ]
        return {
            "before": blocks[0],
            "after": blocks[1],
            "interval": paired_interval(*counts, seed=seed),
        }
