"""Two meanings of a run -> what is told, or a refusal by name."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2g_ray.config import GrpoConfig, SftConfig, build_config
from t2g_ray.run.resume.meaning import (
    MAY_CHANGE,
    RANKS,
    WHOLE,
    Meaning,
    ResumeError,
    changes,
    flat,
)

ROOT = Path(__file__).resolve().parents[4]
CONFIGS = {
    kind: flat(build_config(kind, {"run_dir": "run"}).model_dump(mode="json"))
    for kind in (GrpoConfig, SftConfig)
}
OWN = Meaning(
    stage="GRPO",
    settings=CONFIGS[GrpoConfig],
    contents={"training records": "10 records, digest a", "tokenizer": "5 tokens, digest b"},
    noted={"version": "1"},
)


def saved(meaning: Meaning = OWN) -> Any:
    return json.loads(json.dumps(meaning.state()))


def with_setting(key: str, value: object) -> Meaning:
    return replace(OWN, settings={**OWN.settings, key: value})


def is_free(key: str) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in MAY_CHANGE)


def test_an_equal_meaning_has_nothing_to_tell() -> None:
    assert changes(saved(), OWN, "here") == []


@pytest.mark.parametrize("key", sorted(CONFIGS[GrpoConfig]))
def test_every_setting_is_told_or_refused_by_name(key: str) -> None:
    changed = with_setting(key, "another")
    if is_free(key) or key == "learner.ranks":
        (line,) = changes(saved(), changed, "here")
        assert line == f"{key}: was {OWN.settings[key]}, is another"
    else:
        with pytest.raises(ResumeError, match=r"restore what it was, or give another run_dir") as e:
            changes(saved(), changed, "here")
        assert f"\n  {key}: was {OWN.settings[key]}, is another\n" in str(e.value)


@given(
    st.lists(st.sampled_from(sorted(CONFIGS[GrpoConfig])), min_size=1, unique=True),
    st.lists(st.sampled_from(sorted(OWN.contents)), unique=True),
)
def test_a_refusal_names_all_that_may_not_change_and_nothing_else(
    keys: list[str], contents: list[str]
) -> None:
    own = replace(
        OWN,
        settings={**OWN.settings, **dict.fromkeys(keys, "another")},
        contents={**OWN.contents, **dict.fromkeys(contents, "another")},
    )
    is_sharded = bool({*WHOLE} & {*keys})
    refused = {key for key in keys if not is_free(key) and (is_sharded or key != "learner.ranks")}
    refused |= set(contents)
    if not refused:
        assert len(changes(saved(), own, "here")) == len(keys)
        return
    with pytest.raises(ResumeError) as error:
        changes(saved(), own, "here")
    lines = str(error.value).split("\n")[1:-1]
    assert {line.strip().partition(": ")[0] for line in lines} == refused


def test_every_name_that_may_change_is_a_setting_of_a_stage() -> None:
    known = {key for config in CONFIGS.values() for key in config}
    for name in MAY_CHANGE:
        assert any(key == name or key.startswith(f"{name}.") for key in known), name


def test_the_page_on_resuming_lists_what_may_change_and_nothing_else() -> None:
    page = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
    part = page.partition("A resume is the same run or none.")[2].partition("Another version")[0]
    listed = set(re.findall(r"`([a-z_.]+)`", part.partition("takes effect:")[2]))
    assert listed == MAY_CHANGE | {RANKS, *WHOLE}


@pytest.mark.parametrize(
    "key",
    [
        *("seed", "group_size", "prompts_per_step", "max_staleness", "prompt.style", "data.order"),
        *("learner.lora.targets", "learner.lora.alpha", "learner.lora.rank", "learner.zero_stage"),
        *("learner.dtype", "learner.optimizer.name", "learner.optimizer.beta1"),
        *("learner.optimizer.beta2", "learner.optimizer.muon_momentum", "algorithm.objective"),
        *("sampling.temperature", "rollout.dtype", "reward.preset", "eval.max_new_tokens"),
    ],
)
def test_what_decides_the_result_may_not_change(key: str) -> None:
    assert key in CONFIGS[GrpoConfig]
    assert not is_free(key)


def test_ranks_change_only_where_each_holds_the_whole_state() -> None:
    more = with_setting("learner.ranks", 2)
    assert changes(saved(), more, "here") == ["learner.ranks: was 1, is 2"]
    for key, value in (("learner.zero_stage", 1), ("learner.dtype", "bfloat16")):
        sharded = {**OWN.settings, key: value}
        found = saved(replace(OWN, settings=sharded))
        with pytest.raises(ResumeError, match=r"learner\.ranks: was 1, is 2"):
            changes(found, replace(OWN, settings={**sharded, "learner.ranks": 2}), "here")


@pytest.mark.parametrize("was", ["there", "gone"])
def test_a_setting_that_only_one_side_knows_is_a_difference(was: str) -> None:
    longer = with_setting("algorithm.novelty", 1)
    found, own = (saved(longer), OWN) if was == "there" else (saved(), longer)
    with pytest.raises(ResumeError, match=r"algorithm\.novelty: was (1|nothing), is (1|nothing)"):
        changes(found, own, "here")


def test_true_is_no_one() -> None:
    with pytest.raises(ResumeError, match="group_size: was 1, is True"):
        changes(saved(with_setting("group_size", 1)), with_setting("group_size", True), "here")


def test_what_is_noted_is_told() -> None:
    assert changes(saved(), replace(OWN, noted={"version": "2"}), "h") == ["version: was 1, is 2"]


def test_a_checkpoint_of_the_other_stage_or_without_meaning_is_refused() -> None:
    with pytest.raises(ResumeError, match="here is of GRPO, found SFT"):
        changes(saved(), replace(OWN, stage="SFT"), "here")
    for found in (None, {}, [], {"stage": "GRPO"}):
        with pytest.raises(ResumeError, match="an earlier version wrote it"):
            changes(found, OWN, "here")


def test_sections_become_dotted_keys() -> None:
    assert flat({"a": {"b": {"c": 1}, "d": []}, "e": {}}) == {"a.b.c": 1, "a.d": [], "e": {}}
