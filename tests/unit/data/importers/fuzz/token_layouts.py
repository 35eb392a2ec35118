"""Sources of the layouts that count tokens, with their oddities, by a generator that knows all."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from tests.unit.data.importers.fuzz.truth import EITHER, KEPT, REJECTED, Case, Name, Truth

WORDS = ["Ada", "Bo", "Orbit", "5", "1995", "#", ",", "'s", "C#", "\u00e9", "e\u0301", "x|y"]
BLANK_WORDS = ["10\u00a0000", "\u00a0", "a\u3000b", "\u200b"]
SPACED = ["New York", " ", ""]
HAN = [*"\u5317\u4eac\u5927\u5b66\u5e74"]
TYPES = ["P", "L"]
REL_TYPES = ["r", "s"]

Mention = tuple[int, int, str]


@st.composite
def sentence(draw: st.DrawFn, number: int, *, has_spaces: bool) -> tuple[str, ...]:
    """Tokens; the last is in no other sentence."""
    if draw(st.integers(0, 4)) == 0:
        return (*draw(st.lists(st.sampled_from(HAN), min_size=1, max_size=5)), chr(0x4F60 + number))
    words = WORDS + BLANK_WORDS + (SPACED if has_spaces else [])
    return (*draw(st.lists(st.sampled_from(words), min_size=1, max_size=6)), f"u{number}")


@st.composite
def graph(
    draw: st.DrawFn, tokens: tuple[str, ...], *, is_flat: bool
) -> tuple[list[Mention], list[tuple[int, int, str]]]:
    """Mentions, side by side where they must be flat, and relations by index."""
    mentions: list[Mention] = []
    start = 0
    for _ in range(draw(st.integers(0, 4))):
        first = draw(st.integers(start if is_flat else 0, len(tokens) - 1))
        last = draw(st.integers(first + 1, min(len(tokens), first + 3)))
        mentions.append((first, last, draw(st.sampled_from(TYPES))))
        start = last
        if is_flat and start >= len(tokens):
            break
    index = st.integers(0, max(0, len(mentions) - 1))
    triples = st.tuples(index, index, st.sampled_from(REL_TYPES))
    return mentions, draw(st.lists(triples, max_size=4)) if mentions else []


def fate(tokens: tuple[str, ...], mentions: list[Mention]) -> str:
    """Blank entities can be refused."""
    texts = ["".join(tokens[start:end]) for start, end, _ in mentions]
    return KEPT if all(text.strip() for text in texts) else EITHER


def truth_of(
    tokens: tuple[str, ...],
    mentions: list[Mention],
    relations: list[tuple[int, int, str]],
    **fields: Any,
) -> Truth:
    return Truth(
        tokens=tokens,
        entities=[((start, end), type_) for start, end, type_ in mentions],
        relations=relations,
        **{"fate": fate(tokens, mentions)} | fields,
    )


@st.composite
def json_case(draw: st.DrawFn, layout: str) -> Case:
    """spert, span_json or tagged_json: a list is missing now and then, or an index is wrong."""
    truths, rows = [], []
    for number in range(draw(st.integers(1, 3))):
        tokens = draw(sentence(number, has_spaces=True))
        mentions, relations = draw(graph(tokens, is_flat=layout == "tagged_json"))
        row: dict[str, Any] = {"tokens": list(tokens)}
        if layout == "spert":
            row["entities"] = [{"start": s, "end": e, "type": t} for s, e, t in mentions]
            row["relations"] = [{"head": h, "tail": t, "type": k} for h, t, k in relations]
        elif layout == "span_json":
            row["entities"] = [list(mention) for mention in mentions]
            row["relations"] = [[*mentions[h][:2], *mentions[t][:2], k] for h, t, k in relations]
        else:
            row["tags"] = tags(tokens, mentions, draw(st.booleans()))
            row["relations"] = [{"head": h, "tail": t, "type": k} for h, t, k in relations]
        ends = layout == "span_json"
        truth = truth_of(tokens, mentions, relations, has_text_ends=ends)
        fault = draw(st.sampled_from(["", "", "", "absent", "null", "outside"]))
        if fault:
            truth = truth_of(tokens, mentions, relations, fate=REJECTED)
            if fault == "absent":
                del row["relations"]
            elif fault == "null":
                row["relations"] = None
            elif layout == "span_json":
                row["relations"] = [*row["relations"], [0, 99, 0, 1, "r"]]
            else:
                row["relations"] = [*row["relations"], {"head": 99, "tail": 0, "type": "r"}]
        truths.append(truth)
        rows.append(row)
    return Case(layout=layout, files={"rows.json": json.dumps(rows)}, truths=truths)


def tags(tokens: tuple[str, ...], mentions: list[Mention], is_bilou: bool) -> list[str]:
    found = ["O"] * len(tokens)
    for start, end, type_ in mentions:
        for place in range(start, end):
            prefix = "B" if place == start else "I"
            if is_bilou and place == end - 1:
                prefix = "U" if end == start + 1 else "L"
            found[place] = f"{prefix}-{type_}"
    return found


@st.composite
def dygie_case(draw: st.DrawFn) -> Case:
    """Positions of the document; clusters and events beside."""
    sentences: list[list[str]] = []
    ner: list[list[Any]] = []
    rel: list[list[Any]] = []
    truths, offset = [], 0
    for number in range(draw(st.integers(1, 3))):
        tokens = draw(sentence(number, has_spaces=True))
        mentions, relations = draw(graph(tokens, is_flat=False))
        shifted = [[s + offset, e - 1 + offset] for s, e, _ in mentions]
        sentences.append(list(tokens))
        ner.append([[*span, m[2]] for span, m in zip(shifted, mentions, strict=True)])
        rel.append([[*shifted[h], *shifted[t], kind] for h, t, kind in relations])
        truth = truth_of(tokens, mentions, relations, has_text_ends=True)
        if draw(st.integers(0, 5)) == 0:
            ner[-1].append([offset, offset + len(tokens), "P"])  # past the end of its sentence
            truth = truth_of(tokens, mentions, relations, fate=REJECTED)
        truths.append(truth)
        offset += len(tokens)
    row = {"sentences": sentences, "ner": ner, "relations": rel, "clusters": [[[0, 0]]]}
    return Case(layout="dygie", files={"rows.jsonl": json.dumps(row)}, truths=truths)


@st.composite
def docred_case(draw: st.DrawFn) -> Case:
    """Clusters of mentions; labels are missing, or positions run past their sentence."""
    rows, truths = [], []
    for number in range(draw(st.integers(1, 2))):
        words = [draw(sentence(2 * number + i, has_spaces=True)) for i in range(2)]
        offsets = [0, len(words[0])]
        vertices, names = [], list[list[tuple[int, int]]]()
        for _ in range(draw(st.integers(1, 4))):
            vertex, spans = [], []
            for _ in range(draw(st.integers(1, 3))):
                place = draw(st.integers(0, 1))
                start = draw(st.integers(0, len(words[place]) - 1))
                end = draw(st.integers(start + 1, len(words[place])))
                vertex.append({"sent_id": place, "pos": [start, end], "type": "P", "name": ""})
                spans.append((start + offsets[place], end + offsets[place]))
            vertices.append(vertex)
            names.append(spans)
        index = st.integers(0, len(vertices) - 1)
        labels = draw(st.lists(st.tuples(index, index, st.sampled_from(REL_TYPES)), max_size=4))
        tokens = (*words[0], *words[1])
        wanted = fate(tokens, [(s, e, "P") for spans in names for s, e in spans])
        row: dict[str, Any] = {
            "sents": words,
            "vertexSet": vertices,
            "labels": [{"h": h, "t": t, "r": r} for h, t, r in labels],
        }
        fault = draw(st.sampled_from(["", "", "", "absent", "past"]))
        if fault == "absent":
            del row["labels"]
        elif fault == "past":
            vertices[0][0] |= {"sent_id": 0, "pos": [len(words[0]) - 1, len(words[0]) + 1]}
        rows.append(row)
        truths.append(
            Truth(
                tokens=tokens,
                entities=[(spans[0], "P") for spans in names],
                aliases={i: list[Name](spans) for i, spans in enumerate(names)},
                relations=labels,
                fate=REJECTED if fault else wanted,
            )
        )
    return Case(layout="docred", files={"rows.json": json.dumps(rows)}, truths=truths)


@st.composite
def scier_case(draw: st.DrawFn) -> Case:
    """Names and sentence with spaces between tokens; types of the ends are there or not."""
    rows, truths = [], []
    for number in range(draw(st.integers(1, 3))):
        tokens = draw(sentence(number, has_spaces=False))
        mentions, relations = draw(graph(tokens, is_flat=False))
        names = [" ".join(tokens[start:end]) for start, end, _ in mentions]
        row: dict[str, Any] = {
            "sentence": " ".join(tokens),
            "ner": [[name, m[2]] for name, m in zip(names, mentions, strict=True)],
            "rel": [[names[h], kind, names[t]] for h, t, kind in relations],
        }
        is_typed = draw(st.booleans())
        if is_typed:
            row["rel_plus"] = [
                [f"{names[h]}:{mentions[h][2]}", kind, f"{names[t]}:{mentions[t][2]}"]
                for h, t, kind in relations
            ]
        truth = truth_of(tokens, mentions, relations, has_text_ends=not is_typed)
        if draw(st.integers(0, 5)) == 0:
            row["ner"] = [*row["ner"], ["da", "X"]]  # stands inside words only
            truth = truth_of(tokens, mentions, relations, fate=REJECTED)
        rows.append(row)
        truths.append(truth)
    lines = "\n".join(json.dumps(row) for row in rows)
    return Case(layout="scier", files={"rows.jsonl": lines}, truths=truths)
