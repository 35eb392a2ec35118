"""Text2KGBench: lines of a sentence with triples, and an ontology with concepts and relations.

Both forms are read: a list `triples` of {sub, rel, obj}, and one triple a line with labels, where
lines of one sentence become one record. Names take the form they have in the text; entities are
typed by the relations they are in: the commonest range, else the commonest domain, over all rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from t2g_ray.data.importers.layout import Drafts, Layout, ReadOptions, RecordDraft, each
from t2g_ray.data.importers.row import Rejection, Row, RowError, get
from t2g_ray.data.importers.schema import Schema, read_schema
from t2g_ray.data.importers.source import Source, SourcePreview
from t2g_ray.data.importers.texts.surface import mend, names_in_text, plain_name

ONTOLOGIES = "*ontology.json"
MENDED = "mis-decoded text mended"
Triple = tuple[str, str, str]
"""Subject, relation, object."""
EntityTypes = dict[tuple[str, str], str]
"""(ontology id, name) -> type."""


def looks_like(preview: SourcePreview) -> bool:
    return preview.has_keys("sent", "triples") or preview.has_keys("sent", "sub_label", "obj_label")


def read(source: Source, options: ReadOptions) -> Drafts:
    ontologies = _ontologies(source, options.schema_file)
    rows = list(_sentences(source.rows()))
    entity_types = _entity_types(rows, ontologies)
    return each(rows, partial(_draft, ontologies, entity_types))


def _ontologies(source: Source, schema_file: Path | None) -> list[Schema]:
    """The named one, or all beside the rows and in a folder `ontologies` next to theirs."""
    if schema_file is not None:
        return [read_schema(schema_file)]
    if source.path is None:
        return []
    folder = source.path if source.path.is_dir() else source.path.parent
    folders = (folder, folder / "ontologies", folder.parent / "ontologies")
    return [read_schema(path) for place in folders for path in source.side_files(place, ONTOLOGIES)]


def _sentences(rows: Iterable[Row | Rejection]) -> Iterator[Row | Rejection]:
    """One row a sentence: {"id", "sent", "triples"}, in order of first appearance."""
    merged: dict[tuple[str, str], Row] = {}
    for row in rows:
        if isinstance(row, Rejection):
            yield row
            continue
        try:
            sent, triples = get(row.value, "sent", str), _triples(row)
            id_ = get(row.value, "id", str)
        except RowError as error:
            yield error.rejection(row)
            continue
        key = (id_.rpartition("_")[0], sent)
        value = {"id": id_, "sent": sent, "triples": list[Triple]()}
        merged.setdefault(key, Row(place=row.place, value=value)).value["triples"].extend(triples)
    yield from merged.values()


def _triples(row: Row) -> list[Triple]:
    if "triples" in row.value:
        items, keys = get(row.value, "triples", list), ("sub", "rel", "obj")
    else:
        items, keys = [row.value], ("sub_label", "rel_label", "obj_label")
    named = [[get(item, key, str) for key in keys] for item in items]
    return [(head, type_, tail) for head, type_, tail in named]


def _ontology_of(row: Row, ontologies: Sequence[Schema]) -> Schema:
    """The ontology whose id the row's id begins with; where there is only one, the id does not
    matter."""
    fitting = [o for o in ontologies if row.value["id"].startswith(f"{o.id}_")]
    if fitting:
        return max(fitting, key=lambda ontology: len(ontology.id))
    if len(ontologies) == 1:
        return ontologies[0]
    raise RowError(
        "no_ontology",
        f"an ontology must have an id that {row.value['id']} begins with, found "
        f"{[o.id for o in ontologies][:5]}; give the file with --schema",
    )


def _entity_types(rows: Iterable[Row | Rejection], ontologies: Sequence[Schema]) -> EntityTypes:
    votes: tuple[dict[tuple[str, str], Counter[str]], ...] = ({}, {})
    for row in rows:
        if isinstance(row, Rejection):
            continue
        try:
            ontology = _ontology_of(row, ontologies)
        except RowError:
            continue  # the row is rejected, and counted, when it is read
        for head, type_, tail in row.value["triples"]:
            for end, name in enumerate(map(plain_name, (head, tail))):
                if type_ in ontology.domains:
                    counter = votes[end].setdefault((ontology.id, name), Counter())
                    counter[ontology.domains[type_][end]] += 1
    as_head, as_tail = votes
    return {key: counter.most_common(1)[0][0] for key, counter in (as_head | as_tail).items()}


def _draft(ontologies: Sequence[Schema], types: EntityTypes, row: Row) -> RecordDraft:
    ontology = _ontology_of(row, ontologies)
    text, triples = mend(row.value["sent"]), row.value["triples"]
    if outside := [type_ for _, type_, _ in triples if type_ not in ontology.domains]:
        raise RowError(
            "type_outside_schema",
            f"a relation must be of the ontology {ontology.id}, found {outside[0]!r}",
        )
    names = names_in_text([name for head, _, tail in triples for name in (head, tail)], text)
    types_by_name = {name: types[ontology.id, plain_name(name)] for name in names.indices}
    return RecordDraft(
        place=row.place,
        text=text,
        entities=tuple(zip(names.forms, types_by_name.values(), strict=True)),
        relations=tuple((names.indices[h], names.indices[t], type_) for h, type_, t in triples),
        entity_types=ontology.entity_types,
        relation_types=ontology.relation_types,
        absent=names.absent,
        notes=(*(MENDED,) * (text != row.value["sent"]), *names.notes),
        extra={"id": row.value["id"], "ontology": ontology.id},
    )


LAYOUT = Layout(
    name="text2kgbench",
    summary="Text2KGBench JSON Lines: sent and triples, with *ontology.json beside",
    looks_like=looks_like,
    read=read,
)
