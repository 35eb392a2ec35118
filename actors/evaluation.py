"""Held-out prompts -> greedy graphs by the run's own rollout actors -> evals.jsonl and samples.

Scoring goes through `evaluate_texts`, not through the reward actors: what is reported does not
depend on what is rewarded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from actors.groups import RayGroups
from t2g_ray.config import EMBEDDED, GrpoConfig
from t2g_ray.data.load import encode_prompts, load_split
from t2g_ray.evaluate import EvalResult, bootstrap_interval, evaluate_texts
from t2g_ray.jsonlines import JsonLinesWriter, read_json_lines
from t2g_ray.parsing import parse_completion
from t2g_ray.rundir import RunDir
from t2g_ray.scoring import Counts, GraphCounts
from t2g_ray.types import Prompt

_SHOWN = 16
"""Held-out texts whose graphs go to samples.jsonl at each evaluation."""


class Evaluator:
    """Evaluates one run before, during and after training, on the same records."""

    def __init__(
        self,
        config: GrpoConfig,
        run: RunDir,
        groups: RayGroups,
        tokenizer: Any,
        samples: JsonLinesWriter,
        resume_step: int | None,
    ) -> None:
        self._config, self._groups, self._tokenizer = config, groups, tokenizer
        self._evals = JsonLinesWriter(run.evals, resume_step=resume_step)
        self._samples = samples
        splits = ["heldout"] + (["heldout_names"] if config.data.heldout == EMBEDDED else [])
        self._prompts = {split: self._encode(split) for split in splits}
        self._before = {
            line["split"]: line
            for line in (read_json_lines(run.evals) if run.evals.exists() else ())
            if line["step"] == 0
        }

    def _encode(self, split: Any) -> list[Prompt]:
        records = load_split(self._config, split)
        pairs, _ = (
            encode_prompts(self._tokenizer, records, self._config.prompt) if records else ([], 0)
        )
        # Negative, so that they never meet the index of a training prompt.
        return [
            Prompt(index=-1 - i, record=record, token_ids=ids)
            for i, (record, ids) in enumerate(pairs)
        ]

    def before(self, version: int) -> None:
        """Evaluate all splits, unless a resumed run already did."""
        for split in self._prompts:
            if split not in self._before and self._prompts[split]:
                self._before[split] = self._evaluate(split, version)

    def during(self, version: int) -> None:
        """Evaluate the held-out records."""
        if self._prompts["heldout"]:
            self._evaluate("heldout", version)

    def after(self, version: int) -> dict[str, Any]:
        """Evaluate all splits and compare; the evaluation part of report.json."""
        lines = {s: self._evaluate(s, version) for s, prompts in self._prompts.items() if prompts}
        if not lines:
            return {"records": 0}
        blocks = {split: self._compare(self._before[split], line) for split, line in lines.items()}
        report = {"records": len(self._prompts["heldout"]), **blocks["heldout"]}
        if "heldout_names" in blocks:
            report["heldout_names"] = blocks["heldout_names"]
        return report

    def _evaluate(self, split: str, version: int) -> dict[str, Any]:
        prompts = self._prompts[split]
        limit = self._config.eval.max_new_tokens or self._config.sampling.max_new_tokens
        groups = self._groups.greedy(prompts, max_new_tokens=limit, min_version=version)
        ids = [group.completions[0].token_ids.tolist() for group in groups]
        texts = self._tokenizer.batch_decode(ids, skip_special_tokens=True)
        result = evaluate_texts(
            [prompt.record for prompt in prompts],
            texts,
            thinking=self._config.prompt.thinking,
            lengths=[len(one) for one in ids],
        )
        line = {**result.line(version, version, split), "by_record": _plain(result)}
        self._evals.append(line)
        if split == "heldout":
            self._show(prompts[:_SHOWN], texts, result, version)
        return line

    def _show(
        self, prompts: Sequence[Prompt], texts: Sequence[str], result: EvalResult, version: int
    ) -> None:
        for prompt, text, counts in zip(prompts, texts, result.by_record, strict=False):
            outcome = parse_completion(text, thinking=self._config.prompt.thinking)
            record = prompt.record
            self._samples.append(
                {
                    "step": version,
                    "policy_version": version,
                    "split": "heldout",
                    "prompt_index": prompt.index,
                    "text": record.text,
                    "entity_types": list(record.entity_types),
                    "relation_types": list(record.relation_types),
                    "gold": record.graph.to_dict(),
                    "completion": text,
                    "predicted": outcome.graph.to_dict() if outcome.graph is not None else None,
                    "parse": outcome.kind,
                    "reward": (counts.entities.f1 + counts.relations.f1) / 2,
                    "parts": {
                        "f1_entities": counts.entities.f1,
                        "f1_relations": counts.relations.f1,
                    },
                }
            )

    def _compare(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
        interval = bootstrap_interval(
            _counts(before["by_record"]), _counts(after["by_record"]), seed=self._config.seed
        )
        return {
            "before": {k: v for k, v in before.items() if k != "by_record"},
            "after": {k: v for k, v in after.items() if k != "by_record"},
            "interval": {name: list(ends) for name, ends in interval.items()},
        }


def _plain(result: EvalResult) -> list[list[int]]:
    return [[*one.entities.as_tuple(), *one.relations.as_tuple()] for one in result.by_record]


def _counts(rows: Sequence[Sequence[int]]) -> list[GraphCounts]:
    return [GraphCounts(Counts(*row[:3]), Counts(*row[3:])) for row in rows]
