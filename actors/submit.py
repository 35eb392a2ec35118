"""A checkout and a command -> a Ray job, of which the cluster keeps no secret.

What is uploaded is what git tracks (as it is in the working tree), so that neither a virtual
environment nor a run folder travels by accident. Everyone who reaches the cluster's job API,
dashboard or log files can read the files, the variables and the command of a job: Ray masks
variables in answers to browsers and nowhere else.

Invariant: no file from outside the checkout travels, and no secret: what holds one stays here, and
the command says so.
"""

from __future__ import annotations

import os
import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from actors.jobs import STOP_WAIT_S, connect
from t2g_ray.run.job.checkout import MIB, check_files, check_size, copy_files, tracked_files
from t2g_ray.run.job.secrets import carried
from t2g_ray.run.job.variables import Variables, check_command, choose, secret_values

SECRETS_HOOK = "t2g_ray.run.job.secrets.load_in_a_worker"


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What was sent. `num_bytes` is the size before Ray compresses it."""

    job: str
    num_files: int
    num_bytes: int
    variables: Variables

    @property
    def summary(self) -> str:
        """What was sent, and what was not."""
        size = f"{self.num_files} files, {self.num_bytes / MIB:.1f} MiB"
        sent = ", ".join(sorted(self.variables.travelling)) or "none"
        text = f"job {self.job}: {size}; variables: {sent}"
        if self.variables.local:
            text += f"\n{', '.join(self.variables.local)} stayed here: they are about this machine"
        if self.variables.withheld:
            names = ", ".join(self.variables.withheld)
            text += (
                f"\n{names} stayed here: everyone who reaches the job API or dashboard of the "
                "cluster can read the variables of a job. Put a secret in a file on the nodes "
                "that only their user can read, and say where: "
                f"--secret {self.variables.withheld[0]}=/path/of/the/file"
            )
        return text


def submit(
    command: Sequence[str],
    *,
    address: str,
    checkout: Path,
    job: str | None = None,
    named: Sequence[str] = (),
    secrets: Sequence[str] = (),
) -> Submission:
    """Send a command to a cluster's job API (http://host:8265) and return at once.

    `named`: further variables, as NAME or NAME=VALUE. `secrets`: NAME=FILE on the nodes. Raises
    ValueError outside a git checkout, for what must not travel, and for too large a checkout.
    """
    files = tracked_files(checkout)
    num_bytes = check_size(checkout, files)
    check_files(checkout, files, secret_values(os.environ))
    check_command(command, os.environ)
    variables = choose(os.environ, named)
    carries = carried(secrets)
    stop = {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S)}
    runtime: dict[str, object] = {"env_vars": {**stop, **variables.travelling, **carries}}
    if carries:
        runtime["worker_process_setup_hook"] = SECRETS_HOOK
    with tempfile.TemporaryDirectory(prefix="t2g-job-") as folder:
        copy_files(checkout, files, Path(folder))
        identity = connect(address).submit_job(
            entrypoint=shlex.join(command),
            submission_id=job,
            runtime_env={"working_dir": folder, **runtime},
        )
    return Submission(job=identity, num_files=len(files), num_bytes=num_bytes, variables=variables)
