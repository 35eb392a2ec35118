"""`t2g data`: native files -> records, records -> what is in them, records -> those worth training.

Invariant: a command that writes no record does not end with exit code 0.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from t2g_ray.data.importers.run import ImportResult

data_app = typer.Typer(
    no_args_is_help=True,
    help="Import, inspect and select records.",
    pretty_exceptions_enable=False,
)

OutFile = Annotated[Path, typer.Option("--out", help="JSONL file of records to write.")]
RejectedFile = Annotated[
    Path | None, typer.Option(help="Write what was left out here, with reasons, as JSONL.")
]
TypesOption = Annotated[
    str | None, typer.Option(help="The whole schema, separated by commas; by default the source's.")
]
ColumnsOption = Annotated[
    str | None,
    typer.Option(help="What columns are: index,token,tag,- (for conll_columns and ade_rel)."),
]
SubSchemaOption = Annotated[
    int | None, typer.Option(help="Seed: ask for only some of the types, new for each record.")
]
SchemaFile = Annotated[
    Path | None, typer.Option(exists=True, dir_okay=False, help="Types file or ontology.")
]
KeepFaulty = Annotated[
    bool,
    typer.Option(
        "--keep-faulty",
        help="Keep rows with entities outside the text, unknown ends or unknown types.",
    ),
]


@data_app.command("import")
def import_command(
    source: Annotated[str, typer.Argument(help="File, folder, or hub:NAME for a hub data set.")],
    out: OutFile,
    layout: Annotated[str, typer.Option(help="Name of a layout of docs/data.md.")] = "auto",
    types_map: Annotated[
        str | None,
        typer.Option(help="Rename types: Peop=person,Org=company or a .json file; X= drops X."),
    ] = None,
    plain_types: Annotated[
        bool, typer.Option("--plain-types", help="Write types as words: Work_For -> work for.")
    ] = False,
    entity_types: TypesOption = None,
    relation_types: TypesOption = None,
    schema: SchemaFile = None,
    sub_schema: SubSchemaOption = None,
    columns: ColumnsOption = None,
    split: Annotated[str | None, typer.Option(help="Read only this split; default all.")] = None,
    subset: Annotated[str | None, typer.Option(help="Configuration of a hub data set.")] = None,
    rejected: RejectedFile = None,
    keep_faulty: KeepFaulty = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Write nothing if any row is rejected.")
    ] = False,
) -> None:
    """Turn a native layout into records. Rows that cannot be records are counted by reason.

    Example: t2g data import dev.json --layout spert --plain-types --out dev.jsonl
    """
    from t2g_ray.cli.data_tables import print_import
    from t2g_ray.data.importers.finish import ImportOptions
    from t2g_ray.data.importers.run import import_source, read_types_map, write_rejections
    from t2g_ray.data.importers.source import Source
    from t2g_ray.records.jsonl import write_records
    from t2g_ray.records.outputs import check_outputs

    options = ImportOptions(
        types_map=read_types_map(types_map) if types_map else {},
        plain_types=plain_types,
        entity_types=_names(entity_types),
        relation_types=_names(relation_types),
        keep_faulty=keep_faulty,
        sub_schema_seed=sub_schema,
    )
    found = Source.of(source, split=split, subset=subset)
    check_outputs({"--out": out, "--rejected": rejected}, [*found.inputs(), schema, types_map])
    result = import_source(
        found, options, layout=layout, schema_file=schema, columns=_columns(columns)
    )
    print_import(result, name=source)
    if rejected is not None:
        write_rejections(rejected, result.rejections)
    _check_kept(result, is_strict=strict)
    write_records(out, result.records)
    typer.echo(f"records: {out}")


@data_app.command("inspect")
def inspect_command(
    files: Annotated[
        list[Path], typer.Argument(exists=True, dir_okay=False, help="JSONL files, one a split.")
    ],
    json_out: Annotated[
        Path | None, typer.Option("--json", help="Write all figures as JSON here.")
    ] = None,
) -> None:
    """Show counts, types, lengths, faults and repeats of records, and leaks between splits.

    Example: t2g data inspect train.jsonl dev.jsonl --json figures.json
    """
    from t2g_ray.cli.data_tables import print_inspection
    from t2g_ray.data.inspect import inspect_files
    from t2g_ray.records.outputs import check_outputs, write_figures

    check_outputs({"--json": json_out}, files)
    inspection = inspect_files(files)
    print_inspection(inspection)
    if json_out is not None:
        write_figures(json_out, inspection.to_dict())


@data_app.command("select")
def select_command(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="JSONL of records.")],
    out: OutFile,
    held_out: Annotated[
        list[Path] | None,
        typer.Option(exists=True, dir_okay=False, help="Keep no text of this file; repeatable."),
    ] = None,
    min_chars: Annotated[int, typer.Option(min=1, help="Shortest text.")] = 1,
    max_chars: Annotated[int | None, typer.Option(min=1, help="Longest text.")] = None,
    min_entities: Annotated[int, typer.Option(min=0, help="Fewest entities.")] = 0,
    min_relations: Annotated[int, typer.Option(min=0, help="Fewest relations.")] = 0,
    near_duplicates: Annotated[
        bool, typer.Option(help="Keep records whose text is nearly that of an earlier one.")
    ] = False,
    max_records: Annotated[
        int | None, typer.Option(min=1, help="Draw this many, balanced over types and lengths.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the draw.")] = 0,
    rejected: RejectedFile = None,
) -> None:
    """Keep the records without faults or repeats, and write a card of what was left out and why.

    Example: t2g data select all.jsonl --held-out dev.jsonl --max-records 1000 --out train.jsonl
    """
    from t2g_ray.cli.data_tables import print_selection
    from t2g_ray.data.card import card_paths, write_card
    from t2g_ray.data.select import SelectOptions, select_records, write_rejected
    from t2g_ray.records.jsonl import load_records, write_records
    from t2g_ray.records.outputs import check_outputs

    cards = {f"the card of --out ({path.suffix})": path for path in card_paths(out)}
    check_outputs({"--out": out, "--rejected": rejected, **cards}, [file, *(held_out or ())])
    records = load_records(file)
    options = SelectOptions(
        min_chars=min_chars,
        max_chars=max_chars,
        min_entities=min_entities,
        min_relations=min_relations,
        remove_near=not near_duplicates,
        max_records=max_records,
        seed=seed,
    )
    texts = [record.text for path in held_out or () for record in load_records(path)]
    selection = select_records(records, options, held_out=texts)
    print_selection(selection)
    if rejected is not None:
        write_rejected(rejected, selection.rejected)
    if not selection.kept:
        raise ValueError(
            f"at least one of the {len(records)} records must pass, found none; see the reasons "
            "above and loosen the bounds"
        )
    write_records(out, selection.kept)
    for path in (out, *write_card(selection, file, out)):
        typer.echo(f"written: {path}")


def _names(value: str | None) -> tuple[str, ...] | None:
    """Names between commas, or in quotes; None when the option is not given."""
    if value is None:
        return None
    from t2g_ray.prompts.messages import read_types

    return tuple(dict.fromkeys(read_types("--entity-types and --relation-types", value)))


def _columns(value: str | None) -> tuple[str, ...] | None:
    """Names between commas, with the order and the repeats that columns have."""
    return None if value is None else tuple(name.strip() for name in value.split(","))


def _check_kept(result: ImportResult, *, is_strict: bool) -> None:
    """Raise ValueError when nothing, or with --strict not everything, became a record."""
    if not result.records and not result.rejections:
        raise ValueError("the source must hold at least one row, found none")
    if result.rejections and (is_strict or not result.records):
        first = result.rejections[0]
        wanted = "every row must become a record" if is_strict else "some row must become a record"
        raise ValueError(
            f"{wanted}, found {len(result.rejections)} of {result.counts['rows']} rejected; the "
            f"first is {first.place}: {first.message}"
        )
