"""A git checkout -> the files that travel with a job: tracked ones, as the working tree has them.

Invariant: no file from outside the checkout travels, and none that is named as a secret or holds
one that is set here.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

MIB = 1024 * 1024
MAX_MIB = 50.0
"""Ray refuses packages above 100 MiB with an error that does not name the limit."""

_SECRET_FILE = re.compile(
    r"\.env(\..+)?|.+\.env|\.netrc|_netrc|\.pgpass|\.pypirc|\.npmrc|\.git-credentials|credentials(\..+)?"
    r"|id_(rsa|dsa|ecdsa|ed25519)|.+\.(pem|key|p12|pfx|jks|keystore|ppk)|secrets?(\..+)?|.*service.?account.*\.json"
    r"|kubeconfig(\..+)?|\.dockercfg|\.dockerconfigjson"
)
_EXAMPLE = re.compile(r".*[._-](example|sample|template|dist)(\..+)?|.+\.pub")
"""Files that show the form of a secret."""
_SOURCE = re.compile(r".+\.(py|pyi|md)")
"""`secrets.py` is code about secrets; what it holds is searched all the same."""


class CheckoutError(ValueError):
    """The files of a checkout cannot travel as they are."""


def copy_files(checkout: Path, files: Sequence[str], folder: Path) -> None:
    """Put a copy of each file below `folder`; a link becomes the file that it leads to.

    Without `.gitignore`: Ray leaves out what such a file names, which git may track all the same.
    """
    for name in files:
        if Path(name).name == ".gitignore":
            continue
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(checkout / name, target)


def tracked_files(checkout: Path) -> list[str]:
    """Paths that git tracks and that exist, relative to `checkout`."""
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=checkout, capture_output=True, text=True, check=False
    )
    if listing.returncode:
        raise CheckoutError(
            f"the folder to submit must be a git checkout, found {checkout}: "
            f"{listing.stderr.strip()}"
        )
    return [name for name in listing.stdout.split("\0") if name and (checkout / name).is_file()]


def check_files(checkout: Path, files: Sequence[str], secrets: Mapping[str, str]) -> None:
    """Raises CheckoutError for links that lead out of the checkout, and for files with secrets.

    A link inside the checkout travels as the file that it leads to, which git tracks or not.
    `secrets`: name -> value of what is set here and must stand in no file that travels.
    """
    root, tracked = checkout.resolve(), set(files)
    for name in files:
        target = (checkout / name).resolve()
        inside = target.relative_to(root) if target.is_relative_to(root) else None
        if inside is None or inside.parts[:1] == (".git",):
            raise CheckoutError(
                f"tracked files must lie in the checkout, found the link {name} to {target}; "
                "remove it from git, or copy the file into the checkout"
            )
        if inside.as_posix() not in tracked:
            raise CheckoutError(
                f"only tracked files travel, found the link {name} to {inside}, which git does "
                "not track; track it too, or remove the link from git"
            )
        if any(_is_secret(part) for part in (Path(name).name, inside.name)):
            raise CheckoutError(
                f"a tracked file must hold no secret, found {name}, and everyone who reaches the "
                "cluster's job API could read it; run `git rm --cached` on it and put it on the "
                "nodes, or name it .example if it holds none"
            )
        if found := _value_in(target, secrets):
            raise CheckoutError(
                f"a tracked file must hold no secret, found the value of {found} in {name}; "
                "everyone who reaches the cluster's job API could read it. Take it out, and out "
                "of git's history"
            )


def check_size(checkout: Path, files: Sequence[str]) -> int:
    """Bytes of all files; raises CheckoutError above MAX_MIB, naming the largest."""
    sizes = {name: (checkout / name).stat().st_size for name in files}
    total = sum(sizes.values())
    if total > MAX_MIB * MIB:
        largest = sorted(sizes, key=lambda name: -sizes[name])[:5]
        listing = ", ".join(f"{name} ({sizes[name] / MIB:.1f} MiB)" for name in largest)
        raise CheckoutError(
            f"the tracked files must take at most {MAX_MIB:g} MiB, found {total / MIB:.1f} MiB; "
            f"the largest: {listing}. Move them to storage that the cluster can read"
        )
    return total


def _is_secret(name: str) -> bool:
    name = name.lower()
    if _EXAMPLE.fullmatch(name) or _SOURCE.fullmatch(name):
        return False
    return bool(_SECRET_FILE.fullmatch(name))


def _value_in(file: Path, secrets: Mapping[str, str]) -> str | None:
    """Name of the secret whose value stands in a file."""
    content = file.read_bytes() if secrets else b""
    return next((k for k, value in secrets.items() if value.encode() in content), None)
