"""Every layout, read from a small invented file.

Modules of `tokens`, `texts` and `conll` (`columns`, `relations`) are read through their layouts.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import pytest

from t2g_ray.data.importers.registry import LAYOUTS
from t2g_ray.data.importers.run import (
    import_source,
)
from t2g_ray.data.importers.source import Source
from tests.unit.data.importers.parts import TOKENS, entities, lines, read, relations, write

TEXT = "Ada Stone joined Orbit Mills."
ENTITIES = [("Ada Stone", "Peop"), ("Orbit Mills", "Org")]
RELATIONS = [("Ada Stone", "Orbit Mills", "Work_For")]
SENTENCE = "Ada Stone joined Orbit Mills ."

SPERT_ROW: dict[str, Any] = {
    "tokens": TOKENS,
    "entities": [{"type": "Peop", "start": 0, "end": 2}, {"type": "Org", "start": 3, "end": 5}],
    "relations": [{"type": "Work_For", "head": 0, "tail": 1}],
}
SPAN_ROW = {
    "tokens": TOKENS,
    "entities": [[0, 2, "Peop"], [3, 5, "Org"]],
    "relations": [[0, 2, 3, 5, "Work_For"]],
}
TAGGED_ROW = {
    "tokens": TOKENS,
    "tags": ["B-Peop", "L-Peop", "O", "B-Org", "L-Org", "O"],
    "relations": [{"head": 0, "tail": 1, "type": "Work_For"}],
}
DYGIE_ROW = {
    "doc_key": "story",
    "sentences": [["It", "rained", "."], TOKENS],
    "ner": [[], [[3, 4, "Peop"], [6, 7, "Org"]]],
    "relations": [[], [[3, 4, 6, 7, "Work_For"]]],
}
SCIER_ROW = {
    "doc_id": "7",
    "sentence": SENTENCE,
    "ner": [["Ada Stone", "Peop"], ["Orbit Mills", "Org"]],
    "rel": [["Ada Stone", "Work_For", "Orbit Mills"]],
}
DOCRED_ROW = {
    "title": "Ada",
    "sents": [TOKENS, ["Stone", "left", "."]],
    "vertexSet": [
        [
            {"name": "Stone", "pos": [0, 1], "sent_id": 1, "type": "Peop"},
            {"name": "Ada Stone", "pos": [0, 2], "sent_id": 0, "type": "Peop"},
        ],
        [{"name": "Orbit Mills", "pos": [3, 5], "sent_id": 0, "type": "Org"}],
    ],
    "labels": [{"h": 0, "t": 1, "r": "P108", "evidence": [0]}],
}
GRAPH = {
    "entities": [
        {"id": 0, "text": "Ada Stone", "type": "Peop"},
        {"id": 1, "text": "Orbit Mills", "type": "Org"},
    ],
    "relations": [{"head": "Ada Stone", "tail": "Orbit Mills", "type": "Work_For"}],
}
RECORD_ROW = {
    "text": TEXT,
    "entity_types": ["Peop", "Org"],
    "relation_types": ["Work_For"],
    "graph": GRAPH,
}
COLUMNS = """#doc 12
0\tAda\tB-Peop\t['N']\t[0]
1\tStone\tI-Peop\t['Work_For']\t[4]
2\tjoined\tO\t['N']\t[2]
3\tOrbit\tB-Org\t['N']\t[3]
4\tMills\tI-Org\t['N']\t[4]
5\t.\tO\t['N']\t[5]
"""
BIO = "-DOCSTART- X O\n\nAda NN B-Peop\nStone NN I-Peop\njoined VB O\n\nRain NN O\n"
ADE = "\n".join(
    [
        "11|Drowsiness and rash after zentol.|rash|115|119|zentol|126|132",
        "11|Drowsiness and rash after zentol.|Drowsiness|100|110|zentol|126|132",
        "12|Mirapax gave a cough.|cough|15|20|mirapax|0|7",
    ]
)
WEBNLG = """<?xml version='1.0' encoding='utf-8'?>
<benchmark><entries><entry category="Work" eid="Id1" size="1">
<modifiedtripleset><mtriple>Ada_Stone | employer | "Orbit Mills"@en</mtriple></modifiedtripleset>
<lex comment="good" lid="Id1">Ada Stone works at orbit mills.</lex>
<lex comment="bad" lid="Id2">Ada Stone Orbit Mills.</lex>
<lex comment="good" lid="Id3" lang="ru">Ada Stone, Orbit Mills.</lex>
<lex comment="good" lid="Id4">She works at Orbit Mills.</lex>
</entry></entries></benchmark>
"""
ONTOLOGY = {
    "id": "ont_9_work",
    "concepts": [{"qid": "Q1", "label": "person"}, {"qid": "Q2", "label": "company"}],
    "relations": [
        {"pid": "P1", "label": "employer", "domain": "Q1", "range": "Q2"},
        {"pid": "P2", "label": "foundedIn", "domain": "Q2", "range": "date"},
    ],
}
TRIPLES_ROW = {
    "id": "ont_9_work_train_1",
    "sent": "Ada Stone joined Orbit Mills, founded in 1904.",
    "triples": [
        {"sub": "Ada_Stone", "rel": "employer", "obj": "Orbit_Mills"},
        {"sub": "Orbit_Mills", "rel": "foundedIn", "obj": '"1904"'},
    ],
}

JSON_CASES: Sequence[tuple[str, dict[str, Any]]] = [
    ("records", RECORD_ROW),
    ("spert", SPERT_ROW),
    ("span_json", SPAN_ROW),
    ("tagged_json", TAGGED_ROW),
    ("scier", SCIER_ROW),
]


@pytest.mark.parametrize(("layout", "row"), JSON_CASES)
@pytest.mark.parametrize("is_array", [True, False])
def test_a_sentence_in_each_json_layout_gives_one_record(
    layout: str, row: dict[str, Any], is_array: bool, tmp_path: Path
) -> None:
    result = read(write(tmp_path / "rows.json", [row] if is_array else lines(row)))
    assert result.layout.name == layout
    (record,) = result.records
    assert record.text == TEXT
    assert entities(record) == ENTITIES
    assert relations(record) == RELATIONS
    assert record.entity_types == ("Peop", "Org")
    assert record.relation_types == ("Work_For",)
    assert result.rejections == []


def test_dygie_documents_become_sentences_with_positions_of_their_own(tmp_path: Path) -> None:
    result = read(write(tmp_path / "rows.jsonl", lines(DYGIE_ROW)))
    assert result.layout.name == "dygie"
    first, second = result.records
    assert (first.text, entities(first)) == ("It rained.", [])
    assert (second.text, entities(second), relations(second)) == (TEXT, ENTITIES, RELATIONS)
    assert second.extra == {"id": "story-2"}


def test_docred_takes_the_longest_mention_and_the_names_of_relations(tmp_path: Path) -> None:
    write(tmp_path / "rel_info.json", {"P108": "employer", "P17": "country"})
    result = read(write(tmp_path / "rows.json", [DOCRED_ROW]))
    (record,) = result.records
    assert record.text == "Ada Stone joined Orbit Mills. Stone left."
    assert entities(record) == ENTITIES
    assert relations(record) == [("Ada Stone", "Orbit Mills", "employer")]
    assert record.relation_types == ("employer", "country")
    assert result.changes == {"other mention of an entity not kept": 1}


def test_conll04_columns_join_the_last_tokens_of_entities(tmp_path: Path) -> None:
    result = read(write(tmp_path / "dev.txt", COLUMNS * 2))
    assert result.layout.name == "conll_relations"
    for record in result.records:
        assert (record.text, entities(record)) == (TEXT, ENTITIES)
        assert relations(record) == RELATIONS
        assert record.extra == {"id": "12"}
    assert len(result.records) == 2


def test_conll_columns_have_the_tag_last_and_no_relations(tmp_path: Path) -> None:
    result = read(write(tmp_path / "dev.conll", BIO))
    assert result.layout.name == "conll_columns"
    assert [r.text for r in result.records] == ["Ada Stone joined", "Rain"]
    assert [entities(r) for r in result.records] == [[("Ada Stone", "Peop")], []]


def test_ade_lines_of_one_sentence_become_one_record(tmp_path: Path) -> None:
    result = read(write(tmp_path / "DRUG.rel", ADE))
    assert result.layout.name == "ade_rel"
    first, second = result.records
    assert entities(first) == [
        ("Drowsiness", "adverse effect"),
        ("rash", "adverse effect"),
        ("zentol", "drug"),
    ]
    assert relations(first) == [
        ("rash", "zentol", "adverse effect of"),
        ("Drowsiness", "zentol", "adverse effect of"),
    ]
    assert relations(second) == [("cough", "Mirapax", "adverse effect of")]
    assert result.changes == {"repeated entity merged": 1}


def test_webnlg_names_take_the_form_of_the_text(tmp_path: Path) -> None:
    result = read(write(tmp_path / "work.xml", WEBNLG))
    (record,) = result.records
    assert entities(record) == [("Ada Stone", "entity"), ("orbit mills", "entity")]
    assert relations(record) == [("Ada Stone", "orbit mills", "employer")]
    assert record.extra == {"id": "Id1-Id1", "category": "Work"}
    assert result.reasons == {"marked_bad": 1, "other_language": 1, "entity_not_in_text": 1}


@pytest.mark.parametrize(
    "declaration",
    [
        '<!DOCTYPE b [<!ENTITY x SYSTEM "file:///etc/hostname">]>',
        '<!DOCTYPE b [<!ENTITY x "xxxxxxxxxx"><!ENTITY y "&x;&x;&x;&x;&x;&x;">]>',
        '<!DOCTYPE b SYSTEM "http://localhost:1/b.dtd">',
    ],
)
def test_xml_with_a_document_type_is_refused(declaration: str, tmp_path: Path) -> None:
    path = write(tmp_path / "bad.xml", f"{declaration}<benchmark>&x;&y;</benchmark>")
    with pytest.raises(ValueError, match=r"bad\.xml: must be WebNLG XML, .*<!DOCTYPE>"):
        read(path)


def test_broken_xml_names_file_and_line(tmp_path: Path) -> None:
    path = write(tmp_path / "bad.xml", "<benchmark>\n<entry>\n</benchmark>")
    with pytest.raises(ValueError, match=r"bad\.xml: must be WebNLG XML, .*line 3"):
        read(path)


def test_text2kgbench_types_entities_by_the_relations_they_are_in(tmp_path: Path) -> None:
    write(tmp_path / "9_work_ontology.json", ONTOLOGY)
    result = read(write(tmp_path / "ont_9_work_train.jsonl", lines(TRIPLES_ROW)))
    (record,) = result.records
    assert entities(record) == [
        ("Ada Stone", "person"),
        ("Orbit Mills", "company"),
        ("1904", "date"),
    ]
    assert relations(record) == [
        ("Ada Stone", "Orbit Mills", "employer"),
        ("Orbit Mills", "1904", "foundedIn"),
    ]
    assert record.entity_types == ("person", "company", "date")
    assert record.extra == {"id": "ont_9_work_train_1", "ontology": "ont_9_work"}


def test_text2kgbench_lines_of_one_triple_are_merged_by_sentence(tmp_path: Path) -> None:
    write(tmp_path / "9_work_ontology.json", ONTOLOGY)
    shared = {"sent": "Zo\u00c3\u00ab and Ada work at Orbit.", "rel_label": "employer"}
    rows = [
        shared | {"id": f"ont_9_work_{n}", "sub_label": name, "obj_label": "Orbit"}
        for n, name in enumerate(["Zo\u00eb", "Ada"])
    ]
    result = read(write(tmp_path / "rows.jsonl", lines(*rows)))
    (record,) = result.records
    assert record.text == "Zo\u00eb and Ada work at Orbit."
    assert entities(record) == [("Zo\u00eb", "person"), ("Ada", "person"), ("Orbit", "company")]
    assert result.changes["mis-decoded text mended"] == 1


def test_rows_of_many_ontologies_find_theirs_by_id(tmp_path: Path) -> None:
    other = ONTOLOGY | {"id": "ont_9", "concepts": [{"qid": "Q1", "label": "robot"}]}
    write(tmp_path / "ontologies" / "a_ontology.json", other)
    write(tmp_path / "ontologies" / "b_ontology.json", ONTOLOGY)
    stray = TRIPLES_ROW | {"id": "ont_8_1"}
    path = write(tmp_path / "train" / "rows.jsonl", lines(TRIPLES_ROW, stray))
    result = read(path)
    assert result.records[0].extra["ontology"] == "ont_9_work"
    assert result.reasons == {"no_ontology": 1}


def brat(folder: Path, annotations: str, text: str = TEXT) -> Path:
    write(folder / "a.ann", annotations)
    return write(folder / "a.txt", text).parent


def test_brat_pairs_of_files_become_records(tmp_path: Path) -> None:
    folder = brat(
        tmp_path / "set",
        "T1\tPeop 0 9\tAda Stone\nT2\tOrg 17 28\tOrbit Mills\nR1\tWork_For Arg1:T1 Arg2:T2\n"
        "A1\tNegated R1\n#1\tNote T1\tsure\n",
    )
    write(folder / "alone.ann", "")
    result = read(folder)
    (record,) = result.records
    assert (record.text, entities(record), relations(record)) == (TEXT, ENTITIES, RELATIONS)
    assert result.changes == {"attribute not read": 1, "note not read": 1}
    assert result.reasons == {"half_a_pair": 1}


@pytest.mark.parametrize(
    ("annotations", "reason"),
    [
        ("T1\tPeop 0 8\tAda Stone", "offsets_do_not_fit"),
        ("T1\tPeop 0 3;4 9\tAda Stone", "entity_in_pieces"),
        ("T1\tPeop 0\tAda", "wrong_shape"),
        ("R1\tWork_For Arg1:T1 Arg2:T2", "unknown_relation_end"),
        ("R1\tWork_For Arg1:T1", "wrong_shape"),
        ("?", "wrong_shape"),
    ],
)
def test_a_faulty_annotation_rejects_its_document(
    annotations: str, reason: str, tmp_path: Path
) -> None:
    result = read(brat(tmp_path / "set", annotations))
    assert (result.records, result.reasons) == ([], {reason: 1})


def test_brat_offsets_count_both_characters_of_a_line_end(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "a.txt").write_bytes(b"One.\r\nAda left.")
    (folder / "a.ann").write_bytes(b"T1\tPeop 6 9\tAda\r\n")
    (record,) = read(folder).records
    assert entities(record) == [("Ada", "Peop")]


def chat(text: str, solution: object, instruction: str = "Read as per instructions:") -> object:
    messages = [
        {"role": "system", "content": "You write graphs."},
        {"role": "user", "content": f"{instruction}{text}"},
    ]
    return {"prompt": messages, "solution": solution}


def test_chat_rows_lose_their_instruction_and_keep_their_own_types(tmp_path: Path) -> None:
    other = {"entities": [{"id": 4, "text": "Bo", "type": "cat"}], "relations": []}
    rows = [
        chat(TEXT, json.dumps(GRAPH), "Find the graph.\nText: "),
        chat("Bo: asleep.", json.dumps(other), "Find the graph.\nText: "),
    ]
    result = read(write(tmp_path / "text2graph.json", rows))
    assert result.layout.name == "prompt_solution"
    first, second = result.records
    assert (first.text, entities(first), relations(first)) == (TEXT, ENTITIES, RELATIONS)
    assert (second.text, second.entity_types) == ("Bo: asleep.", ("cat",))


@pytest.mark.parametrize(
    ("instruction", "text"), [("Read as per given instructions:", TEXT), ("Go! ", f"Go! {TEXT}")]
)
def test_a_lone_chat_row_has_the_usual_instruction(
    instruction: str, text: str, tmp_path: Path
) -> None:
    graph = GRAPH | {"relations": [{"head": 0, "tail": 1, "type": "Work_For"}]}
    result = read(write(tmp_path / "rows.json", [chat(TEXT, graph, instruction)]))
    assert result.records[0].text == text
    assert relations(result.records[0]) == RELATIONS
    assert sum(result.changes.values()) == (text != TEXT)


def test_a_solution_that_is_not_json_is_rejected_with_its_place(tmp_path: Path) -> None:
    rows = [chat(TEXT, json.dumps(GRAPH)), chat("Other.", '{"entities": [')]
    result = read(write(tmp_path / "rows.json", rows))
    (rejection,) = result.rejections
    assert rejection.reason == "solution_not_json"
    assert rejection.place.endswith("rows.json, record 2")


def test_a_folder_that_datasets_wrote_is_read_split_by_split(tmp_path: Path) -> None:
    train = datasets.Dataset.from_list([SPERT_ROW, SPERT_ROW])
    test = datasets.Dataset.from_list([SPERT_ROW])
    datasets.DatasetDict({"train": train, "test": test}).save_to_disk(str(tmp_path / "set"))
    name = str(tmp_path / "set")
    assert import_source(Source.of(name)).counts["kept"] == 3
    assert import_source(Source.of(name, split="test")).counts["kept"] == 1
    with pytest.raises(ValueError, match="must have the split 'dev', found"):
        import_source(Source.of(name, split="dev"))


def test_a_folder_of_parquet_is_read_as_a_hub_data_set_is(tmp_path: Path) -> None:
    folder = tmp_path / "set" / "data"
    folder.mkdir(parents=True)
    row = chat(TEXT, json.dumps(GRAPH))
    datasets.Dataset.from_list([row]).to_parquet(str(folder / "train-00000.parquet"))
    result = import_source(Source.of(str(tmp_path / "set")))
    assert result.layout.name == "prompt_solution"
    assert relations(result.records[0]) == RELATIONS


@pytest.mark.parametrize("name", ["owner/set", "missing.json", "data/trian", "set", "", "a/b/c"])
def test_only_a_name_with_a_prefix_is_of_the_hub(name: str) -> None:
    assert Source.of("hub:owner/set").path is None
    assert Source.of("hub:set").name == "set"
    with pytest.raises(ValueError, match=rf"found nothing at '{name}'.* write hub:{name} for a"):
        Source.of(name)


def test_every_layout_is_read_in_some_test() -> None:
    assert set(LAYOUTS) == {
        *(name for name, _ in JSON_CASES),
        *("dygie", "docred", "conll_relations", "conll_columns", "ade_rel"),
        *("webnlg", "text2kgbench", "brat", "prompt_solution"),
    }
