"""SciER for language models: {"sentence", "ner": [[text, type]], "rel": [[head, type, tail]]}.

Sentence and names are tokens with spaces between, cut at hyphens and into digits; a name is found
by its tokens and takes the spacing of the sentence. `rel_plus`, where it is, says the types of the
ends of each relation ("CNNs:Method").
"""

from __future__ import annotations

import re

from t2g_ray.data.importers.layout import (
    Drafts,
    End,
    Layout,
    ReadOptions,
    RecordDraft,
    each,
    unread,
)
from t2g_ray.data.importers.row import Row, fixed, get
from t2g_ray.data.importers.source import Source, SourcePreview
from t2g_ray.data.importers.tokens.detokenize import TokenText, detokenize

SPACES = re.compile(r"[ \t\r\n]+")


def looks_like(preview: SourcePreview) -> bool:
    return preview.has_keys("sentence", "ner", "rel")


def read(source: Source, options: ReadOptions) -> Drafts:
    return each(source.rows(), _draft)


def _draft(row: Row) -> RecordDraft:
    tokens = _tokens(get(row.value, "sentence", str))
    text = detokenize(tokens, is_hyphen_split=True)
    ner = [fixed(item, (str, str), "an entity") for item in get(row.value, "ner", list)]
    rel = [fixed(item, (str, str, str), "a relation") for item in get(row.value, "rel", list)]
    typed_rel = row.value.get("rel_plus")
    if not isinstance(typed_rel, list) or len(typed_rel) != len(rel):
        typed_rel = [None] * len(rel)
    forms = {name: _form(name, tokens, text) for name, _ in ner}
    indices = {f"{name}:{type_}": index for index, (name, type_) in enumerate(ner)}
    relations: list[tuple[End, End, str]] = []
    for (head, type_, tail), plus in zip(rel, typed_rel, strict=True):
        with_types = plus if isinstance(plus, list) and len(plus) == 3 else ["", "", ""]
        ends: list[End] = []
        for name, with_type in ((head, with_types[0]), (tail, with_types[2])):
            is_this = isinstance(with_type, str) and with_type.startswith(f"{name}:")
            index = indices.get(with_type) if is_this else None
            form = forms.get(name) or _form(name, tokens, text) or name
            ends.append(form if index is None else index)
        relations.append((ends[0], ends[1], type_))
    return RecordDraft(
        place=row.place,
        text=text.text,
        entities=tuple((forms[name] or name, type_) for name, type_ in ner),
        relations=tuple(relations),
        absent=tuple(name for name, form in forms.items() if form is None),
        notes=unread(row.value, "sentence", "ner", "rel", "rel_plus"),
        extra={"id": row.value["doc_id"]} if "doc_id" in row.value else {},
    )


def _tokens(text: str) -> list[str]:
    """What stands between spaces; a no-break space is a part of its token."""
    return [token for token in SPACES.split(text) if token]


def _form(name: str, tokens: list[str], text: TokenText) -> str | None:
    """The name with the spacing of the sentence; None when its tokens are not there."""
    words = _tokens(name)
    for start in range(len(tokens) - len(words) + 1):
        if words and tokens[start : start + len(words)] == words:
            return text.slice(start, start + len(words))
    return None


LAYOUT = Layout(
    name="scier",
    summary="SciER JSON Lines: sentence, ner [[text, type]], rel [[head, type, tail]]",
    looks_like=looks_like,
    read=read,
)
