"""The commands that need no cluster: eval, extract, score.

Invariant: standard output holds the result and nothing else; what engines and people say goes to
standard error. Heavy modules are imported inside the commands, so that --help responds at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from t2g_ray.records.outputs import check_outputs, write_figures, write_lines

if TYPE_CHECKING:
    from t2g_ray.config import PromptConfig
    from t2g_ray.types import Record

MAX_PROMPT_TOKENS = 4096
EMBEDDED_SPLITS: dict[str, Literal["heldout", "heldout_names"]] = {
    "embedded": "heldout",
    "embedded:names": "heldout_names",
}

Model = Annotated[
    str, typer.Option(help="Folder in Hugging Face format (model/ of a run), or a hub name.")
]
Style = Annotated[
    Literal["full", "compact"] | None,
    typer.Option(help="Prompt style; by default the one the model was trained with, else full."),
]
Thinking = Annotated[
    bool | None,
    typer.Option(
        "--thinking/--no-thinking", help="Let the model reason first; by default as trained."
    ),
]
MaxNewTokens = Annotated[
    int | None,
    typer.Option(min=1, help="Length limit of an answer; by default as trained, else 512."),
]
Constrained = Annotated[
    bool, typer.Option("--constrained", help="Hold the output to the JSON Schema of the types.")
]
MaxRecords = Annotated[
    int | None, typer.Option(min=1, help="Use only this many records, from the first.")
]
JsonOut = Annotated[
    Path | None, typer.Option("--json", help="Write the figures to this JSON file.")
]
PerRecord = Annotated[
    Path | None,
    typer.Option(help="Write each record's counts and details to this file, a line each."),
]


def eval_command(
    model: Model,
    data: Annotated[
        str, typer.Option(help="JSONL file of records, 'embedded' or 'embedded:names'.")
    ],
    json_out: JsonOut = None,
    max_records: MaxRecords = None,
    style: Style = None,
    thinking: Thinking = None,
    constrained: Constrained = False,
    max_new_tokens: MaxNewTokens = None,
    seed: Annotated[int, typer.Option(help="Seed of the embedded records and intervals.")] = 0,
    per_record: PerRecord = None,
) -> None:
    """Evaluate a model on held-out records: greedy answers, exact and relaxed F1.

    Example: t2g eval --model runs/demo/grpo/model --data embedded --json eval.json
    """
    from t2g_ray.cli.tables import print_evaluation
    from t2g_ray.evaluation.evaluate import evaluate_texts

    check_outputs({"--json": json_out, "--per-record": per_record}, [data, model])
    records = _eval_records(data, max_records, seed)
    prompt, limit = _settings(model, style, thinking, max_new_tokens, is_constrained=constrained)
    started_s = time.monotonic()
    with _quiet_engine():
        from t2g_ray.rollout.greedy import answer_records

        generated = answer_records(model, records, prompt, limit, is_constrained=constrained)
    wall_s = time.monotonic() - started_s
    result = evaluate_texts(
        records, generated.texts, thinking=prompt.thinking, lengths=generated.lengths
    )
    print_evaluation(result, title=f"{model} on {data}")
    if generated.num_too_long:
        shares = f"{generated.num_too_long} of {len(records)} prompts"
        typer.echo(f"{shares} did not fit and count as empty answers", err=True)
    if generated.num_closed:
        typer.echo(f"{generated.num_closed} answers were cut; their whole items count", err=True)
    if json_out is not None:
        settings = {
            "model": model,
            "data": data,
            "seed": seed,
            "style": prompt.style,
            "thinking": prompt.thinking,
            "constrained": constrained,
            "max_new_tokens": limit,
            "wall_s": wall_s,
            "prompts_too_long": generated.num_too_long,
            "completions_cut": generated.num_cut,
        }
        write_figures(json_out, {**result.figures(), **settings, **result.details(seed=seed)})
    if per_record is not None:
        write_lines(per_record, map(json.dumps, result.record_lines(generated.texts)))


def _eval_records(data: str, max_records: int | None, seed: int) -> list[Record]:
    from t2g_ray.prompts.load import HELDOUT_RECORDS
    from t2g_ray.records.corpus import generate_records
    from t2g_ray.records.jsonl import load_records

    split = EMBEDDED_SPLITS.get(data)
    if split is not None:
        return generate_records(split, max_records or HELDOUT_RECORDS, seed=seed)
    if not Path(data).is_file():
        raise ValueError(
            f"--data must be a JSONL file, {' or '.join(EMBEDDED_SPLITS)}, found no file at {data}"
        )
    return load_records(data)[:max_records]


def _settings(
    model: str,
    style: str | None,
    thinking: bool | None,
    max_new_tokens: int | None,
    *,
    is_constrained: bool,
) -> tuple[PromptConfig, int]:
    """The settings of the command line, else those of the model's folder."""
    from t2g_ray.config import PromptConfig
    from t2g_ray.prompts.settings import read_prompt_settings

    own = read_prompt_settings(model)
    prompt = PromptConfig.model_validate(
        {
            "style": style or own.style,
            "thinking": own.thinking if thinking is None else thinking,
            "max_tokens": MAX_PROMPT_TOKENS,
        }
    )
    if prompt.thinking and is_constrained:
        raise ValueError(
            "--constrained leaves no room for reasoning, found a model or an option that asks for "
            "it; add --no-thinking or leave --constrained out"
        )
    return prompt, max_new_tokens or own.max_new_tokens


