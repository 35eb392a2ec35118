"""Configuration -> records, and the prompts made from them.

Invariant: nothing is cut and nothing goes missing without being counted: a file with fewer records
than asked for is an error, and prompts that are too long are counted.
"""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from t2g_ray.config import EMBEDDED, DataConfig, GrpoConfig, PromptConfig, StageConfig
from t2g_ray.prompts.messages import encode_answer, fitting_prompts
from t2g_ray.prompts.order import PromptOrder
from t2g_ray.records.corpus import generate_records
from t2g_ray.records.jsonl import THINKING_KEY, load_records
from t2g_ray.types import Prompt, Record

_log = logging.getLogger(__name__)

NONE = "none"
TRAIN_RECORDS = 4_000
HELDOUT_RECORDS = 512
"""Records of the embedded world where the configuration gives no number."""

LoadedSplit = Literal["train", "heldout", "heldout_names"]


def load_split(config: StageConfig, split: LoadedSplit) -> list[Record]:
    """The records that `config.data` names.

    `heldout_names` holds names that no other part of the embedded world uses; it is empty where
    held-out records come from elsewhere. Raises ValueError for a missing file, a bad line, fewer
    records than asked for, training without records, and training on what is held out.
    """
    records = _load(config, split)
    if split == "train" and config.data.heldout not in (EMBEDDED, NONE):
        check_apart(records, _load(config, "heldout"), config.data)
    return records


def check_apart(train: Sequence[Record], heldout: Sequence[Record], data: DataConfig) -> None:
    """Raises ValueError where training and held-out records are one file, under whatever name, or
    share half of the texts of the smaller set; fewer shared texts are counted in the log.
    """
    is_one_file = data.train != EMBEDDED and Path(data.train).samefile(data.heldout)
    seen, asked = ({_normal(record.text) for record in part} for part in (train, heldout))
    num_shared = len(seen & asked)
    if is_one_file or 2 * num_shared >= max(1, min(len(seen), len(asked))):
        raise ValueError(
            f"data.heldout must hold other texts than data.train, found {num_shared} of its "
            f"{len(asked)} texts in {data.train!r}: an evaluation would measure what was learned "
            "by heart; give other records, or data.heldout=none"
        )
    if num_shared:
        _log.warning(
            "%d of the %d texts of data.heldout are in data.train too; t2g data inspect names them",
            num_shared,
            len(asked),
        )


def _normal(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())


def _load(config: StageConfig, split: LoadedSplit) -> list[Record]:
    is_train = split == "train"
    name, data = ("train" if is_train else "heldout"), config.data
    source: str = getattr(data, name)
    num_records: int | None = getattr(data, f"{name}_records")
    if source == EMBEDDED:
        part = data.part if split == "train" else split
        num_records = num_records or (TRAIN_RECORDS if is_train else HELDOUT_RECORDS)
        return generate_records(
            part,
            num_records,
            seed=config.data_seed,
            level=data.level,
            overlooked=data.overlooked if is_train else 0.0,
            thinking=config.prompt.thinking,
        )
    if not is_train and (source == NONE or split == "heldout_names"):
        return []
    if not Path(source).is_file():
        raise ValueError(
            f"data.{name} must be '{EMBEDDED}'{'' if is_train else f', {NONE!r}'} or a JSONL file "
            f"of records, found no file at {source!r}; correct the path"
        )
    records = load_records(source)
    if num_records is not None and len(records) < num_records:
        raise ValueError(
            f"{source} must hold data.{name}_records={num_records} records, found {len(records)}; "
            f"lower data.{name}_records or leave it out to use all"
        )
    return records[:num_records]


def load_heldout(config: StageConfig) -> dict[LoadedSplit, list[Record]]:
    """The held-out splits that have records."""
    names: tuple[LoadedSplit, ...] = ("heldout", "heldout_names")
    loaded = {name: load_split(config, name) for name in names}
    return {name: records for name, records in loaded.items() if records}


def encode_prompts(
    tokenizer: Any, records: Sequence[Record], config: PromptConfig
) -> tuple[list[tuple[Record, tuple[int, ...]]], int]:
    """Records with their prompt ids, in order, and how many were left out as too long.

    Raises ValueError when none is left.
    """
    kept = [(records[i], token_ids) for i, token_ids in fitting_prompts(tokenizer, records, config)]
    if not kept:
        raise ValueError(
            f"at least one prompt must fit prompt.max_tokens={config.max_tokens}, found none "
            f"among {len(records)} records; raise prompt.max_tokens"
        )
    return kept, len(records) - len(kept)


def likely_answers(
    tokenizer: Any, records: Sequence[Record], config: PromptConfig
) -> list[tuple[int, ...]]:
    """Token ids of each record's own graph as an answer, after its reasoning where it has one.

    Empty where the tokenizer has no end token, because an answer ends with one.
    """
    if tokenizer.eos_token_id is None:
        return [()] * len(records)
    reasons = [record.extra.get(THINKING_KEY) if config.thinking else None for record in records]
    return [
        answer_to(tokenizer, record, reason if isinstance(reason, str) else None)
        for record, reason in zip(records, reasons, strict=True)
    ]


def answer_to(tokenizer: Any, record: Record, reasoning: str | None) -> tuple[int, ...]:
    """`encode_answer` of the record's graph. Raises ValueError with the start of its text."""
    try:
        return encode_answer(tokenizer, record.graph, thinking_text=reasoning)
    except ValueError as error:
        raise ValueError(f"the record {record.text[:60]!r}: {error}") from error


class PromptStream:
    """The endless stream of a run's training prompts: position -> prompt, and its record.

    Raises ValueError where no record is usable.
    """

    def __init__(self, tokenizer: Any, config: GrpoConfig) -> None:
        self.records = load_split(config, "train")
        self._pairs, self.num_too_long = encode_prompts(tokenizer, self.records, config.prompt)
        self._likely: list[tuple[int, ...]] = [()] * len(self._pairs)
        if config.guesses_train_answers:
            kept = [record for record, _ in self._pairs]
            self._likely = likely_answers(tokenizer, kept, config.prompt)
        sizes = self._graph_sizes() if config.data.order == "small_first" else None
        self.order = PromptOrder(len(self._pairs), config.data_seed, sizes)

    def _graph_sizes(self) -> tuple[int, ...]:
        graphs = [record.graph for record, _ in self._pairs]
        return tuple(len(graph.entities) + len(graph.relations) for graph in graphs)

    def prompt(self, position: int) -> Prompt:
        """What the policy reads at this position."""
        number = self.order.record_index(position)
        _, token_ids = self._pairs[number]
        return Prompt(index=position, token_ids=token_ids, likely_ids=self._likely[number])

    def record(self, position: int) -> Record:
        """What its completions are graded against."""
        record, _ = self._pairs[self.order.record_index(position)]
        return record
