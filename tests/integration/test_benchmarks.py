"""Every benchmark runs whole in a tiny size and yields the rows that readers rely on.

Inputs come from `policy`, `workload` and `random_model`; `compare` is both sides of
`peers`, of which `trl_side` runs TRL. The peak of a learner is `measured` by its rank, and the
actors of `scale` are a `fleet`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.commands import bench_app
from benchmarks.quality import ablations
from t2g_ray.cli.main import app
from t2g_ray.config import PromptConfig
from t2g_ray.prompts.settings import write_prompt_settings
from t2g_ray.run.folder import RunDir
from t2g_ray.run.jsonlines import read_json_lines

SMALL = (
    "prompts_per_step=2",
    "group_size=2",
    "sampling.max_new_tokens=8",
    "data.train_records=16",
    "rollout.actors=1",
    "learner.ranks=1",
)
LONGER = (
    *(one for one in SMALL if not one.startswith("sampling.")),
    "sampling.max_new_tokens=48",
)


def measure(
    folder: Path, bench: str, *options: str, small: Sequence[str] = SMALL
) -> dict[str, float]:
    """Medians by metric, from the file that the command writes."""
    path = folder / f"{bench}.json"
    arguments = [bench, *small, "--runs", "1", "--json", str(path), *options]
    outcome = CliRunner().invoke(bench_app, arguments, catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.output
    content = json.loads(path.read_text())
    assert content["bench"] == bench
    assert all(row["runs"] == 1 for row in content["rows"])
    return {row["metric"]: row["median"] for row in content["rows"]}


def with_model(folder: Path, model: Path) -> Sequence[str]:
    return ("--model", str(model), "--cache", str(folder))


def assert_positive(rows: dict[str, float], metrics: Iterable[str]) -> None:
    assert {metric: rows[metric] > 0 for metric in metrics} == dict.fromkeys(metrics, True)


def test_rewards(tmp_path: Path) -> None:
    rows = measure(tmp_path, "rewards", "--steps", "0")
    assert_positive(rows, ["completions_per_s_per_core", "ms_per_step"])
    assert 90 <= rows["completion_tokens"] <= 130


def test_scale(tmp_path: Path) -> None:
    rows = measure(tmp_path, "scale", "--sizes", "1,2", "--group-s", "0.1", "--rounds", "3")
    assert_positive(rows, ["driver_ms_per_group", "groups_per_s/1", "groups_per_s/2"])
    # An engine that sleeps cannot be faster than it is.
    assert 0 < rows["efficiency_2"] <= 1.05


def test_actors_that_share_a_process_are_as_fast_as_with_one_each(tmp_path: Path) -> None:
    options = ("--sizes", "6", "--hosts", "2", "--group-s", "0.3", "--prompts", "2")
    rows = measure(tmp_path, "scale", *options, "--rounds", "2")
    assert 0.5 < rows["efficiency_6"] <= 1.05
    # A call for each actor and step, and at most one for each group that is scored.
    assert 0.5 < rows["calls_per_group/6"] <= 1.5
    assert_positive(rows, ["driver_ms_per_group", "spans_ms_per_actor/6", "sync_ms_per_actor/6"])


def test_sync(tmp_path: Path) -> None:
    rows = measure(tmp_path, "sync", "--sizes", "demo", "sync.bucket_mib=0.25")
    parts = ("pack", "put", "get", "digest", "load", "pack_kernels", "verify")
    assert_positive(rows, ["gb_per_s", "demo_policy_ms", *(f"{part}_ms/demo" for part in parts)])
    assert 0 <= rows["driver_peak_growth_mib"] < 64
    # One call to the learner, one to the sampler, and each bucket once put and once fetched:
    # 0.9 MB in buckets of 0.25 MiB are 4 or 5, for some 40 tensors.
    assert 2 + 2 * 3 <= rows["messages"] <= 2 + 2 * 6


def test_learner(tmp_path: Path, tied_model: Path) -> None:
    rows = measure(
        tmp_path, "learner", "--varlen", "--steps", "1", *with_model(tmp_path, tied_model)
    )
    for layout in ("joined", "packed", "varlen"):
        assert_positive(rows, [f"tokens_per_s/{layout}", f"mfu/{layout}"])
        assert 0 <= rows[f"attention_padding_share/{layout}"] < 1
    assert 0 < rows["padding_share/joined"] < 1
    assert rows["computed_share/packed"] < rows["computed_share/joined"] < 1
    assert rows["computed_share/varlen"] == rows["computed_share/packed"]
    assert rows["attention_padding_share/varlen"] == 0.0
    assert_positive(rows, ["packed_over_joined", "varlen_over_packed", "matmul_peak"])


def test_rollout(tmp_path: Path, tied_model: Path) -> None:
    rows = measure(tmp_path, "rollout", "--calls", "1", *with_model(tmp_path, tied_model))
    engines = ("actor", "vllm", "guesses")
    assert_positive(rows, [f"generated_tokens_per_s/{name}" for name in engines])
    assert_positive(rows, ["actor_over_vllm", "guesses_over_vllm"])


def test_loop(tmp_path: Path, wavering_model: Path) -> None:
    rows = measure(
        tmp_path,
        "loop",
        *("--steps", "2", "--staleness", "1", "--f1-steps", "0", "--no-fixed"),
        *with_model(tmp_path, wavering_model),
        # Its rewards differ in their json part alone; large steps leave stale weights far behind.
        small=(*LONGER, "reward.preset=default", "algorithm.stale_parity_tolerance=2"),
    )
    for mode in ("sync", "async_1"):
        assert_positive(rows, [f"wall_s_per_step/{mode}", f"step_over_max/{mode}"])
        assert 0 <= rows[f"learner_idle/{mode}"] <= 1
        assert 0 <= rows[f"samplers_idle/{mode}"] <= 1
    assert rows["staleness/sync"] == 0
    assert rows["staleness/async_1"] <= 1
    assert_positive(rows, ["wall_over_sync/async_1"])


def test_sweep(tmp_path: Path, wavering_model: Path) -> None:
    folder = tmp_path / "sweep"
    rows = measure(
        tmp_path,
        "sweep",
        *("--rollouts", "1,2", "--steps", "2", f"run_dir={folder}", "max_staleness=1"),
        *with_model(tmp_path, wavering_model),
        small=(*LONGER, "reward.preset=default"),
    )
    for number in (1, 2):
        assert_positive(rows, [f"tokens_per_s/{number}", f"tokens_per_s_per_device/{number}"])
        assert 0 <= rows[f"rollout_wait_s/{number}"] <= rows[f"wall_s_per_step/{number}"]
        assert rows[f"staleness/{number}"] <= 1
    assert rows["efficiency/1"] == 1
    assert rows["pays_up_to"] in (1, 2)
    assert json.loads((folder / "sweep.json").read_text())["bench"] == "sweep"
    assert "Rollout actors pay up to" in (folder / "sweep.html").read_text()
    run = RunDir(folder / "rollouts_1_2")
    lines = list(read_json_lines(run.metrics))
    assert sorted({line["rollout/actors"] for line in lines}) == [1, 2]
    assert not run.checkpoints.exists()


@pytest.mark.long
def test_serve(tmp_path: Path, tied_model: Path) -> None:
    model = shutil.copytree(tied_model, tmp_path / "model")
    write_prompt_settings(model, PromptConfig(style="compact"), 64)
    rows = measure(
        tmp_path, "serve", "--clients", "2", "--requests", "2", "--model", str(model), small=()
    )
    both = ["requests_per_s/server", "requests_per_s/vllm", "server_over_vllm"]
    assert_positive(rows, [*both, "latency_ms/p50"])
    assert rows["latency_ms/p50"] <= rows["latency_ms/p99"]


@pytest.mark.long
def test_ablations(tmp_path: Path, wavering_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_here(*arguments: str) -> None:
        """The command without a process of its own, which would load everything once more."""
        outcome = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert outcome.exit_code == 0, outcome.output

    monkeypatch.setattr(ablations, "run_t2g", run_here)
    model = tmp_path / "seeds" / "seed_0" / "sft" / "model"
    shutil.copytree(wavering_model, model)
    write_prompt_settings(model, PromptConfig(style="compact"), 64)
    table = tmp_path / "ablations.md"
    ablations.main(
        [
            *("--seeds", "0", "--steps", "1", "--records", "4", "--variants", "default"),
            *("--policies", str(tmp_path / "seeds"), "--out", str(tmp_path / "out")),
            *("--table", str(table), "--published", str(tmp_path / "ablations.json")),
            *("--set", *LONGER),
        ]
    )
    result = json.loads((tmp_path / "out" / "seed_0" / "default.json").read_text())
    assert len(result["by_record"]) == 4
    assert 0 <= result["f1/entities"] <= 1
    assert result["wall_s"] > 0
    assert "| default |" in table.read_text()


@pytest.mark.long
def test_peers(tmp_path: Path, wavering_model: Path) -> None:
    pytest.importorskip("trl", reason="TRL is installed for this comparison only")
    # Without a group that has signal there is nothing trained to compare.
    small = (
        *("prompts_per_step=4", "group_size=8", "data.train_records=64"),
        *("sampling.max_new_tokens=48", "rollout.actors=1", "learner.ranks=1"),
        *("reward.level=record", "reward.preset=default"),
    )
    options = ("--steps", "2", "--staleness", "0", *with_model(tmp_path, wavering_model))
    rows = measure(tmp_path, "peers", *options, small=small)
    assert_positive(rows, ["completions_per_s/trl", "completions_per_s/sync", "ratio_vs_trl"])
    assert rows["ratio_vs_trl"] == rows["ratio_vs_trl/sync"]
    assert rows["trained_ratio_vs_trl"] == rows["trained_ratio_vs_trl/sync"]
    for side in ("trl", "sync"):
        assert 0 < rows[f"tokens_per_completion/{side}"] <= 48
        consumed, trained = (rows[f"{key}completions_per_s/{side}"] for key in ("", "trained_"))
        assert trained == pytest.approx(consumed * (1 - rows[f"no_signal_share/{side}"]))
