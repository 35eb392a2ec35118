"""Variables of this machine -> those that travel with a job, and those that stay here.

    of a family, or named     travels
    a secret                  stays: Ray keeps variables in plain text and shows them to all who ask
    about this machine        stays, unless it is named with a value for the cluster
    about one process         never travels: it is settled for each actor

Invariant: no value that travels is a secret by its name or by its form, or holds one that is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

FAMILIES = (
    *("T2G_", "HF_", "TRANSFORMERS_", "TOKENIZERS_", "WANDB_", "MLFLOW_", "TRACKIO_"),
    *("VLLM_", "TORCH_", "TORCHINDUCTOR_", "TORCHDYNAMO_", "PYTORCH_", "TRITON_", "CUDA_"),
    *("NCCL_", "GLOO_", "UCX_", "FI_"),
)
"""Variables whose names begin like this travel with a job; of others only those that are named."""

OF_ONE_PROCESS = {
    **dict.fromkeys(
        ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"), "Ray gives each actor its GPUs"
    ),
    **dict.fromkeys(
        ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "VLLM_CPU_OMP_THREADS_BIND"),
        "rollout.threads, learner.threads and the like give each actor its threads",
    ),
    **dict.fromkeys(
        ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "RAY_ADDRESS"),
        "the run finds its place in the cluster by itself",
    ),
    "T2G_SECRETS": "--secret NAME=FILE says where a secret lies",
}
"""Never travel, not even when named, and why."""

OF_THIS_MACHINE = (
    *("CUDA_HOME", "CUDA_PATH", "CUDA_ROOT", "CUDA_TOOLKIT_ROOT_DIR", "CUDA_CACHE_PATH"),
    *("VLLM_HOST_IP", "VLLM_PORT", "VLLM_LOOPBACK_IP", "VLLM_RPC_BASE_PATH"),
)
"""Folders and addresses that another machine does not have: they travel only when named."""

SHORTEST_SECRET = 12
"""Characters. A shorter value may stand in any text by chance."""

SECRET_NAME = re.compile(
    r"(^|[_.\-])(TOKENS?|(API)?_?KEYS?|SECRETS?|PASS(WORD|WD|PHRASE)?|PWD|CREDENTIALS?|AUTH"
    r"|AUTHORIZATION|COOKIES?)([_.\-]|$)"
)
"""In the upper case of a variable's name, or of a setting's dotted one."""
_REFERENCE = re.compile(r"_(PATH|FILE|DIR)$")
"""The path of a file with a secret is none."""
_FOLDERS = ("PWD", "OLDPWD")
_SECRET_FORM = re.compile(
    r"://[^/@\s:]*:[^/@\s]+@"  # an address with a password
    r"|\bhf_[A-Za-z0-9]{20,}|\bgh[pousr]_[A-Za-z0-9]{30,}|\bsk-[A-Za-z0-9_-]{20,}"
    r"|\bAKIA[0-9A-Z]{16}\b|-----BEGIN [A-Z ]*PRIVATE KEY-----"
    # an address that opens something to whoever has it
    r"|[?&](?i:token|key|sig|signature|password|write_token|x-amz-[a-z-]+)=[^&\s]+"
)


class VariableError(ValueError):
    """A variable or a command cannot travel as asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variables:
    """The variables of a job, by name."""

    travelling: Mapping[str, str]
    withheld: tuple[str, ...]
    """Of the families, and stay here because they hold a secret."""
    local: tuple[str, ...]
    """Of the families, and stay here because they say something of this machine or one process."""


def choose(environment: Mapping[str, str], named: Sequence[str] = ()) -> Variables:
    """Variables that travel: those of FAMILIES, and `named` ones (NAME, or NAME=VALUE).

    Raises VariableError for a named variable that is not set, is a secret or must not travel.
    """
    of_families = {k: v for k, v in environment.items() if k.startswith(FAMILIES)}
    asked = dict(_named(entry, environment) for entry in named)
    everything = {**environment, **asked}
    secrets = secret_values(everything)
    for name, value in asked.items():
        if reason := OF_ONE_PROCESS.get(name):
            raise VariableError(f"{name} must not travel with a job: {reason}; leave it out")
        if _is_secret(name, value, secrets):
            raise VariableError(
                f"a variable that travels must hold no secret, found {name}: everyone who reaches "
                f"the cluster's job API can read it. Put the secret in a file on the nodes that "
                f"only their user can read: --secret {name}=/path/of/the/file"
            )
    withheld = [k for k, v in of_families.items() if k not in asked and _is_secret(k, v, secrets)]
    local = [k for k in of_families if k in OF_ONE_PROCESS or k in OF_THIS_MACHINE]
    stays = {*withheld, *local}
    return Variables(
        travelling={**{k: v for k, v in of_families.items() if k not in stays}, **asked},
        withheld=tuple(sorted(withheld)),
        local=tuple(sorted(set(local) - set(withheld) - asked.keys())),
    )


def secret_values(environment: Mapping[str, str]) -> dict[str, str]:
    """Name -> value of every secret here that is long enough to be found in a text."""
    return {
        name: value
        for name, value in environment.items()
        if _is_secret_name(name)
        and name not in _FOLDERS
        and len(value) >= SHORTEST_SECRET
        and not (value.startswith("/") and Path(value).exists())
    }


def secret_in(text: str, secrets: Mapping[str, str]) -> str | None:
    """What secret a text holds, in words without the secret itself; None for none."""
    for name, value in secrets.items():
        if value in text:
            return f"the value of {name}"
    return "what looks like a token or password" if _SECRET_FORM.search(text) else None


def check_command(command: Iterable[str], environment: Mapping[str, str]) -> None:
    """Raises VariableError for a command with a secret in it: Ray shows and logs commands."""
    if found := secret_in(" ".join(command), secret_values(environment)):
        raise VariableError(
            f"a command must hold no secret, found {found}: the cluster's job API and its log "
            "files show every command; use --secret NAME=FILE"
        )


def _named(entry: str, environment: Mapping[str, str]) -> tuple[str, str]:
    name, has_value, value = entry.partition("=")
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise VariableError(f"--env must look like NAME or NAME=VALUE, found {name!r}")
    if not has_value and name not in environment:
        raise VariableError(
            f"--env {name} must be set here, found nothing; give --env {name}=VALUE"
        )
    return name, value if has_value else environment[name]


def _is_secret_name(name: str) -> bool:
    return bool(SECRET_NAME.search(name.upper())) and not _REFERENCE.search(name)


def _is_secret(name: str, value: str, secrets: Mapping[str, str]) -> bool:
    others = {k: v for k, v in secrets.items() if k != name}
    return _is_secret_name(name) or secret_in(value, others) is not None
