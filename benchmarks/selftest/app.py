"""Options -> all checks -> a report, in selftest.json and on a page."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.result import current_commit
from benchmarks.selftest.claims import claims_after
from benchmarks.selftest.outcome import SelfTestReport, to_json
from benchmarks.selftest.page import render
from benchmarks.selftest.plan import checks_of
from benchmarks.selftest.running import Told, run_checks
from benchmarks.selftest.session import Finding, Session
from benchmarks.selftest.settings import find_hardware, model_folder
from t2g_ray.report import write_page
from t2g_ray.run.folder import write_text
from t2g_ray.run.machine import describe_machine

if TYPE_CHECKING:
    from benchmarks.selftest.subjects.pair import Actors


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfTestOptions:
    """What is asked for."""

    minutes: float
    out: Path
    """Folder of selftest.json and selftest.html."""
    model: str | None = None
    """A folder or a shape; None: a shape by the device."""
    only: Sequence[str] = ()
    """Names of checks; none: all."""


def run(
    options: SelfTestOptions,
    findings: Callable[[], Sequence[Finding]],
    *,
    tell: Told = lambda outcome: None,
    actors: Actors | None = None,
) -> SelfTestReport:
    """Run the checks and write both files. `findings` looks at the machine as `t2g doctor` does.

    Raises ValueError for a model or a name that there is none of, before anything starts.
    """
    hardware = find_hardware()
    model = options.model or hardware.default_model
    with tempfile.TemporaryDirectory(prefix="t2g_selftest_") as folder:
        work = Path(folder)
        session = Session(hardware, model_folder(model, hardware, work), work, findings, actors)
        checks = checks_of(session, options.only)
        try:
            outcomes = run_checks(
                checks,
                seconds=60 * options.minutes,
                tell=tell,
                after_failure=session.free_devices,
            )
        finally:
            session.free_devices()
    facts = describe_machine()
    report = SelfTestReport(
        device=hardware.device,
        model=model,
        minutes=options.minutes,
        measured=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=current_commit(),
        machine={**facts["machine"], "gpus": hardware.num_gpus, "gpu": hardware.gpu_name},
        versions=facts["versions"],
        checks=tuple(outcomes),
        claims=claims_after(outcomes, hardware.device),
    )
    options.out.mkdir(parents=True, exist_ok=True)
    write_text(options.out / "selftest.json", to_json(report))
    write_page(options.out / "selftest.html", render(report))
    return report
