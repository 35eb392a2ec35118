"""What was written -> the device, and the settings that follow from it beneath what was written.

Invariant: a configuration that exists has a device, cpu or cuda, and every setting has its final
value, however it was made: from a file, from a dictionary or from sections. Reading what was dumped
gives the same again, since all of it is then written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, Self

from pydantic import model_validator

from t2g_ray.config.device.table import follows
from t2g_ray.config.section import Section
from t2g_ray.run.device.installed import Device, installed_device

GPU_KEYS = ("rollout.gpus", "learner.gpus", "teacher.gpus", "reasoner.gpus")


class DeviceConfig(Section):
    """A configuration that computes on one kind of device."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """What engines and learner compute on. auto: cuda where GPUs are asked for, cpu where gpus is
    set to 0, else what the installed packages are for. Other defaults follow from it: see the top
    of this page."""

    @model_validator(mode="before")
    @classmethod
    def _settle(cls, given: object) -> object:
        if not isinstance(given, Mapping):
            return given
        written = dict(_written(given))
        device = device_of(written)
        if device is None:
            return given
        tree = {**given, "device": device}
        for key, value in derived(cls, device, written).items():
            _put(tree, key.split("."), value)
        return tree

    @model_validator(mode="after")
    def _gpus_are_the_devices(self) -> Self:
        for key in GPU_KEYS:
            section = getattr(self, key.partition(".")[0], None)
            if section is None or getattr(section, "model", "") is None:
                continue
            # A teacher behind an endpoint needs none.
            if self.device == "cuda" and not (section.gpus or getattr(section, "base_url", None)):
                raise ValueError(
                    f"{key} must be above 0 with device=cuda, found 0; leave it out, or compute on "
                    "the CPU: set device=cpu and leave all gpus out"
                )
            if self.device == "cpu" and section.gpus:
                raise ValueError(
                    f"{key} must be 0 with device=cpu, found {section.gpus:g}; leave it out, or "
                    "set device=cuda"
                )
        return self


def device_of(written: Mapping[str, object]) -> Device | None:
    """The device that dotted keys ask for; None where `device` is none of its values."""
    asked = written.get("device", "auto")
    if asked == "cpu":
        return "cpu"
    if asked == "cuda":
        return "cuda"
    if asked != "auto":
        return None
    gpus = [written[key] for key in GPU_KEYS if isinstance(written.get(key), int | float)]
    if not gpus:
        return installed_device()
    return "cuda" if any(gpus) else "cpu"


def derived(
    kind: type[Section], device: Device, written: Mapping[str, object]
) -> dict[str, object]:
    """What follows from the device for a configuration of `kind`, without what was written."""
    return {
        key: value
        for key, value in all_that_follow(kind, device, written).items()
        if key not in written
    }


def all_that_follow(
    kind: type[Section], device: Device, written: Mapping[str, object]
) -> dict[str, object]:
    """What follows from the device for a configuration of `kind`, also where it was written."""
    fields = kind.model_fields
    given = follows(device, written, has_engines="rollout" in fields)
    return {key: value for key, value in given.items() if key.partition(".")[0] in fields}


def written_settings(tree: Mapping[str, object]) -> dict[str, object]:
    """Sections inside sections -> the dotted keys that were written."""
    return dict(_written(tree))


def _written(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in tree.items():
        inner = _as_written(value)
        if isinstance(inner, Mapping):
            yield from _written(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _as_written(value: object) -> object:
    """A section as the mapping of what was set in it."""
    if isinstance(value, Section):
        return {name: getattr(value, name) for name in value.model_fields_set}
    return value


def _put(tree: dict[str, Any], path: list[str], value: object) -> None:
    """Set one key; a section on the way that is no mapping is left for its own check."""
    head, *rest = path
    if not rest:
        tree[head] = value
        return
    inner = _as_written(tree.get(head, {}))
    if isinstance(inner, Mapping):
        tree[head] = dict(inner)
        _put(tree[head], rest, value)
