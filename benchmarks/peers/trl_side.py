"""One run of TRL's GRPOTrainer in a process of its own: a file of work in, a file of figures out.

    python -m benchmarks.peers.trl_side WORK.json ANSWER.json

Settings are those that serve TRL best here: all samples of a step in one batch, no recomputation,
no reference model, nothing logged that costs a pass.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class TrlWork:
    """What TRL is to do; `prompt_ids` and `records` are in order of use."""

    model: str
    prompt_ids: list[list[int]]
    records: list[dict[str, Any]]
    reward: dict[str, Any]
    prompts_per_step: int
    group_size: int
    max_new_tokens: int
    temperature: float
    lr: float
    lr_shares: list[float]
    """Of the learning rate, for every step of the run."""
    arguments: dict[str, Any]
    """Algorithm and optimiser, for GRPOConfig."""
    first: int
    """Steps before those that count."""
    counted: int
    seed: int


def main(work_path: Path, answer_path: Path) -> None:
    """Train as the work says and write the figures of its counted steps."""
    work = TrlWork(**json.loads(work_path.read_text(encoding="utf-8")))
    answer_path.write_text(json.dumps(run_trl(work)), encoding="utf-8")


def run_trl(work: TrlWork) -> dict[str, float]:
    """Completions a second over the steps after the warm-up, and their lengths and rewards."""
    import torch
    from datasets import Dataset
    from torch.optim.lr_scheduler import LambdaLR
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

    # By name: it is installed for this benchmark only, and type checkers must do without it.
    trl: Any = import_module("trl")

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.ends_s: list[float] = []
            self.lrs: list[float] = []

        def on_step_begin(self, *_: Any, **objects: Any) -> None:
            self.lrs.append(objects["optimizer"].param_groups[0]["lr"])

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.ends_s.append(time.perf_counter())

    class Trainer(trl.GRPOTrainer):  # type: ignore[misc]
        def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
            self.lr_scheduler = LambdaLR(optimizer or self.optimizer, _share_of(work))
            self._created_lr_scheduler = True
            return self.lr_scheduler

    tokenizer = AutoTokenizer.from_pretrained(work.model)
    texts = [str(tokenizer.decode(ids)) for ids in work.prompt_ids]
    _check_prompts(tokenizer, texts, work.prompt_ids)
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model=AutoModelForCausalLM.from_pretrained(work.model, dtype=torch.float32),
            processing_class=tokenizer,
            reward_funcs=_reward_function(work),
            args=_arguments(work, folder),
            train_dataset=Dataset.from_dict({"prompt": texts, "record": list(range(len(texts)))}),
            callbacks=[clock],
        )
        trainer.train()
    return trl_figures(work, clock.ends_s, clock.lrs, trainer.state.log_history)


def _share_of(work: TrlWork) -> Callable[[int], float]:
    # The scheduler also asks for the step after the last.
    return lambda step: work.lr_shares[min(step, len(work.lr_shares) - 1)]


def _check_prompts(tokenizer: Any, texts: Sequence[str], ids: Sequence[Sequence[int]]) -> None:
    if [list(one) for one in tokenizer(texts)["input_ids"]] != [list(one) for one in ids]:
        raise ValueError(
            "both sides must read the same prompt tokens, but this tokenizer reads the decoded "
            "prompts otherwise; give another --model"
        )


def _reward_function(work: TrlWork) -> Any:
    from t2g_ray.config import RewardConfig
    from t2g_ray.records.jsonl import record_from_dict
    from t2g_ray.rewards.completion import grade

    spec = RewardConfig.model_validate(work.reward).spec(max_new_tokens=work.max_new_tokens)
    records = [record_from_dict(value) for value in work.records]

    def reward(completions: list[str], record: list[int], **_: Any) -> list[float]:
        pairs = zip(completions, record, strict=True)
        return [grade(text, records[index], spec).total for text, index in pairs]

    return reward


def _arguments(work: TrlWork, folder: str) -> Any:
    from torch.cuda import is_available

    trl: Any = import_module("trl")
    return trl.GRPOConfig(
        output_dir=folder,
        use_cpu=not is_available(),
        bf16=False,
        seed=work.seed,
        max_steps=work.first + work.counted,
        per_device_train_batch_size=work.prompts_per_step * work.group_size,
        num_generations=work.group_size,
        steps_per_generation=1,
        gradient_accumulation_steps=1,
        gradient_checkpointing=False,
        max_completion_length=work.max_new_tokens,
        temperature=work.temperature,
        learning_rate=work.lr,
        lr_scheduler_type="constant",
        shuffle_dataset=False,
        dataloader_pin_memory=False,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        **work.arguments,
    )


def trl_figures(
    work: TrlWork, ends_s: Sequence[float], lrs: Sequence[float], log: Sequence[dict[str, Any]]
) -> dict[str, float]:
    """Figures of the counted steps from the ends of all steps, their learning rates and the log.

    Raises ValueError where a step is missing.
    """
    first, last = work.first, work.first + work.counted
    lines = [line for line in log if "completions/mean_length" in line]
    if not len(ends_s) == len(lrs) == len(lines) == last:
        raise ValueError(f"TRL must take {last} steps, found {len(ends_s)} and {len(lines)} lines")
    counted = lines[first:]
    seconds = ends_s[-1] - ends_s[first - 1]
    completions = work.counted * work.prompts_per_step * work.group_size
    no_signal = _mean(counted, "frac_reward_zero_std")
    return {
        "completions_per_s": completions / seconds,
        "trained_completions_per_s": completions * (1 - no_signal) / seconds,
        "tokens_per_completion": _mean(counted, "completions/mean_length"),
        "no_signal_share": no_signal,
        "mean_lr": sum(lrs[first:]) / work.counted,
    }


def _mean(lines: Sequence[dict[str, Any]], key: str) -> float:
    return float(sum(line[key] for line in lines) / len(lines))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
