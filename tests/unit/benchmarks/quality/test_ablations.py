"""Ablations without a run: what is run again, what is refused, and the table by hand."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from benchmarks.quality import ablations
from benchmarks.quality.ablation_table import section
from benchmarks.quality.ablations import AblationSettings, main, run_variant
from benchmarks.quality.variants import DEFAULT, SFT, VARIANTS
from t2g_ray.config import GrpoConfig, load_config

FOUND, MISSED = [1, 0, 0, 1, 0, 0], [0, 0, 1, 0, 0, 1]
WALL_S = 30.0


class Product:
    """Stands for the command line: writes the files that the commands would leave."""

    def __init__(self) -> None:
        self.commands: list[tuple[str, ...]] = []
        self.failing = ""

    def __call__(self, *arguments: str) -> None:
        self.commands.append(arguments)
        if self.failing and any(self.failing in argument for argument in arguments):
            raise subprocess.CalledProcessError(1, arguments)
        if arguments[0] == "eval":
            self._evaluate(dict(zip(arguments[1::2], arguments[2::2], strict=True)))
        else:
            run_dir = Path(next(a for a in arguments if a.startswith("run_dir="))[8:])
            write_run(run_dir, wall_s=WALL_S)
            if arguments[0] == "grpo":
                write_evals(run_dir)

    def _evaluate(self, options: dict[str, str]) -> None:
        figures = {"f1/entities": 0.5, "f1/relations": 0.25, "json_valid_rate": 1.0}
        Path(options["--json"]).write_text(json.dumps(figures))
        line = {"entities": FOUND[:3], "relations": FOUND[3:]}
        Path(options["--per-record"]).write_text(json.dumps(line) + "\n")


def write_run(folder: Path, *, wall_s: float) -> None:
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "config.json").write_text("{}")
    (folder / "model" / "model.safetensors").write_bytes(b"weights")
    lines = [{"step": 1, "time_s": 0.0}, {"step": 61, "time_s": wall_s}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_evals(folder: Path) -> None:
    """Before and after, each on the held-out records and on those with unseen names."""
    lines = [
        {
            "split": split,
            "f1/entities": 0.5,
            "f1/relations": f1,
            "json_valid_rate": 1.0,
            "by_record": [row],
        }
        for f1, row in ((0.0, MISSED), (0.25, FOUND))
        for split in ("heldout", "heldout_names")
    ]
    (folder / "evals.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture
def product(monkeypatch: pytest.MonkeyPatch) -> Product:
    fake = Product()
    monkeypatch.setattr(ablations, "run_t2g", fake)
    return fake


@pytest.fixture
def settings(tmp_path: Path) -> AblationSettings:
    write_run(tmp_path / "seeds" / "seed_3" / "sft", wall_s=60.0)
    return AblationSettings(out=tmp_path / "out", policies=tmp_path / "seeds", steps=9, records=5)


def test_every_variant_is_a_valid_configuration_of_the_same_completions_a_step() -> None:
    for name, changes in VARIANTS.items():
        config = load_config(GrpoConfig, ablations.DEMO_GRPO, changes)
        assert config.prompts_per_step * config.group_size == 256, name


def test_a_variant_trains_from_the_policy_of_its_seed_and_counts_what_its_run_found_last(
    product: Product, settings: AblationSettings
) -> None:
    result = run_variant(settings, 3, "async_1")
    (train,) = product.commands
    policy = settings.policies / "seed_3" / "sft" / "model"
    assert train[0] == "grpo"
    assert {f"model={policy}", "seed=3", "steps=9", "max_staleness=1"} <= set(train)
    assert "data.heldout_records=5" in train
    assert (result["wall_s"], result["by_record"]) == (WALL_S, [FOUND])


def test_the_policy_before_counts_as_a_variant_without_a_run_of_its_own(
    product: Product, settings: AblationSettings
) -> None:
    result = run_variant(settings, 3, "sft")
    assert (result["wall_s"], result["by_record"]) == (0.0, [MISSED])
    run_variant(settings, 3, DEFAULT)
    assert len(product.commands) == 1


def test_thinking_starts_from_a_policy_that_learned_to_think(
    product: Product, settings: AblationSettings
) -> None:
    run_variant(settings, 3, "sft_thinking")
    run_variant(settings, 3, "thinking")
    learn, train = product.commands
    assert learn[0] == "sft" and "prompt.thinking=true" in learn
    assert f"model={settings.folder(3, 'policy_thinking') / 'model'}" in train
    assert "prompt.thinking=true" in train


def test_sft_goes_on_from_its_own_policy_and_is_evaluated_by_its_own_model(
    product: Product, settings: AblationSettings
) -> None:
    result = run_variant(settings, 3, SFT)
    evaluate = product.commands[-1]
    assert str(settings.folder(3, SFT) / "model") in evaluate
    assert {"--max-records", "5"} <= set(evaluate)
    assert result["by_record"] == [FOUND]


def test_what_is_finished_is_not_run_again_and_what_is_not_starts_afresh(
    product: Product, settings: AblationSettings
) -> None:
    first = run_variant(settings, 3, DEFAULT)
    num_commands = len(product.commands)
    assert run_variant(settings, 3, DEFAULT) == first
    assert len(product.commands) == num_commands
    leftover = settings.folder(3, "async_1") / "metrics.jsonl"
    leftover.parent.mkdir()
    leftover.write_text("half a run")
    run_variant(settings, 3, "async_1")
    assert "half" not in leftover.read_text()


def test_results_of_other_settings_or_another_policy_are_refused(
    product: Product, settings: AblationSettings, tmp_path: Path
) -> None:
    run_variant(settings, 3, DEFAULT)
    longer = AblationSettings(out=settings.out, policies=settings.policies, steps=10, records=5)
    with pytest.raises(ValueError, match=r"different steps, .*steps: 9 and 10.*another --out"):
        run_variant(longer, 3, DEFAULT)
    weights = settings.policies / "seed_3" / "sft" / "model" / "model.safetensors"
    weights.write_bytes(b"others")
    with pytest.raises(ValueError, match="different policy"):
        run_variant(settings, 3, DEFAULT)


def test_sft_goes_on_for_as_long_as_the_default_took(
    product: Product, settings: AblationSettings
) -> None:
    run_variant(settings, 3, SFT)
    (command,) = [c for c in product.commands if c[0] == "sft"]
    # The default took 30 s; SFT took 60 s for 60 steps.
    assert "steps=30" in command


def test_a_policy_that_is_not_there_is_trained_once(
    product: Product, settings: AblationSettings
) -> None:
    run_variant(settings, 4, DEFAULT)
    run_variant(settings, 4, "async_1")
    assert [command[0] for command in product.commands] == ["sft", "grpo", "grpo"]


def test_a_variant_that_fails_leaves_the_others_and_an_exit_code(
    product: Product, settings: AblationSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    product.failing = "max_staleness=1"
    page_path, published = tmp_path / "ablations.md", tmp_path / "published" / "ablations.json"
    options = ["--out", str(settings.out), "--policies", str(settings.policies), "--seeds", "3"]
    options += ["--variants", "async_1", "async_2", "--table", str(page_path)]
    options += ["--published", str(published)]
    with pytest.raises(SystemExit, match="async_1, seed 3"):
        main(options)
    shown = page_path.read_text()
    assert "| async_2 |" in shown and "| async_1 |" not in shown
    assert "- async_1, seed 3" in shown
    document = json.loads(published.read_text())
    assert set(document["variants"]) == {DEFAULT, "async_2"}
    assert section(document) in shown
    assert "| async_2 |" in capsys.readouterr().out
