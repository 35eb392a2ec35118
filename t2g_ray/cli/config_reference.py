"""Configuration models -> docs/configuration.md, so that the page never lags behind the code."""

from __future__ import annotations

from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

from t2g_ray.config import GrpoConfig, SftConfig, build_config
from t2g_ray.config.device.told import shown
from t2g_ray.data.generate.config import GenerateConfig
from t2g_ray.run.resume.meaning import flat

HEAD = """# Configuration

A configuration is a YAML file; `key=value` on the command line overrides it, as in
`t2g grpo configs/demo_grpo.yaml learner.ranks=2`. An unknown key is an error that names the nearest
valid one. `t2g plan CONFIG` prints the sizes that follow from a configuration.

Numbers are plain decimals (`8`, `0.5`, `1e-6`) and below 2**63, truth values are `true` and
`false`. What versions of YAML read differently is refused: `010`, `1_000`, `1:30`, `yes`,
`2024-01-01`, merge keys, tags, and keys that stand twice; in quotes it is text. A value of another
kind than its key's is refused too: `true` is not 1, `"8"` is no number, `.inf` is none either.
Aliases are copied. `~/` at the beginning is the home folder. On the command line a value that does
not begin with `[`, `{` or a quote is taken with every character that it has; each key is set once,
and an empty value means "not given".

This page is written by `python -m t2g_ray.cli.config_reference`; a test keeps it equal to the code.

## Defaults that follow from the device

`device` is settled when a configuration is read: `cuda` where GPUs are asked for, `cpu` where
`gpus` is set to 0, else what the installed packages are for. What is written stands. The rest
follows from the device and from how GPUs are shared: where a machine has one GPU and nothing else
is written, in turns, or at the same time with staleness. `t2g plan CONFIG` prints what was derived.
On CPUs `rollout.pass_tokens` is 1024 with staleness, and `teacher.gpus` is 1 on `cuda` where vLLM
loads the teacher.

"""


def reference() -> str:
    """The whole page."""
    parts = [HEAD + _device_table()]
    stages = (
        ("t2g grpo", GrpoConfig),
        ("t2g sft", SftConfig),
        ("t2g data generate", GenerateConfig),
    )
    for title, model in stages:
        rows = "\n".join(_rows(model))
        parts.append(
            f"## `{title}`\n\n| key | values | default | meaning |\n|---|---|---|---|\n{rows}\n"
        )
    return "\n".join(parts)


def _device_table() -> str:
    """What each device gives to GRPO, by how an engine and a learner rank share a GPU."""
    columns = [
        ("cpu", "off"),
        *(("cuda", colocate) for colocate in ("off", "time", "share")),
    ]
    settled = [
        flat(
            build_config(
                GrpoConfig, {"run_dir": "x", "device": device, "colocate": colocate}
            ).model_dump(mode="json")
        )
        for device, colocate in columns
    ]
    lines = [
        "| key | `device: cpu` | `cuda`, `colocate: off` | `cuda`, `colocate: time` | "
        "`cuda`, `colocate: share` |",
        "|---|---|---|---|---|",
    ]
    for key in settled[0]:
        values = [tree[key] for tree in settled]
        if key not in ("device", "colocate") and any(value != values[0] for value in values):
            lines.append(
                f"| `{key}` | " + " | ".join(f"`{_shown(value)}`" for value in values) + " |"
            )
    return "\n".join(lines) + "\n"


def _rows(model: type[BaseModel], prefix: str = "") -> list[str]:
    rows: list[str] = []
    for name, field in model.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            rows += _rows(annotation, f"{prefix}{name}.")
            continue
        listed = [a for a in get_args(annotation) if isinstance(a, type)]
        if listed and issubclass(listed[0], BaseModel):
            rows += _rows(listed[0], f"{prefix}{name}[].")
            continue
        default = "required" if field.is_required() else f"`{_plain(field)}`"
        meaning = " ".join((field.description or "").split())
        rows.append(f"| `{prefix}{name}` | {_values(annotation)} | {default} | {meaning} |")
    return rows


def _plain(field: Any) -> str:
    return _shown(field.get_default(call_default_factory=True))


def _shown(value: object) -> str:
    return "none" if value is None else shown(value)


def _values(annotation: Any) -> str:
    arguments = get_args(annotation)
    if annotation is dict or getattr(annotation, "__origin__", None) is dict:
        return "mapping"
    if not arguments:
        return getattr(annotation, "__name__", str(annotation))
    if get_origin(arguments[0]) is Literal:
        return _values(arguments[0])
    if all(not isinstance(argument, type) for argument in arguments):
        return ", ".join(str(argument) for argument in arguments)
    names = [_values(a) for a in arguments if a is not type(None)]
    return (
        f"{annotation.__name__} of {', '.join(names)}" if annotation is dict else ", ".join(names)
    )


if __name__ == "__main__":
    print(reference(), end="")
