"""YAML and overrides -> one resolved configuration; each mistake is named with its remedy."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from t2g_ray.config import (
    ConfigError,
    GrpoConfig,
    SftConfig,
    build_config,
    check_set_once,
    dump_config,
    load_config,
)
from t2g_ray.data.generate.config import GenerateConfig

ROOT = Path(__file__).parents[3]


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def build(**tree: object) -> GrpoConfig:
    return build_config(GrpoConfig, {"run_dir": "runs/x", **tree})


@pytest.mark.parametrize(
    ("tree", "wrong", "nearest"),
    [
        ({"prompts_per_stp": 4}, "prompts_per_stp", "prompts_per_step"),
        ({"rollout": {"actor": 2}}, "rollout.actor", "rollout.actors"),
        (
            {"learner": {"optimizer": {"learning_rate": 1}}},
            "learner.optimizer.learning_rate",
            "learner.optimizer",
        ),
        ({"group_sise": 4}, "group_sise", "group_size"),
        # A key that stands in the wrong section.
        ({"zero_stage": 2}, "zero_stage", "learner.zero_stage"),
    ],
)
def test_an_unknown_key_is_an_error_that_names_the_nearest(
    tree: dict[str, object], wrong: str, nearest: str
) -> None:
    with pytest.raises(ConfigError, match=f"unknown key {wrong}: did you mean {nearest}"):
        build(**tree)


def test_a_key_like_no_other_is_named_without_a_guess() -> None:
    with pytest.raises(ConfigError, match="unknown key zzzzqqq: see the configuration reference"):
        build(zzzzqqq=1)


def test_every_problem_is_reported_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        build(steps=0, group_size=1, sead=3)
    lines = str(caught.value).splitlines()
    assert len(lines) == 4
    assert any("steps: Input should be greater than or equal to 1 (found 0)" in x for x in lines)
    assert any("group_size" in line and "(found 1)" in line for line in lines)
    assert any("unknown key sead: did you mean seed?" in line for line in lines)


def test_overrides_replace_values_at_any_depth(tmp_path: Path) -> None:
    path = write(tmp_path / "c.yaml", "run_dir: a\nsteps: 5\nlearner: {ranks: 2}\n")
    config = load_config(
        GrpoConfig,
        path,
        [
            "steps=7",
            "learner.optimizer.lr=1e-4",
            "rollout.actors=3",
            "run_dir=b",
            "model=some/name",
        ],
    )
    assert (config.steps, config.learner.ranks, config.rollout.actors) == (7, 2, 3)
    assert config.learner.optimizer.lr == 1e-4
    assert (config.run_dir, config.model) == (Path("b"), "some/name")


@pytest.mark.parametrize(
    "name",
    ["@home", "a #1", "a: b", "- a", "*a", "&a b", "!!int 5", "|", "%a", "a, b", "x=y", "`x`"],
)
def test_an_override_keeps_every_character(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "c.yaml", "run_dir: a\n")
    assert load_config(GrpoConfig, path, [f"model={name}"]).model == name


def test_a_mapping_does_not_undo_keys_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "c.yaml", "run_dir: a\nlearner: {ranks: 2, optimizer: {lr: 1}}\n")
    for given, lost in (("{ranks: 3}", "optimizer"), ("{ranks: 3, optimizer: {}}", "optimizer.lr")):
        with pytest.raises(ConfigError, match=f"as in learner.{lost}=VALUE"):
            load_config(GrpoConfig, path, [f"learner={given}"])
    whole = load_config(GrpoConfig, path, ["learner={ranks: 3, optimizer: {lr: 2}}"]).learner
    assert (whole.ranks, whole.optimizer.lr) == (3, 2.0)


@pytest.mark.parametrize(
    "keys",
    [
        ("steps", "steps"),
        ("learner", "learner.ranks"),
        ("learner.ranks", "learner"),
        ("a", "b", "a"),
    ],
)
def test_a_command_line_sets_a_key_once(keys: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="a key must be set once"):
        check_set_once([f"{key}=1" for key in keys])
    check_set_once(["steps=1", "stepsize=1", "learner.ranks=1", "learner.threads=1"])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", True),
        ("seed", "8"),
        ("seed", 1.0),
        ("seed", -1),
        ("seed", 2**32),
        ("learner.zero_stage", True),
        ("learner.zero_stage", 1.0),
        ("learner.optimizer.lr", True),
        ("learner.optimizer.lr", "1e-4"),
        ("learner.optimizer.lr", float("inf")),
        ("deadlines.train_s", float("nan")),
        ("learner.packing", 1),
        ("learner.packing", "yes"),
        ("learner.packing", "off"),
        ("model", None),
        ("model", 3),
        ("reward.weights", {"f1_entities": True}),
        ("reward.penalties", {"overlong": float("inf")}),
        ("run_dir", ""),
        ("run_dir", None),
        ("run_dir", 5),
    ],
)
def test_a_value_of_another_kind_is_refused_with_its_key(key: str, value: object) -> None:
    tree: object = value
    for part in reversed(key.split(".")):
        tree = {part: tree}
    assert isinstance(tree, dict)
    with pytest.raises(ConfigError, match=rf"^the configuration is not valid:\n  {key}"):
        build(**tree)


@pytest.mark.parametrize(
    "tree",
    [
        {"model": ["x" * 10**7]},
        {"steps": {str(number): [number] * 9 for number in range(10**5)}},
        {"x" * 10**6: 1},
        {str(number): number for number in range(10**4)},
        {"learner": {"optimizer": {"name": "x" * 10**6}}},
        {"reward": {"weights": {f"part{number}": 1.0 for number in range(10**4)}}},
        {"seed": 10**5000},
    ],
    ids=["list", "mapping", "key", "keys", "choice", "names", "number"],
)
def test_a_huge_value_is_not_echoed(tree: dict[str, object]) -> None:
    started_s = time.process_time()
    with pytest.raises(ConfigError) as caught:
        build(**tree)
    assert len(str(caught.value)) < 12_000
    assert time.process_time() - started_s < 5


def test_an_empty_override_means_the_value_is_not_given(tmp_path: Path) -> None:
    path = write(tmp_path / "c.yaml", "run_dir: a\ndata: {train_records: 5}\n")
    assert load_config(GrpoConfig, path, ["data.train_records="]).data.train_records is None


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("steps", "must look like key=value, found 'steps'"),
        ("=3", "must look like key=value"),
        ("steps.more=3", "steps must be a section, found the value 5"),
        ("model=[home", "model: it must be valid YAML: .*expected ',' or ']'"),
        ("stepz=3", "unknown key stepz: did you mean steps"),
    ],
)
def test_a_bad_override_is_named(tmp_path: Path, override: str, message: str) -> None:
    path = write(tmp_path / "c.yaml", "run_dir: a\nsteps: 5\n")
    with pytest.raises(ConfigError, match=message):
        load_config(GrpoConfig, path, [override])


@pytest.mark.parametrize(
    ("text", "message"),
    [("- 1\n", "must hold a mapping of keys, found list"), ("a: [1\n", "must be valid YAML")],
)
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(GrpoConfig, write(tmp_path / "c.yaml", text))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"found no file at .*none\.yaml"):
        load_config(GrpoConfig, tmp_path / "none.yaml")


@pytest.mark.parametrize("kind", [SftConfig, GrpoConfig])
def test_what_is_dumped_loads_to_the_same_object(tmp_path: Path, kind: Any) -> None:
    tree = {
        "run_dir": "runs/x",
        "seed": 3,
        "data": {"train": "a.jsonl", "heldout_records": 7},
        "learner": {"zero_stage": 3, "optimizer": {"lr": 3.0e-4, "schedule": "cosine"}},
    }
    config = build_config(kind, tree)
    again = load_config(kind, write(tmp_path / "c.yaml", dump_config(config)))
    assert again == config
    assert dump_config(again) == dump_config(config)


SHIPPED = sorted(set((ROOT / "configs").glob("*.yaml")) - {ROOT / "configs/kuberay.yaml"})
"""Without the description of a cluster, which is none of a run."""


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_every_shipped_configuration_is_valid(path: Path) -> None:
    tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    kind: Any = GrpoConfig if "prompts_per_step" in tree else SftConfig
    config = load_config(GenerateConfig if "teacher" in tree else kind, path)
    assert config.run_dir != Path()
