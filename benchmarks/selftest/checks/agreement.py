"""Do learner and engine compute the same, where they should, and does chance have its seeds?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from benchmarks.selftest.outcome import Figure
from benchmarks.selftest.running import CheckFailed
from benchmarks.selftest.subjects.pair import Pair
from t2g_ray.rollout.engine import GenerationEngine
from t2g_ray.types import Group

ROUNDS = 2
"""Log-probs are compared before and after a step, so that weights which changed are among them."""
FIRST_TOKENS = 4
"""Two completions whose first tokens are equal were drawn with the same chance. Few of them: in
bf16 a prompt that comes from the cache moves logits, and now and then the token that is drawn."""
LEAST_AGAIN, MOST_ELSEWHERE = 0.8, 0.1


def parity(pair: Pair, device: str) -> list[Figure]:
    """Sampler and learner, in the configured dtypes, on tokens of the same weights."""
    found = pair.devices()
    if found != (device, device):
        raise CheckFailed(
            f"learner and engine must compute on {device}, found {found[0]} and {found[1]}"
        )
    tolerance = pair.config.parity_tolerance
    differences, num_tokens = [], 0
    for _ in range(ROUNDS):
        pair.publish()
        report = pair.train(pair.generate())
        differences.append(report.current_difference)
        num_tokens += report.num_current
        if not report.num_current:
            raise CheckFailed("tokens must carry the version that was sent last, found none")
    if not all(difference <= tolerance for difference in differences):  # NaN is not
        found_nats = ", ".join(f"{difference:.3g}" for difference in differences)
        raise CheckFailed(
            f"learner and engine must agree on the log-probs of the same tokens to {tolerance} "
            f"nats (mean), found {found_nats} with {pair.config.learner.dtype} and "
            f"{pair.config.rollout.dtype}"
        )
    return [
        Figure("logprob_difference", max(differences), "nats"),
        Figure("tolerance", tolerance, "nats"),
        Figure("tokens", num_tokens, "count"),
    ]


def seeds(pair: Pair) -> list[Figure]:
    """The same engine repeats itself, and two engines never draw alike."""
    pair.publish()
    prompts = pair.first_prompts()
    groups = pair.write(prompts)
    again = _equal_share(groups, pair.write(prompts))
    sampler = pair.ask(_sampler_number)
    pair.ask(lambda engine: _pose_as(engine, sampler + 1))
    other = _equal_share(groups, pair.write(prompts))
    pair.ask(lambda engine: _pose_as(engine, sampler))
    if again < LEAST_AGAIN or other > MOST_ELSEWHERE:
        raise CheckFailed(
            "an engine must write the same again to the same prompts, and another engine must "
            f"write something else, found a share of {again:.2f} and {other:.2f} written alike"
        )
    return [Figure("alike_again", again, "share"), Figure("alike_elsewhere", other, "share")]


def _equal_share(some: Sequence[Group], others: Sequence[Group]) -> float:
    pairs = [
        (a.token_ids[:FIRST_TOKENS].tolist(), b.token_ids[:FIRST_TOKENS].tolist())
        for one, other in zip(some, others, strict=True)
        for a, b in zip(one.completions, other.completions, strict=True)
    ]
    return sum(bool(a == b) for a, b in pairs) / len(pairs)


def _sampler_number(engine: GenerationEngine) -> int:
    return engine.spec.sampler


def _pose_as(engine: GenerationEngine, sampler: int) -> None:
    """Draw as the rollout actor of another number would."""
    engine.spec = replace(engine.spec, sampler=sampler)
