"""YAML and overrides -> one resolved configuration; each mistake is named with its remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from t2g_ray.config import (
    ConfigError,
    GrpoConfig,
    SftConfig,
    build_config,
    dump_config,
    load_config,
)
from t2g_ray.config.rewards import CustomReward, Shaping
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


def test_an_empty_override_means_the_value_is_not_given(tmp_path: Path) -> None:
    path = write(tmp_path / "c.yaml", "run_dir: a\ndata: {train_records: 5}\n")
    assert load_config(GrpoConfig, path, ["data.train_records="]).data.train_records is None


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("steps", "must look like key=value, found 'steps'"),
        ("=3", "must look like key=value"),
        ("steps.more=3", "steps must be a section, found the value 5"),
        ("model=@home", "model: the value must be valid YAML, found '@home'"),
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


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_shipped_configuration_is_valid(path: Path) -> None:
    tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    kind: Any = GrpoConfig if "prompts_per_step" in tree else SftConfig
    config = load_config(GenerateConfig if "teacher" in tree else kind, path)
    assert config.run_dir != Path()


def test_muon_needs_whole_matrices() -> None:
    muon = {"name": "muon"}
    assert build(learner={"optimizer": muon}).learner.optimizer.name == "muon"
    with pytest.raises(ConfigError, match=r"muon needs whole matrices.*found 2 and 0"):
        build(learner={"optimizer": muon, "zero_stage": 2})


def test_over_sampling_is_for_synchronous_runs() -> None:
    assert build(prompts_per_step=10, sampling={"over_sample": 1.1}).prompts_begun == 11
    assert build(prompts_per_step=3, sampling={"over_sample": 1.5}).prompts_begun == 5
    with pytest.raises(ConfigError, match=r"needs max_staleness 0, found 1\.5 and 2"):
        build(max_staleness=2, sampling={"over_sample": 1.5})


def test_tensor_parallelism_must_fit_the_gpus_of_an_actor() -> None:
    assert build(rollout={"gpus": 2, "tensor_parallel": 2}).rollout.tensor_parallel == 2
    with pytest.raises(ConfigError, match=r"at most rollout\.gpus, got 4 and 2"):
        build(rollout={"gpus": 2, "tensor_parallel": 4})


def test_guesses_are_made_on_cpus_only() -> None:
    assert build().rollout.num_guessed == 24
    assert build(rollout={"draft_tokens": 0}).rollout.num_guessed == 0
    assert build(rollout={"gpus": 1}).rollout.num_guessed == 0
    with pytest.raises(ConfigError, match=r"draft_tokens must be 0 or left out where"):
        build(rollout={"gpus": 1, "draft_tokens": 8})
    own = {"speculative_config": {"method": "ngram", "num_speculative_tokens": 4}}
    assert build(rollout={"gpus": 1, "engine": own}).rollout.engine == own
    with pytest.raises(ConfigError, match=r"speculative_config on CPUs"):
        build(rollout={"engine": own})


@pytest.mark.parametrize(
    ("tree", "tolerance"),
    [
        ({}, 1e-5),
        ({"rollout": {"dtype": "bfloat16"}}, 0.05),
        ({"learner": {"dtype": "bfloat16"}}, 0.05),
        ({"algorithm": {"parity_tolerance": 0.3}}, 0.3),
    ],
)
def test_the_parity_tolerance_follows_the_precisions(
    tree: dict[str, object], tolerance: float
) -> None:
    assert build(**tree).parity_tolerance == tolerance


def test_the_data_have_a_seed_of_their_own_or_the_runs() -> None:
    assert build(seed=4).data_seed == 4
    assert build(seed=4, data={"seed": 0}).data_seed == 0


def test_a_configuration_cannot_be_changed_after_it_was_checked() -> None:
    with pytest.raises(ValueError, match="frozen"):
        build().steps = 3


def test_the_reward_is_the_preset_with_penalties_and_shaping() -> None:
    config = build(
        reward={"preset": "f1", "penalties": {"overlong": 0.5}, "beta": 0.5, "power": 2.0},
        sampling={"max_new_tokens": 64},
    )
    spec = config.reward_spec
    assert spec.weights == {"f1_entities": 1.0, "f1_relations": 1.0, "overlong": 0.5}
    assert spec.shaping == Shaping(beta=0.5, power=2.0, max_new_tokens=64, overlong_share=0.2)
    assert build(reward={"weights": {"json": 2.0}}).reward_spec.weights == {"json": 2.0}


def test_a_custom_reward_is_named_after_its_function() -> None:
    reward = {"weights": {}, "custom": [{"path": "my.module:Judge.score", "weight": 2}]}
    spec = build(reward=reward).reward_spec
    assert spec.weights == {}
    assert spec.custom == (
        CustomReward(path="my.module:Judge.score", name="score", weight=2.0, deadline_s=10.0),
    )


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        ({"weights": {}}, "a reward needs at least one part"),
        ({"custom": [{"path": "my_module.reward"}]}, "reward.custom.0.path: String should match"),
        ({"custom": [{"path": "m:json"}]}, "a name of its own, found 'json' for m:json"),
        ({"custom": [{"path": "m:mean"}]}, "a name of its own, found 'mean'"),
        ({"custom": [{"path": "m:f"}, {"path": "n:f"}]}, "a name of its own, found 'f' for n:f"),
        ({"custom": [{"path": "m:f", "weigth": 1}]}, "unknown key reward.custom.0.weigth"),
        ({"preset": "best"}, "unknown reward preset 'best'; use one of"),
        ({"weights": {"f1_entites": 1.0}}, "unknown reward part 'f1_entites'; use"),
        ({"weights": {"json": -1.0}}, "the weight of json must be finite and above 0, found -1.0"),
        ({"penalties": {"overlong": 0.0}}, "the weight of overlong must be finite and above 0"),
        ({"penalties": {"json": 1.0}}, "penalties must be among .* found \\['json'\\]"),
        ({"power": 0.0}, "reward.power"),
    ],
)
def test_a_reward_that_cannot_be_is_refused_at_load(
    reward: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        build(reward=reward)
