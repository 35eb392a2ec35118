"""A record -> what a teacher is asked about it: a graph, a paraphrase, or the reasoning.

Invariant: a request depends on the stage, the record and its number alone, its seed included. So
it is the same in whichever batch, on whichever actor and in whichever run it is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from t2g_ray.graph.constrained import graph_grammar, graph_json_schema
from t2g_ray.prompts.messages import PromptStyle, build_messages, listed_types
from t2g_ray.types import Record

StageName = Literal["graph", "paraphrase", "reasoning"]
STAGES: tuple[StageName, ...] = get_args(StageName)

NO_RECORD = -1
"""Number of a request that is about no record."""

_PARAPHRASE = """\
Rewrite the text below in other words and other sentences. State everything that it states and \
add nothing. Write these names exactly as they are: {names}.
Answer with the new text and nothing else.

Text:
{text}"""

_REASONING = """\
The graph below holds the entities and relations of the wanted types that the text states. Write \
the reasoning of somebody who finds this graph in the text: which words name an entity and why it \
has its type, which words state a relation and in which direction, and which types the text says \
nothing about. Reason from the text, as if you had not seen the graph. Be brief, write plain \
sentences and no JSON.

Entity types: {entity_types}
Relation types: {relation_types}

Text:
{text}

Graph:
{graph}"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherRequest:
    """One question. `number` is that of the record in its stage, `sample` counts its answers."""

    number: int
    sample: int
    messages: tuple[dict[str, str], ...]
    json_schema: Mapping[str, Any] | None
    """What an endpoint is asked to keep to."""
    seed: int
    grammar: str | None = None
    """The same for an engine, with no text that is not Unicode."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherStage:
    """Example: TeacherStage(name="graph", samples=4, seed=0, style="full")."""

    name: StageName
    samples: int
    seed: int
    style: PromptStyle = "full"
    """How the teacher is asked for a graph."""

    def requests(self, number: int, record: Record) -> list[TeacherRequest]:
        """The questions about one record."""
        schema, grammar = None, None
        if self.name == "graph":
            schema = graph_json_schema(record.entity_types, record.relation_types)
            grammar = graph_grammar(record.entity_types, record.relation_types)
        return [
            TeacherRequest(
                number=number,
                sample=sample,
                messages=tuple(self._messages(record)),
                json_schema=schema,
                grammar=grammar,
                seed=self._seed(number, sample),
            )
            for sample in range(self.samples)
        ]

    def _messages(self, record: Record) -> list[dict[str, str]]:
        if self.name == "graph":
            return build_messages(
                record.text,
                record.entity_types,
                record.relation_types,
                style=self.style,
                thinking=False,
            )
        template = _PARAPHRASE if self.name == "paraphrase" else _REASONING
        names = dict.fromkeys(entity.text for entity in record.graph.entities)
        content = template.format(
            text=record.text,
            names="; ".join(names) or "none",
            entity_types=listed_types(record.entity_types),
            relation_types=listed_types(record.relation_types) or "none",
            graph=record.graph.to_json(),
        )
        return [{"role": "user", "content": content}]

    def _seed(self, number: int, sample: int) -> int:
        key = (self.seed, STAGES.index(self.name), number, sample)
        # 31 bits: endpoints take no more.
        return int(np.random.SeedSequence(key).generate_state(1, np.uint32)[0] >> 1)


def small_question(*, is_graph: bool) -> TeacherRequest:
    """What every teacher that works answers, in the form of the stage: as a graph, or as a text."""
    return TeacherRequest(
        number=NO_RECORD,
        sample=0,
        messages=({"role": "user", "content": "Is the sky blue? Answer briefly."},),
        json_schema=graph_json_schema(("colour",), ()) if is_graph else None,
        seed=0,
    )