@contextlib.contextmanager
def _quiet_engine() -> Iterator[None]:
    """Keep what the engine prints off standard output, and its start-up remarks away."""
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def extract_command(
    model: Model,
    entity_types: Annotated[
        str, typer.Option(help="Wanted types, separated by commas; one with a comma in quotes.")
    ],
    relation_types: Annotated[str, typer.Option(help="Wanted types; none by default.")] = "",
    text: Annotated[
        str | None, typer.Argument(help="The text; standard input when not given.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Read the text from here.")
    ] = None,
    constrained: Constrained = False,
    as_line: Annotated[
        bool, typer.Option("--json", help="Print the graph as one line of JSON and no table.")
    ] = False,
    style: Style = None,
    thinking: Thinking = None,
    max_new_tokens: MaxNewTokens = None,
) -> None:
    """Turn one text into a graph of the wanted types, printed as JSON.

    Example: t2g extract --model runs/demo/grpo/model --entity-types person,company
    --relation-types "works for" "Ada works for Acme."
    """
    from t2g_ray.cli.tables import print_graph
    from t2g_ray.graph.parsing import ParseFailure, parse_completion

    record = _record_of(_text_of(text, file), entity_types, relation_types)
    prompt, limit = _settings(model, style, thinking, max_new_tokens, is_constrained=constrained)
    with _quiet_engine():
        from t2g_ray.rollout.greedy import answer_records

        generated = answer_records(model, [record], prompt, limit, is_constrained=constrained)
    if generated.num_too_long:
        raise ValueError("the text must fit the model's context, it does not; give a shorter one")
    answer = parse_completion(generated.texts[0], thinking=prompt.thinking)
    if generated.num_closed and answer.graph is not None:
        whole = f"{len(answer.graph.entities)} entities, {len(answer.graph.relations)} relations"
        typer.echo(
            f"the answer must end within --max-new-tokens={limit}, it was cut there ({whole} were "
            "whole by then); raise the limit, ask for fewer types or give a shorter text",
            err=True,
        )
        raise typer.Exit(1)
    if isinstance(answer, ParseFailure):
        typer.echo(f"no graph in the answer: {answer.kind}: {answer.message}", err=True)
        typer.echo(f"the answer was: {generated.texts[0][:500]}", err=True)
        raise typer.Exit(1)
    if as_line:
        typer.echo(answer.graph.to_json())
        return
    typer.echo(json.dumps(answer.graph.to_dict(), indent=2, ensure_ascii=False))
    if sys.stderr.isatty():
        print_graph(answer.graph)


def _text_of(text: str | None, file: Path | None) -> str:
    if text is not None and file is not None:
        raise ValueError("give the text or --file, found both")
    if text is not None:
        return text
    source = sys.stdin.buffer.read() if file is None else file.read_bytes()
    try:
        return source.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"the text must be UTF-8: {error}; convert it") from None


def _record_of(text: str, entity_types: str, relation_types: str) -> Record:
    from t2g_ray.prompts.messages import read_types
    from t2g_ray.records.jsonl import record_from_dict

    names = {
        "entity_types": read_types("--entity-types", entity_types),
        "relation_types": read_types("--relation-types", relation_types),
    }
    if not names["entity_types"]:
        raise ValueError(f"--entity-types must name at least one type, found {entity_types!r}")
    empty: dict[str, Any] = {"entities": [], "relations": []}
    return record_from_dict({"text": text.strip(), **names, "graph": empty})


def score_command(
    gold: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="JSONL file of records.")],
    completions: Annotated[
        Path,
        typer.Option(exists=True, dir_okay=False, help='JSONL, {"completion": str} a line.'),
    ],
    reward: Annotated[str, typer.Option(help="Reward preset.")] = "default",
    per_record: PerRecord = None,
    json_out: JsonOut = None,
) -> None:
    """Score completions against gold records, line by line.

    Example: t2g score --gold heldout.jsonl --completions answers.jsonl --per-record rewards.jsonl
    """
    from t2g_ray.cli.tables import print_figures
    from t2g_ray.evaluation.files import score_files

    check_outputs({"--json": json_out, "--per-record": per_record}, [gold, completions])
    figures = score_files(gold, completions, preset=reward, per_record=per_record)
    print_figures(figures)
    if json_out is not None:
        write_figures(json_out, figures)
