"""Configurations and machines -> the tables of docs/planning.md.

python -m t2g_ray.cli.machine.plan_page                   print them
python -m t2g_ray.cli.machine.plan_page docs/planning.md  write them into the page
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from t2g_ray.cli.machine.plan_table import room_line
from t2g_ray.cli.machine.speed_table import speed_lines
from t2g_ray.config import GrpoConfig, load_config
from t2g_ray.planning.alike import Alike, alike
from t2g_ray.planning.cluster import read_nodes
from t2g_ray.planning.memory.held import GIB
from t2g_ray.planning.parts import Speed
from t2g_ray.planning.plan import Plan
from t2g_ray.planning.timing import Told, with_time
from t2g_ray.report.plots.time_bars import SIDES

ROOT = Path(__file__).resolve().parents[3]
SECTION = "t2g_ray.cli.machine.plan_page"


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One table. `nodes` is empty where the configuration names its machines."""

    title: str
    config: str
    overrides: tuple[str, ...] = ()
    nodes: str = ""

    @property
    def command(self) -> str:
        """What prints the same plan in full."""
        nodes = f' --nodes "{self.nodes}"' if self.nodes else ""
        return " ".join(["t2g plan", self.config, *self.overrides]) + nodes

    def plan(self) -> Plan:
        """With its time. Raises ValueError where the machines or the model are not known."""
        from actors.plan import plan_run

        config = load_config(GrpoConfig, ROOT / self.config, self.overrides)
        plan = plan_run(config, read_nodes(self.nodes or config.cluster or "", self.title))
        if plan is None:
            raise ValueError(f"{self.title} must have a model with known sizes")
        return with_time(config, plan, Told())


EXAMPLES = (
    Example(title="Qwen2.5-0.5B on one L4 (gpu_1x)", config="configs/gpu_1x.yaml"),
    Example(title="Qwen2.5-1.5B on cluster.yaml (cluster_8x)", config="configs/cluster_8x.yaml"),
    Example(
        title="Qwen2.5-7B on 4 x 80 GB, learner and engine in turns",
        config="configs/cluster_8x.yaml",
        overrides=(
            "model=Qwen/Qwen2.5-7B-Instruct",
            "learner.ranks=4",
            "learner.zero_stage=3",
            "rollout.actors=4",
            "colocate=time",
            "max_staleness=0",
        ),
        nodes="1 x 4 x H100 with 64 cpus and 768 GiB",
    ),
    Example(
        title="Qwen2.5-7B on 4 x 80 GB, three GPUs for the learner and one for an engine",
        config="configs/cluster_8x.yaml",
        overrides=(
            "model=Qwen/Qwen2.5-7B-Instruct",
            "learner.ranks=3",
            "learner.zero_stage=3",
            "learner.token_budget=8192",
            "rollout.actors=1",
        ),
        nodes="1 x 4 x H100 with 64 cpus and 768 GiB",
    ),
    Example(
        title="Qwen2.5-32B on 16 x 80 GB, two engines of two GPUs",
        config="configs/cluster_8x.yaml",
        overrides=(
            "model=Qwen/Qwen2.5-32B-Instruct",
            "learner.ranks=12",
            "learner.zero_stage=3",
            "learner.token_budget=16384",
            "rollout.actors=2",
            "rollout.tensor_parallel=2",
        ),
        nodes="2 x p5.48xlarge",
    ),
    Example(
        title="Qwen2.5-32B on 16 x 80 GB, a node for each side",
        config="configs/cluster_8x.yaml",
        overrides=(
            "model=Qwen/Qwen2.5-32B-Instruct",
            "learner.ranks=8",
            "learner.zero_stage=3",
            "learner.token_budget=8192",
            "learner.offload=optimizer",
            "rollout.actors=4",
            "rollout.tensor_parallel=2",
        ),
        nodes="2 x p5.48xlarge",
    ),
)


def section(example: Example) -> str:
    """Heading, command, table, and what follows."""
    plan = example.plan()
    lines = [
        f"### {example.title}",
        "",
        f"    {example.command}",
        "",
        "| where | GiB in use | of | parts |",
        "|---|---|---|---|",
        *(_row(group) for group in alike(plan.memory.places)),
    ]
    told = [] if plan.memory.room is None else [room_line(plan)]
    told += [] if plan.speed is None else [_times(plan.speed), *speed_lines(plan.speed)]
    lines += ["", *(f"* {line}" for line in told)]
    return "\n".join(lines)


def _row(group: Alike) -> str:
    place = group.first
    capacity = "not known" if place.capacity is None else f"{place.capacity / GIB:,.1f}"
    parts = ", ".join(_parts(group))
    return f"| {group.title} | {place.used / GIB:,.1f} | {capacity} | {parts} |"


def _parts(group: Alike) -> Iterator[str]:
    """Parts of a tenth of a GiB and more, the largest first."""
    for name, size in sorted(group.sums.items(), key=lambda item: -item[1]):
        if size >= GIB / 10:
            yield f"{name} {size / GIB:,.1f}"


def _times(speed: Speed) -> str:
    """Seconds of every part, side by side, those of a hundredth of a second and more."""
    sides = (
        (words, [part for part in speed.parts if part.side == side and part.seconds >= 0.01])
        for side, words in SIDES.items()
    )
    told = (
        f"{words}: " + ", ".join(f"{part.name} {part.seconds:.2g} ({part.bound})" for part in parts)
        for words, parts in sides
        if parts
    )
    return f"seconds of {'; of '.join(told)}"


def page() -> str:
    """All tables."""
    return "\n\n".join(map(section, EXAMPLES))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print or write."""
    from benchmarks.result import write_section

    found = sys.argv[1:] if arguments is None else arguments
    if found:
        write_section(Path(found[0]), SECTION, page())
    else:
        print(page())


if __name__ == "__main__":
    main()
