"""The configuration of `t2g data generate`: which texts, which teachers, what is kept and varied.

Invariant: a value that cannot work is refused here, before a teacher is started.
"""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from t2g_ray.config import EMBEDDED, Folder, Section, Seed
from t2g_ray.config.device.settle import DeviceConfig
from t2g_ray.config.section import EngineArguments
from t2g_ray.prompts.settings import PromptSettings, read_prompt_settings


class SourceConfig(Section):
    """Where texts come from, and what is to be found in them."""

    name: str = EMBEDDED
    """`embedded`, a JSON or JSONL file, a text file (.txt, .md), a folder or Parquet file that
    `datasets` reads, or hub:NAME."""
    text_field: str = "text"
    """Key of the text in a row."""
    unit: Literal["line", "paragraph"] = "line"
    """What one text of a text file is; empty lines separate paragraphs."""
    split: str | None = None
    """Split of a data set; all when not given."""
    subset: str | None = None
    """Configuration of a hub data set."""
    limit: int | None = Field(default=None, ge=1)
    """Use only this many texts, from the first; for the embedded world, how many to make."""
    entity_types: list[str] = Field(default_factory=list)
    """Types wanted of every text; where empty, each row names its own."""
    relation_types: list[str] = Field(default_factory=list)
    """Relation types wanted of every text; used together with entity_types."""
    negative_types: int = Field(default=0, ge=0)
    """Ask each text also for this many types of other texts; types that are not found are
    negatives."""

    @model_validator(mode="after")
    def _types_are_names(self) -> Self:
        for key in ("entity_types", "relation_types"):
            names = getattr(self, key)
            if len(set(names)) < len(names) or not all(n.strip() == n != "" for n in names):
                raise ValueError(
                    f"{key} must be different names without blanks around them, found {names}"
                )
        if self.relation_types and not self.entity_types:
            raise ValueError("relation_types need entity_types, found none; name both")
        return self


class TeacherConfig(Section):
    """A model that answers: one that vLLM loads, or one behind an OpenAI-compatible endpoint."""

    model: str | None = None
    """Folder or hub name for vLLM; with base_url, the name that the endpoint knows."""
    base_url: str | None = None
    """Address of an OpenAI-compatible endpoint, as in http://host:8000/v1."""
    api_key_env: str = "OPENAI_API_KEY"
    """Environment variable that holds the endpoint's key; it need not be set where the endpoint has
    none."""
    parallel_requests: int = Field(default=16, ge=1)
    """Requests that one actor keeps open at an endpoint."""
    timeout_s: float = Field(default=120.0, gt=0)
    """Seconds that an endpoint may take for one answer, from the question to its last byte."""
    give_up_s: float = Field(default=600.0, gt=0)
    """Seconds that one question may take in all, with further tries and the waits between them."""
    temperature: float = Field(default=0.0, ge=0)
    """0 takes the likeliest token."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Sample from the likeliest tokens that together have this probability."""
    max_prompt_tokens: int = Field(default=4096, ge=8)
    """Longer prompts are rejected, never cut (vLLM)."""
    max_new_tokens: int | None = Field(default=None, ge=1)
    """Length limit of an answer; by default that of the model's t2g.json, else 512."""
    style: Literal["full", "compact"] | None = None
    """Prompt style; by default that of the model's t2g.json, else full."""
    actors: int = Field(default=1, ge=1)
    """Actors, each with an engine, or with connections to the endpoint."""
    threads: int = Field(default=1, ge=1)
    """CPU threads of one actor."""
    gpus: float = Field(default=0, ge=0)
    """GPUs of one actor; its layers are spread over them."""
    engine: EngineArguments = Field(default_factory=dict)
    """Further engine arguments, passed to vLLM unchanged. None may make it load code: classes,
    plug-ins, pickles and `trust_remote_code` are refused."""

    @property
    def named_model(self) -> str:
        """The model; without one, this teacher is asked nothing."""
        if self.model is None:
            raise ValueError("model must name a model, found none")
        return self.model

    @property
    def own(self) -> PromptSettings:
        """The settings in the model's folder; the defaults for a hub name and for an endpoint."""
        return PromptSettings() if self.base_url else read_prompt_settings(self.named_model)

    @property
    def answer_tokens(self) -> int:
        """Length limit of an answer: as configured, else the model's own."""
        return self.max_new_tokens or self.own.max_new_tokens

    @property
    def answering(self) -> dict[str, Any]:
        """The settings that answers depend on; the others only say where answers are computed."""
        keys = ("model", "base_url", "temperature", "top_p", "max_prompt_tokens", "engine")
        return {**{key: getattr(self, key) for key in keys}, "max_new_tokens": self.answer_tokens}


class SelectionConfig(Section):
    """Which records are kept, see `t2g data select`."""

    faulty: Literal["reject", "repair"] = "reject"
    """What happens to a graph with entities outside the text or unknown relation ends: its record
    is rejected, or these entities and relations are removed."""
    min_agreement: float = Field(default=0.0, ge=0, le=1)
    """Smallest mean pairwise F1 of the samples of one text."""
    min_chars: int = Field(default=1, ge=1)
    """Shortest text."""
    max_chars: int | None = Field(default=None, ge=1)
    """Longest text."""
    min_entities: int = Field(default=0, ge=0)
    """Fewest entities."""
    min_relations: int = Field(default=0, ge=0)
    """Fewest relations."""
    near_duplicates: bool = False
    """Keep texts that are nearly the same as an earlier one."""
    held_out: list[str] = Field(default_factory=list)
    """JSONL files of records; no text that is identical or near to one of theirs is kept."""
    max_records: int | None = Field(default=None, ge=1)
    """Draw this many, balanced over types and lengths."""


class AugmentConfig(Section):
    """Copies to add to each record that is kept."""

    sub_schemas: int = Field(default=0, ge=0)
    """Copies that ask for only some of the types."""
    paraphrases: int = Field(default=0, ge=0)
    """Copies in other words, by the teacher; every entity must occur in them unchanged."""
    name_swaps: int = Field(default=0, ge=0)
    """Copies in which names are replaced by others of their type, in text and graph."""


class GenerateConfig(DeviceConfig):
    """Texts -> records with graphs, and reasoning where a reasoner is named."""

    run_dir: Folder
    """Folder of the run; the same command continues it where it stopped."""
    seed: Seed = 0
    """Seed of sampling, selection and augmentation."""
    source: SourceConfig = SourceConfig()
    samples: int = Field(default=1, ge=1)
    """Graphs that the teacher writes for each text; the one most similar to the others is kept."""
    teacher: TeacherConfig
    reasoner: TeacherConfig = TeacherConfig()
    select: SelectionConfig = SelectionConfig()
    augment: AugmentConfig = AugmentConfig()
    shard_size: int = Field(default=64, ge=1)
    """Records that one actor answers as one batch: the most that a stop loses per actor."""

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if self.teacher.model is None:
            raise ValueError("teacher.model must name a model, found none")
        if self.samples > 1 and self.teacher.temperature == 0:
            raise ValueError(
                f"{self.samples} samples of a text need teacher.temperature above 0, found 0: they "
                "would all be the same; raise it, or set samples=1"
            )
        if self.select.min_agreement > 0 and self.samples == 1:
            raise ValueError("select.min_agreement needs samples=2 or more, found 1; raise samples")
        return self
