"""The check that every undocumented name of vLLM that is used here exists.

Releases may move or rename these without notice. So each is listed in `table` with the version
that it was read in, `check_private_parts` looks for it when an engine or a worker starts, and no
other package uses one of them.

Invariant: what passed the check has every listed name, before a model is loaded or a weight sent.
"""

from __future__ import annotations

import dis
import importlib
import inspect
from collections.abc import Iterator
from types import ModuleType

from t2g_ray.vllm_private.table import PRIVATE_PARTS, PrivatePart, Side


class PrivatePartsMissing(RuntimeError):
    """The installed vLLM lacks internals that this project needs."""


def check_private_parts(side: Side) -> None:
    """Raises PrivatePartsMissing that names all parts of this side that the vLLM here lacks."""
    wanted = [part for part in PRIVATE_PARTS if part.side == side]
    missing = [part for part in wanted if not _is_there(part)]
    if not missing:
        return
    import vllm

    described = "; ".join(f"{part} ({part.use}; read in {part.read_in})" for part in missing)
    raise PrivatePartsMissing(
        f"vLLM must have all {len(wanted)} undocumented attributes that its {side} is used by, "
        f"found version {vllm.__version__} without {described}; install the version that "
        "pyproject.toml pins, or mend t2g_ray/vllm_private"
    )


def _is_there(part: PrivatePart) -> bool:
    module_name, _, class_name = part.owner.partition(":")
    try:
        module = importlib.import_module(module_name)
        owner: ModuleType | type = getattr(module, class_name) if class_name else module
    except (ImportError, AttributeError):
        return False
    # Attributes of instances must be found before there are any instances.
    return hasattr(owner, part.name) or (
        isinstance(owner, type) and any(part.name in _sets(base) for base in owner.__mro__)
    )


def _sets(owner: type) -> Iterator[str]:
    """Attributes that a class declares or its own `__init__` sets on something."""
    yield from inspect.get_annotations(owner)
    init = inspect.unwrap(vars(owner).get("__init__", object.__init__))
    if inspect.isfunction(init):
        for instruction in dis.get_instructions(init):
            if instruction.opname == "STORE_ATTR":
                yield str(instruction.argval)
