"""A checkout -> a Ray job: tracked files only, named environment variables only.

What is uploaded is what git tracks (as it is in the working tree), so that neither a virtual
environment nor a run folder travels by accident. Everyone who reaches the cluster's job API,
dashboard or log files can read the files and variables of a job.

Invariant: no file from outside the checkout travels, and no secret: a file or variable that is
named as one stays here, and the command says so.
"""

from __future__ import annotations

import os
import re
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

_SECRET_VARIABLE = re.compile(
    r"(^|_)(TOKENS?|(API)?_?KEYS?|SECRETS?|PASS(WORD|WD|PHRASE)?|PWD|CREDENTIALS?|AUTH|COOKIES?)(_|$)"
)
_REFERENCE = re.compile(r"_(PATH|FILE|DIR)$")
"""The path of a file with a secret is none."""

_SECRET_FILE = re.compile(
    r"\.env(\..+)?|.+\.env|\.netrc|_netrc|\.pgpass|\.pypirc|\.npmrc|\.git-credentials|credentials(\..+)?"
    r"|id_(rsa|dsa|ecdsa|ed25519)|.+\.(pem|key|p12|pfx|jks|keystore|ppk)|secrets?(\..+)?|.*service.?account.*\.json"
)
_EXAMPLE = re.compile(r".*[._-](example|sample|template|dist)(\..+)?|.+\.pub")
"""Files that show the form of a secret."""


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
    withheld: tuple[str, ...]
    """Variables of the families that stay here because they are named as secrets."""

    @property
    def summary(self) -> str:
        """What was sent, and what was not."""
        size = f"{self.num_files} files, {self.num_bytes / MIB:.1f} MiB"
        text = f"job {self.job}: {size}; variables: {', '.join(self.variables) or 'none'}"
        if self.withheld:
            text += (
                f"\n{', '.join(self.withheld)} stayed here: everyone who reaches the job API or "
                "dashboard of the cluster can read the variables of a job. Put a secret in a file "
                "on the nodes that only their user can read, and name the file: "
                "HF_TOKEN_PATH=/path/of/the/token travels"
            )
        return text


def submit(
    command: Sequence[str], *, address: str, checkout: Path, job: str | None = None
) -> Submission:
    """Send a command to a cluster's job API (http://host:8265) and return at once.

    Raises SubmitError outside a git checkout, for files that must not travel, and above MAX_MIB,
    naming the largest files.
    """
    files = tracked_files(checkout)
    check_files(checkout, files)
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
        job=identity,
        num_files=len(files),
        num_bytes=num_bytes,
        variables=tuple(sorted(variables)),
        withheld=tuple(sorted(withheld_variables(os.environ))),
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


def check_files(checkout: Path, files: Sequence[str]) -> None:
    """Raises SubmitError for links that lead out of the checkout, and for files named as secrets.

    A link inside the checkout travels as the file that it leads to, which git tracks or not.
    """
    root = checkout.resolve()
    for name in files:
        target = (checkout / name).resolve()
        inside = target.relative_to(root) if target.is_relative_to(root) else None
        if inside is None or inside.parts[:1] == (".git",):
            raise SubmitError(
                f"tracked files must lie in the checkout, found the link {name} to {target}; "
                "remove it from git, or copy the file into the checkout"
            )
        if inside.as_posix() not in files:
            raise SubmitError(
                f"only tracked files travel, found the link {name} to {inside}, which git does "
                "not track; track it too, or remove the link from git"
            )
        if any(_is_secret(part) for part in (Path(name).name, inside.name)):
            raise SubmitError(
                f"a tracked file must hold no secret, found {name}, and everyone who reaches the "
                "cluster's job API could read it; run `git rm --cached` on it and put it on the "
                "nodes, or name it .example if it holds none"
            )


def _is_secret(name: str) -> bool:
    name = name.lower()
    return bool(_SECRET_FILE.fullmatch(name)) and not _EXAMPLE.fullmatch(name)


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
    """The variables that travel with a job: those of PASSED_PREFIXES without a secret."""
    withheld = withheld_variables(environment)
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(PASSED_PREFIXES) and name not in withheld
    }


def withheld_variables(environment: Mapping[str, str]) -> list[str]:
    """Names of the variables of PASSED_PREFIXES that hold a secret, by their name or their value.

    Ray stores the variables of a job in plain text and shows them to all who can ask for the job.
    A secret belongs into a file on the nodes; the variable that names it travels (HF_TOKEN_PATH).
    """
    return [
        name
        for name, value in environment.items()
        if name.startswith(PASSED_PREFIXES)
        and not _REFERENCE.search(name)
        and (_SECRET_VARIABLE.search(name.upper()) or _holds_login(value))
    ]


def _holds_login(value: str) -> bool:
    """Whether a value is an address with a password, or has the form of a hub token."""
    return re.search(r"://[^/@\s]*:[^/@\s]+@|\bhf_[A-Za-z0-9]{20,}\b", value) is not None


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
