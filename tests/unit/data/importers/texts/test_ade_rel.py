"""Lines of the ADE corpus -> the relation that the file's name, or its names, say."""

from pathlib import Path

import pytest

from tests.unit.data.importers.parts import entities, read, relations, write

DOSE = "1|Took 5 mg zentol daily.|5 mg|105|109|zentol|110|116\n"
EFFECT = "1|Rash after zentol.|Rash|100|104|zentol|111|117\n"
NAMED = "pmid,text,{},start,end,drug,start,end"


@pytest.mark.parametrize(
    ("name", "line", "kind"),
    [
        ("DRUG-DOSE.rel", DOSE, "dose"),
        ("drug_dose.dev.rel", DOSE, "dose"),
        ("DRUG-AE.dev.rel", EFFECT, "adverse effect"),
        ("x.rel", DOSE, "dose"),
        ("x.rel", EFFECT, "adverse effect"),
        ("DRUG-DOSE.rel", DOSE.replace("5 mg", "a low"), "dose"),
    ],
)
def test_the_third_column_is_what_the_file_says(
    name: str, line: str, kind: str, tmp_path: Path
) -> None:
    (record,) = read(write(tmp_path / name, line)).records
    assert {type_ for _, type_ in entities(record)} == {kind, "drug"}
    assert [type_ for _, _, type_ in relations(record)] == [f"{kind} of"]


def test_names_of_both_kinds_are_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "x.rel", DOSE + EFFECT)
    with pytest.raises(ValueError, match=r"effects .DRUG-AE. or doses .DRUG-DOSE."):
        read(path)
    assert read(path, columns=NAMED.format("dose")).counts["kept"] == 2
    with pytest.raises(ValueError, match="--columns must be pmid,text,effect"):
        read(path, columns=NAMED.format("disease"))


def test_a_name_inside_a_word_is_one_only_where_the_offsets_put_it(tmp_path: Path) -> None:
    line = "1|Zentols gave a rash.|rash|115|119|Zentol|100|106\n"
    (record,) = read(write(tmp_path / "AE.rel", line)).records
    assert entities(record) == [("Zentol", "drug"), ("rash", "adverse effect")]
    moved = read(write(tmp_path / "AE.rel", line.replace("100|106", "90|96")))
    assert moved.reasons == {"entity_not_in_text": 1}
