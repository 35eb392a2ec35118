"""What is known of a run -> its state."""

from __future__ import annotations

from t2g_ray.report.status.holder import Holder
from t2g_ray.report.status.states import PATIENCE_S, PATIENCE_STEPS, Verdict, verdict_of

FAR = Holder(7, "another-machine", "2026-05-01 10:00:00", "t2g grpo demo.yaml", lives=None)


def judged(sign_s: float | None, step_s: float | None) -> Verdict:
    return verdict_of(is_finished=False, holder=FAR, failure={}, sign_s=sign_s, step_s=step_s)


def test_slow_steps_make_patience_longer() -> None:
    assert judged(PATIENCE_S - 1, None).state == "live"
    assert judged(PATIENCE_S + 1, 1.0).state == "silent"
    assert judged(PATIENCE_STEPS * 100 - 1, 100.0).state == "live"
    assert judged(PATIENCE_STEPS * 100 + 1, 100.0).state == "silent"
    assert judged(None, None).state == "silent"
