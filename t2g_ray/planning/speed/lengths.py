"""How long prompts and answers will be: given, as in another run, or assumed, and which of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from t2g_ray.config import GrpoConfig, StageConfig
from t2g_ray.run.folder import RunDir
from t2g_ray.run.metrics import read_metrics

PROMPT_SHARE = 0.5
"""Of prompt.max_tokens, where nothing is known: a limit leaves room above the usual prompt."""
ANSWER_SHARE = 0.5
"""Of sampling.max_new_tokens, alike."""
SFT_ANSWER_SHARE = 0.25
"""Of prompt.max_tokens: SFT has no limit for answers."""
LONGEST_OVER_MEAN = 2.0
"""The longest answer of a step over the mean, where it is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """Tokens of one sequence."""

    prompt: float
    """Mean."""
    answer: float
    """Mean, the end token included."""
    longest: float
    """The longest answer of a step."""
    source: str
    """A sentence: where they come from."""

    def __post_init__(self) -> None:
        if not (self.prompt > 0 and 0 < self.answer <= self.longest):
            raise ValueError(
                f"prompts and answers must have tokens, found {self.prompt:g} and {self.answer:g}"
            )


def choose_lengths(
    config: StageConfig,
    *,
    prompt: float | None = None,
    answer: float | None = None,
    like: Lengths | None = None,
) -> Lengths:
    """Given numbers first, then those of `like`, then shares of the configuration's limits."""
    limit = config.sampling.max_new_tokens if isinstance(config, GrpoConfig) else None
    like = like or assumed_lengths(config)
    source = like.source
    if prompt is not None:
        source = f"prompts have {prompt:g} tokens, as given; {source}"
    if answer is not None:
        source = f"answers have {answer:g} tokens, as given; {source}"
    mean = like.answer if answer is None else answer
    mean = min(mean, limit or mean)
    longest = mean * like.longest / like.answer
    if isinstance(config, GrpoConfig):
        longest = mean if config.sampling.ignore_eos else min(limit or longest, longest)
    return Lengths(
        prompt=like.prompt if prompt is None else prompt,
        answer=mean,
        longest=max(mean, longest),
        source=source,
    )


def assumed_lengths(config: StageConfig) -> Lengths:
    """Shares of the limits; with sampling.ignore_eos every answer goes on to its own."""
    if isinstance(config, GrpoConfig):
        limit, name = config.sampling.max_new_tokens, "sampling.max_new_tokens"
        share = 1.0 if config.sampling.ignore_eos else ANSWER_SHARE
        most = float(limit)
    else:
        limit, name, share = config.prompt.max_tokens, "prompt.max_tokens", SFT_ANSWER_SHARE
        most = math.inf
    answer = share * limit
    return Lengths(
        prompt=PROMPT_SHARE * config.prompt.max_tokens,
        answer=answer,
        longest=min(most, LONGEST_OVER_MEAN * answer),
        source=f"assumed: prompts of {PROMPT_SHARE:g} x prompt.max_tokens and answers of {share:g} "
        f"x {name} (--prompt-tokens, --answer-tokens and --like RUN say better)",
    )


def lengths_of_run(folder: Path, *, batch_size: int) -> Lengths:
    """Means over the steps of an earlier run, of GRPO or, with its `batch_size`, of SFT.

    Raises ValueError where the folder has no steps.
    """
    lines = [line for line in read_metrics(RunDir(folder).metrics) if line.get("tokens/trained")]
    if not lines:
        raise ValueError(f"--like must be the folder of a run with steps, found none in {folder}")
    prompts, answers = [], []
    for line in lines:
        trained = line["tokens/trained"] or 1.0
        mean = line.get("completion_length/mean") or trained / batch_size
        answers.append(mean)
        prompts.append((line["tokens/prompt"] or 0.0) * mean / trained)
    answer = fmean(answers)
    return Lengths(
        prompt=fmean(prompts),
        answer=answer,
        longest=LONGEST_OVER_MEAN * answer,
        source=f"prompts and answers as long as in {folder}",
    )
