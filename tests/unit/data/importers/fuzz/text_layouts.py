"""Sources of the layouts with texts or character offsets, by a generator that knows all."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from xml.sax.saxutils import escape

from hypothesis import strategies as st

from tests.unit.data.importers.fuzz.truth import ABSENT, KEPT, REJECTED, Case, Truth

NAMES = [
    "Ada",
    "ada Fox",
    "Bo",
    "5",
    "1995",
    "Orbit Mills",
    "\u5317\u4eac",
    "C#",
    "C",
    "\u00e9t\u00e9",
]
FILLERS = ["met", "2005", "Adams", "C++", "(so)", "and"]
TYPES = ["P", "L"]
REL_TYPES = ["r", "s"]

Relation = tuple[int, int, str]


@st.composite
def text_with(draw: st.DrawFn, names: Sequence[str], number: int) -> tuple[str, list[int]]:
    """A text with these names in turn, and where each begins."""
    text, places = "", []
    for name in names:
        text += f"{draw(st.sampled_from(FILLERS))} "
        places.append(len(text))
        text += f"{name}{draw(st.sampled_from([' ', ', ', ' . ', ' - ']))}"
    return f"{text}u{number}", places


@st.composite
def relations_of(draw: st.DrawFn, count: int) -> list[Relation]:
    index = st.integers(0, max(0, count - 1))
    triples = st.lists(st.tuples(index, index, st.sampled_from(REL_TYPES)), max_size=4)
    return draw(triples) if count else []


@st.composite
def graph_rows(draw: st.DrawFn) -> list[tuple[Truth, dict[str, Any], bool]]:
    """Truths with graphs as plain data; ends are ids where the last item is True."""
    rows = []
    for number in range(draw(st.integers(2, 3))):
        names = draw(st.lists(st.sampled_from(NAMES), max_size=4))
        text, _ = draw(text_with(names, number))
        text = f"{draw(st.sampled_from(['Note: ', '']))}{chr(97 + number)} {text}"
        entities = [(name, draw(st.sampled_from(TYPES))) for name in names]
        relations = draw(relations_of(len(names)))
        has_ids = draw(st.booleans())
        first = draw(st.integers(0, 3))
        graph = {
            "entities": [
                {"id": first + i, "text": n, "type": t} for i, (n, t) in enumerate(entities)
            ],
            "relations": [
                {
                    "head": first + h if has_ids else names[h],
                    "tail": first + t if has_ids else names[t],
                    "type": k,
                }
                for h, t, k in relations
            ],
        }
        rows.append((Truth(text=text, entities=entities, relations=relations), graph, has_ids))
    return rows


@st.composite
def prompt_case(draw: st.DrawFn) -> Case:
    """Instructions with a label, or none at all; texts begin alike; ends are ids or texts."""
    instruction = draw(st.sampled_from(["", "Find it.\nText: ", "As per instructions: "]))
    rows, truths = [], []
    for truth, graph, has_ids in draw(graph_rows()):
        fault = draw(st.sampled_from(["", "", "", "absent", "twice"]))
        fate = KEPT
        if fault == "absent":
            del graph["relations"]
            fate = REJECTED
        elif fault == "twice" and len(graph["entities"]) > 1:
            graph["entities"][0]["id"] = graph["entities"][1]["id"]
            fate = REJECTED
        user = {"role": "user", "content": f"{instruction}{truth.text}"}
        rows.append({"prompt": [user], "solution": json.dumps(graph)})
        truths.append(
            Truth(
                text=truth.text,
                entities=truth.entities,
                relations=truth.relations,
                fate=fate,
                has_text_ends=not has_ids,
            )
        )
    return Case(layout="prompt_solution", files={"rows.json": json.dumps(rows)}, truths=truths)


@st.composite
def records_case(draw: st.DrawFn) -> Case:
    """Our own rows, whose ends are texts; the graph is missing now and then."""
    rows, truths = [], []
    for truth, graph, _ in draw(graph_rows()):
        names = [entity["text"] for entity in graph["entities"]]
        graph["relations"] = [
            {"head": names[h], "tail": names[t], "type": k} for h, t, k in truth.relations
        ]
        row = {"text": truth.text, "entity_types": TYPES, "relation_types": REL_TYPES}
        is_whole = draw(st.integers(0, 4)) > 0
        rows.append(row | ({"graph": graph} if is_whole else {}))
        truths.append(
            Truth(
                text=truth.text,
                entities=truth.entities,
                relations=truth.relations,
                fate=KEPT if is_whole else REJECTED,
                has_text_ends=True,
            )
        )
    return Case(layout="records", files={"rows.json": json.dumps(rows)}, truths=truths)


@st.composite
def brat_case(draw: st.DrawFn) -> Case:
    """Names with dots, arguments in any order, mentions over line breaks, events, repeated ids."""
    files, truths = dict[str, str](), []
    stems = draw(st.lists(st.sampled_from(["a", "a.b", "a.b.c", "b", "b.1"]), min_size=1,
                          max_size=3, unique=True))  # fmt: skip
    for number, stem in enumerate(stems):
        names = draw(st.lists(st.sampled_from(NAMES), max_size=4))
        text, places = draw(text_with(names, number))
        lines, entities = list[str](), []
        ids = draw(st.permutations(range(1, len(names) + 1)))
        for name, start, id_ in zip(names, places, ids, strict=True):
            end, offsets = start + len(name), f"{start} {start + len(name)}"
            if " " in name and draw(st.booleans()):
                cut = start + name.index(" ")
                text = f"{text[:cut]}\n{text[cut + 1 :]}"
                offsets = f"{start} {cut};{cut + 1} {end}"
            kind = draw(st.sampled_from(TYPES))
            entities.append((text[start:end], kind))
            lines.append(f"T{id_}\t{kind} {offsets}\t{name}")
        relations = draw(relations_of(len(names)))
        for count, (head, tail, kind) in enumerate(relations, start=1):
            ends = [f"Arg1:T{ids[head]}", f"Arg2:T{ids[tail]}"]
            first, second = draw(st.permutations(ends))
            lines.append(f"R{count}\t{kind} {first} {second}")
        if draw(st.booleans()):
            mark = len(text) - 2
            lines += [f"T90\tGo {mark} {mark + 2}\t{text[mark:]}", "E1\tGo:T90", "A1\tNegated E1"]
        lines = draw(st.permutations(lines))
        is_twice = bool(lines) and draw(st.integers(0, 4)) == 0
        if is_twice:
            lines = [*lines, lines[0]]
        files |= {f"{stem}.txt": text, f"{stem}.ann": "\n".join([*lines, ""])}
        fate = REJECTED if is_twice else KEPT
        truths.append(Truth(text=text, entities=entities, relations=relations, fate=fate))
    return Case(layout="brat", files=files, truths=truths)


@st.composite
def ade_case(draw: st.DrawFn) -> Case:
    """Effects or doses, which the name of the file says; offsets of the abstract."""
    is_dose = draw(st.booleans())
    kind = "dose" if is_dose else "adverse effect"
    lines, truths = list[str](), []
    for number in range(draw(st.integers(1, 3))):
        names = draw(st.lists(st.sampled_from(NAMES), min_size=2, max_size=4))
        text, places = draw(text_with(names, number))
        entities, relations = [], []
        for _ in range(draw(st.integers(1, 3))):
            pair = [draw(st.integers(0, len(names) - 1)) for _ in range(2)]
            cells = [
                f"{names[i]}|{700 + places[i]}|{700 + places[i] + len(names[i])}" for i in pair
            ]
            lines.append("|".join([str(number), text, *cells]))
            relations.append((len(entities), len(entities) + 1, f"{kind} of"))
            entities += [(names[pair[0]], kind), (names[pair[1]], "drug")]
        truths.append(Truth(text=text, entities=entities, relations=relations))
    name = "DRUG-DOSE.rel" if is_dose else "DRUG-AE.rel"
    return Case(layout="ade_rel", files={name: "\n".join(lines)}, truths=truths)


@st.composite
def triples_of(draw: st.DrawFn, number: int) -> tuple[str, list[tuple[str, str, str]], str]:
    """A text, true triples, and whether all names stand in the text as words."""
    heads, tails = ["Ada", "Bo", "C#", "ada Fox"], ["5", "Orbit Mills", "\u5317\u4eac", "C"]
    pair = st.tuples(st.sampled_from(heads), st.sampled_from(REL_TYPES), st.sampled_from(tails))
    triples = draw(st.lists(pair, min_size=1, max_size=3, unique=True))
    names = [name for head, _, tail in triples for name in (head, tail)]
    is_inside = draw(st.integers(0, 4)) == 0
    text, _ = draw(text_with(names, number))
    if is_inside:
        return text, [*triples, (triples[0][0], "r", "dam")], ABSENT
    return text, triples, KEPT


def graph_of(triples: Sequence[tuple[str, str, str]], *types: str) -> dict[str, Any]:
    """Entities and relations of a truth: a name is an entity once."""
    names = dict.fromkeys(name for head, _, tail in triples for name in (head, tail))
    heads, index = {head for head, _, _ in triples}, {name: i for i, name in enumerate(names)}
    return {
        "entities": [(name, types[0] if name in heads else types[1]) for name in names],
        "relations": [(index[head], index[tail], type_) for head, type_, tail in triples],
    }


@st.composite
def webnlg_case(draw: st.DrawFn) -> Case:
    """Every release: both names of triples, enriched texts, entries without triples."""
    entries, truths = [], []
    for number in range(draw(st.integers(1, 3))):
        text, triples, fate = draw(triples_of(number))
        tag = draw(st.sampled_from(["mtriple", "otriple"]))
        items = "".join(
            f"<{tag}>{escape(h.replace(' ', '_'))} | {k} | {escape(t)}</{tag}>"
            for h, k, t in triples
        )
        lex = escape(text)
        if draw(st.booleans()):
            lex = f"<references/><text>{lex}</text><template>AGENT Ada</template>"
        if draw(st.integers(0, 4)) == 0:
            items, fate = "", REJECTED
        entries.append(
            f"<entry eid='{number}'><originaltripleset><otriple>Z | z | Z</otriple>"
            f"</originaltripleset><modifiedtripleset>{items}</modifiedtripleset>"
            f"<lex>{lex}</lex></entry>"
        )
        graph = graph_of(triples, "entity", "entity")
        truths.append(Truth(text=text, fate=fate, **graph))
    xml = f"<benchmark>{''.join(entries)}</benchmark>"
    return Case(layout="webnlg", files={"rows.xml": xml}, truths=truths)


@st.composite
def text2kgbench_case(draw: st.DrawFn) -> Case:
    """Names with underscores and quotes; triples are missing now and then."""
    rows, truths = [], []
    for number in range(draw(st.integers(1, 3))):
        text, triples, fate = draw(triples_of(number))
        row: dict[str, Any] = {
            "id": f"ont_1_{number}",
            "sent": text,
            "triples": [
                {"sub": h.replace(" ", "_"), "rel": k, "obj": f'"{t}"'} for h, k, t in triples
            ],
        }
        if draw(st.integers(0, 4)) == 0:
            row["triples"], fate = None, REJECTED
        rows.append(row)
        truths.append(Truth(text=text, fate=fate, **graph_of(triples, "P", "L")))
    relations = [{"pid": kind, "label": kind, "domain": "Q1", "range": "Q2"} for kind in REL_TYPES]
    concepts = [{"qid": "Q1", "label": "P"}, {"qid": "Q2", "label": "L"}]
    ontology = {"id": "ont_1", "concepts": concepts, "relations": relations}
    files = {
        "rows.jsonl": "\n".join(json.dumps(row) for row in rows),
        "1_ontology.json": json.dumps(ontology),
    }
    return Case(layout="text2kgbench", files=files, truths=truths)
