"""The embedded world: a small, seeded corpus of texts and graphs that needs no download."""

from __future__ import annotations

from t2g_ray.records.corpus.generate import SPLITS, Split, generate_records, split_of
from t2g_ray.records.corpus.names import ENTITY_TYPES, HELDOUT_NAMES, NAMES, RELATION_ENDS
from t2g_ray.records.corpus.templates import ALL_TEMPLATES, Level
from t2g_ray.records.corpus.tokenizer import build_tokenizer

__all__ = [
    "ALL_TEMPLATES",
    "ENTITY_TYPES",
    "HELDOUT_NAMES",
    "NAMES",
    "RELATION_ENDS",
    "SPLITS",
    "Level",
    "Split",
    "build_tokenizer",
    "generate_records",
    "split_of",
]
