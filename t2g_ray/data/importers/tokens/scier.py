"""SciER for language models: {"sentence", "ner": [[text, type]], "rel": [[head, type, tail]]}.

Sentence and names are tokens with spaces between, cut at hyphens and into digits; a name is found
by its tokens and takes the spacing of the sentence.
"""

from __future__ import annotations

from pathlib import Path

from t2g_ray.data.importers.layout import Drafts, Layout, RecordDraft, each
from t2g_ray.data.importers.row import Row, fixed, get
from t2g_ray.data.importers.source import Source, SourcePreview
from t2g_ray.data.importers.tokens.detokenize import TokenText, detokenize


def looks_like(preview: SourcePreview) -> bool:
    return preview.has_keys("sentence", "ner", "rel")


def read(source: Source, schema_file: Path | None) -> Drafts:
    return each(source.rows(), _draft)


def _draft(row: Row) -> RecordDraft:
    tokens = get(row.value, "sentence", str).split()
    text = detokenize(tokens, is_hyphen_split=True)
    ner = [fixed(item, (str, str), "an entity") for item in get(row.value, "ner", list)]
    rel = [fixed(item, (str, str, str), "a relation") for item in get(row.value, "rel", list)]
    return RecordDraft(
        place=row.place,
        text=text.text,
        entities=tuple((_named(name, tokens, text), type_) for name, type_ in ner),
        relations=tuple(
            (_named(head, tokens, text), _named(tail, tokens, text), type_)
            for head, type_, tail in rel
        ),
        extra={"id": row.value["doc_id"]} if "doc_id" in row.value else {},
    )


def _named(name: str, tokens: list[str], text: TokenText) -> str:
    """The name with the spacing of the sentence; as it is when its tokens are not there."""
    words = name.split()
    for start in range(len(tokens) - len(words) + 1):
        if words and tokens[start : start + len(words)] == words:
            return text.slice(start, start + len(words))
    return name


LAYOUT = Layout(
    name="scier",
    summary="SciER JSON Lines: sentence, ner [[text, type]], rel [[head, type, tail]]",
    looks_like=looks_like,
    read=read,
)
