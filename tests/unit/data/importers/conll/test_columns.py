"""Lines of columns -> sentences: no token is lost, cut or joined to the next document."""

from pathlib import Path

import pytest

from tests.unit.data.importers.parts import entities, read, write

GERMEVAL = """#\thttp://example.org/a [2009-10-17]
1\tAda\tB-PER\tO
2\tlebt\tO\tO
3\tin\tO\tO
4\tUlm\tB-LOC\tO

#\thttp://example.org/b [2009-10-17]
1\tRegen\tO\tO

"""
CONLL_2003 = """-DOCSTART- -X- -X- O

Orbit NNP B-NP B-ORG
grows VBZ B-VP O
-DOCSTART- -X- -X- O
Ada NNP B-NP B-PER
left VBD B-VP O
"""


def texts(path: Path, columns: str | None = None) -> list[str]:
    return [record.text for record in read(path, columns=columns).records]


def test_an_index_before_the_token_is_no_token(tmp_path: Path) -> None:
    result = read(write(tmp_path / "de.tsv", GERMEVAL))
    assert [r.text for r in result.records] == ["Ada lebt in Ulm", "Regen"]
    assert entities(result.records[0]) == [("Ada", "PER"), ("Ulm", "LOC")]
    assert result.rejections == []


def test_nested_tags_are_asked_for_and_read_together(tmp_path: Path) -> None:
    path = write(tmp_path / "de.tsv", GERMEVAL.replace("B-LOC\tO", "B-LOC\tB-LOCpart"))
    with pytest.raises(
        ValueError, match=r"tags of entities, found the columns \[3, 4\].*--columns"
    ):
        read(path)
    nested = read(path, columns="index,token,tag,tag").records[0]
    assert entities(nested) == [("Ada", "PER"), ("Ulm", "LOC"), ("Ulm", "LOCpart")]
    outer = read(path, columns="index,token,tag,-").records[0]
    assert entities(outer) == [("Ada", "PER"), ("Ulm", "LOC")]


def test_a_document_mark_parts_documents_without_an_empty_line(tmp_path: Path) -> None:
    result = read(write(tmp_path / "en.txt", CONLL_2003))
    assert [r.text for r in result.records] == ["Orbit grows", "Ada left"]
    assert [entities(r) for r in result.records] == [[("Orbit", "ORG")], [("Ada", "PER")]]


def test_an_index_that_starts_again_parts_sentences(tmp_path: Path) -> None:
    lines = "1\tAda\tB-P\n2\tran\tO\n# next\n1\tBo\tB-P\n2\tsat\tO\n"
    assert texts(write(tmp_path / "a.tsv", lines)) == ["Ada ran", "Bo sat"]


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        ("10\u00a0000\tB-N\nkm\tO\n", "10\u00a0000 km"),
        ("New York\tB-L\nwins\tO\n", "New York wins"),
        ("a\u3000b\tB-L\nwins\tO\n", "a\u3000b wins"),
        ("10\u202f000 B-N\nkm O\n", "10\u202f000 km"),
        ("Ada\tB-P\n#\tO\n1\tO\n", "Ada #1"),
        ("Ada B-P\n# O\n1 O\n", "Ada #1"),
        ("#\tO\nAda\tB-P\n", "#Ada"),
        ("\uac00\tB-P\n \tO\n\ub098\tO\n", "\uac00 \ub098"),
        ("Ada\tB-P\n\u00a0\tO\nran\tO\n", "Ada\u00a0ran"),
        ("\u5317\tB-L\n\u4eac\tI-L\n1\tO\n9\tO\n\u5e74\tO\n", "\u5317\u4eac19\u5e74"),
        ("\u6771\u4eac\tB-L\n\u306b\tO\n\u3044\u308b\tO\n", "\u6771\u4eac\u306b\u3044\u308b"),
        ("Ada  B-P\nran  O\n", "Ada ran"),
        ("Ada\tB-P\r\nran\tO\r\n\r\n", "Ada ran"),
        ("1995\tB-N\n2001\tO\n", "1995 2001"),
    ],
)
def test_every_token_is_in_the_text_as_it_stands_in_its_column(
    lines: str, text: str, tmp_path: Path
) -> None:
    result = read(write(tmp_path / "a.txt", lines), layout="conll_columns")
    assert ([r.text for r in result.records], result.rejections) == ([text], [])
    assert len(result.records[0].graph.entities) == 1


@pytest.mark.parametrize(
    "lines",
    [
        "Ada\tB-P\n# a remark\nran\tO\n",
        "Ada\tB-P\nran\nout\tO\n",
        "Ada\tB-P\n\tO\n",
        "Ada\tB-P\nran\tO\tO\nout\tO\n",
        "1-2\tdon't\tO\n1\tdo\tO\n2\tn't\tO\n3\tgo\tB-P\n",
    ],
)
def test_a_line_of_other_columns_rejects_its_sentence_with_its_place(
    lines: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.tsv", lines + "\n" + lines.splitlines()[-1] + "\n")
    result = read(path, layout="conll_columns")
    assert result.reasons["wrong_columns"] >= 1
    assert result.rejections[0].place == f"{path}:1"


def test_a_header_names_the_columns_and_is_no_token(tmp_path: Path) -> None:
    lines = "pos\tword\tner\nNNP\tAda\tB-P\nVBD\tran\tO\n"
    (record,) = read(write(tmp_path / "a.tsv", lines)).records
    assert (record.text, entities(record)) == ("Ada ran", [("Ada", "P")])


def test_a_page_beside_the_data_is_rejected_and_the_data_read(tmp_path: Path) -> None:
    write(tmp_path / "set" / "a.txt", "Ada B-P\nran O\n")
    write(tmp_path / "set" / "read me.txt", "These are data.\nOnly good ones.\n")
    result = read(tmp_path / "set")
    assert ([r.text for r in result.records], result.reasons) == (["Ada ran"], {"no_tags": 1})


def test_a_word_that_columns_are_called_by_is_a_token(tmp_path: Path) -> None:
    lines = "Ada\tNE\tB-P\nran\tVV\tO\n\nWord\tNE\tB-O\nran\tVV\tO\n\ntext\tlabel\tO\n"
    for content in (lines, "Word\tNE\tB-O\n" + lines):
        result = read(write(tmp_path / "a.tsv", content), columns="token,-,tag")
        assert [r.text for r in result.records][1:] == ["Word ran", "text"]


def test_relations_are_not_asked_of_lines_that_have_none(tmp_path: Path) -> None:
    path = write(tmp_path / "en.txt", CONLL_2003)
    with pytest.raises(ValueError, match="relation types must not be asked of a layout without"):
        read(path, relation_types=("works for",))
