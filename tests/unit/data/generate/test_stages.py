"""What a stage asks about a record: messages, schema and seeds."""

from __future__ import annotations

from typing import Any

from t2g_ray.data.generate.stages import TeacherStage
from t2g_ray.records.corpus import build_tokenizer, generate_records

GOLD = {record.text: record for record in generate_records("train", 12, seed=0)}


def test_seeds_depend_on_the_run_the_stage_the_record_and_the_sample_alone() -> None:
    record = next(iter(GOLD.values()))
    stage = TeacherStage(name="graph", samples=3, seed=5)
    seeds = [request.seed for request in stage.requests(7, record)]
    assert seeds == [request.seed for request in stage.requests(7, record)]
    others = [
        *TeacherStage(name="graph", samples=3, seed=6).requests(7, record),
        *TeacherStage(name="graph", samples=3, seed=5).requests(8, record),
        *TeacherStage(name="reasoning", samples=3, seed=5).requests(7, record),
    ]
    assert len({*seeds, *(request.seed for request in others)}) == 12


def test_requests_show_the_text_the_types_and_what_the_stage_adds() -> None:
    record = next(r for r in GOLD.values() if r.graph.relations)
    names = [entity.text for entity in record.graph.entities]

    def content(name: Any) -> str:
        (request,) = TeacherStage(name=name, samples=1, seed=0).requests(0, record)
        assert (request.json_schema is None) == (request.grammar is None) == (name != "graph")
        return request.messages[-1]["content"]

    assert all(record.text in content(name) for name in ("graph", "paraphrase", "reasoning"))
    assert "; ".join(names) in content("paraphrase")
    assert record.graph.to_json() in content("reasoning")
    assert all(type_ in content("graph") for type_ in record.relation_types)


def test_the_compact_style_fits_the_tokenizer_of_the_tiny_policy() -> None:
    record = next(iter(GOLD.values()))
    (request,) = TeacherStage(name="graph", samples=1, seed=0, style="compact").requests(0, record)
    ids = build_tokenizer().apply_chat_template(
        list(request.messages), add_generation_prompt=True, return_dict=False
    )
    assert len(ids) < 160
