"""What several tests of commands use alike."""

from collections.abc import Callable
from typing import Any

from typer.testing import CliRunner, Result

from t2g_ray.cli.main import app
from t2g_ray.config import GrpoConfig, SftConfig
from t2g_ray.graph import Entity, Graph
from t2g_ray.run.folder import RunDir, write_json
from t2g_ray.types import Record

FIGURES = {"f1/entities": 0.5, "f1/relations": 0.25, "json_valid_rate": 1.0}

Launch = Callable[[Any], RunDir]


def t2g(*arguments: object, **options: Any) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], **options)


def plain(text: str) -> str:
    """Without the line breaks and frames of a narrow terminal."""
    return " ".join(text.replace("\u2502", " ").split())


def finished_sft(config: SftConfig) -> RunDir:
    run = RunDir(config.run_dir)
    run.model.mkdir(parents=True)
    (run.model / "config.json").write_text("{}")
    return run


def finished_grpo(config: GrpoConfig) -> RunDir:
    run = RunDir(config.run_dir)
    run.model.mkdir(parents=True)
    (run.model / "config.json").write_text("{}")
    after = {**FIGURES, "f1/entities": 0.75}
    pair = {"before": FIGURES, "after": after, "interval": {"f1/entities": [0.1, 0.4]}}
    report = {**pair, "heldout_names": pair, "records": 12, "seed": config.seed, "steps": 3}
    write_json(run.report_json, {**report, "wall_s": 1.0, "machine": {"cpus": 2}})
    return run


RECORD = Record(
    text="Ann works.",
    entity_types=("person",),
    relation_types=(),
    graph=Graph((Entity(0, "Ann", "person"),), ()),
)
