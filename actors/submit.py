"""A checkout -> a Ray job: tracked files only, named environment variables only.

What is uploaded is what git tracks (as it is in the working tree), so that neither a virtual
environment nor a run folder travels by accident.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ray.job_submission import JobStatus, JobSubmissionClient

from t2g_ray.weights.manifest import MIB

MAX_MIB = 50.0
"""Ray refuses packages above 100 MiB with an error that does not name the limit."""

PASSED_PREFIXES = ("T2G_", "HF_", "NCCL_", "GLOO_", "WANDB_")
"""Variables of these families travel with the job; all others stay here."""


STOP_WAIT_S = 600
"""Seconds that `ray job stop` gives a job to end by itself. Ray's 3 seconds are less than a step of
a large model, and a killed job writes no checkpoint."""


class SubmitError(ValueError):
    """The job cannot be submitted as asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What was sent. `num_bytes` is the size before Ray compresses it."""

    job: str
    num_files: int
    num_bytes: int
    variables: tuple[str, ...]


def submit(
    command: Sequence[str], *, address: str, checkout: Path, job: str | None = None
) -> Submission:
    """Send a command to a cluster's job API (http://host:8265) and return at once.

    Raises SubmitError outside a git checkout and above MAX_MIB, naming the largest files.
    """
    files = tracked_files(checkout)
    num_bytes = check_size(checkout, files)
    variables = passed_variables(os.environ)
    settings = {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S), **variables}
    with tempfile.TemporaryDirectory(prefix="t2g-job-") as folder:
        for name in files:
            target = Path(folder) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(checkout / name, target)
        client = JobSubmissionClient(address)
        identity = client.submit_job(
            entrypoint=shlex.join(command),
            submission_id=job,
            runtime_env={"working_dir": folder, "env_vars": settings},
        )
    return Submission(
        job=identity, num_files=len(files), num_bytes=num_bytes, variables=tuple(sorted(variables))
    )


def tracked_files(checkout: Path) -> list[str]:
    """Paths that git tracks and that exist, relative to `checkout`."""
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=checkout, capture_output=True, text=True, check=False
    )
    if listing.returncode:
        raise SubmitError(
            f"the folder to submit must be a git checkout, found {checkout}: "
            f"{listing.stderr.strip()}"
        )
    return [name for name in listing.stdout.split("\0") if name and (checkout / name).is_file()]


def check_size(checkout: Path, files: Sequence[str]) -> int:
    """Bytes of all files; raises SubmitError above MAX_MIB."""
    sizes = {name: (checkout / name).stat().st_size for name in files}
    total = sum(sizes.values())
    if total > MAX_MIB * MIB:
        largest = sorted(sizes, key=lambda name: -sizes[name])[:5]
        listing = ", ".join(f"{name} ({sizes[name] / MIB:.1f} MiB)" for name in largest)
        raise SubmitError(
            f"the tracked files must take at most {MAX_MIB:g} MiB, found {total / MIB:.1f} MiB; "
            f"the largest: {listing}. Move them to storage that the cluster can read"
        )
    return total


def passed_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that travel with a job."""
    return {name: value for name, value in environment.items() if name.startswith(PASSED_PREFIXES)}


def follow(job: str, *, address: str) -> JobStatus:
    """Print the job's log until it ends; returns how it ended."""
    import asyncio

    client = JobSubmissionClient(address)

    async def tail() -> None:
        async for text in client.tail_job_logs(job):
            print(text, end="", flush=True)

    asyncio.run(tail())
    status: JobStatus = client.get_job_status(job)
    return status
