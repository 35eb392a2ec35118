"""Entries of every release -> texts with their triples, or the reason why not."""

from pathlib import Path

import pytest

from tests.unit.data.importers.parts import read, relations, write

TRIPLE = "<modifiedtripleset><mtriple>Ada | boss | Bo</mtriple></modifiedtripleset>"
LEX = "<lex>Ada is the boss of Bo.</lex>"


def entry(content: str, folder: Path) -> Path:
    return write(folder / "a.xml", f"<benchmark><entry eid='1'>{content}</entry></benchmark>")


@pytest.mark.parametrize(
    "content",
    [
        TRIPLE + LEX,
        TRIPLE.replace("mtriple", "otriple").replace("modifiedotriple", "modifiedtriple") + LEX,
        "<originaltripleset><otriple>Ada | x | Bo</otriple></originaltripleset>" + TRIPLE + LEX,
        TRIPLE + "<lex><sortedtripleset><sentence ID='1'><striple>Ada | boss | Bo</striple>"
        "</sentence></sortedtripleset><references><reference>Ada</reference></references>"
        "<text>Ada is the boss of Bo.</text><template>AGENT is the boss of PATIENT</template>"
        "</lex>",
    ],
)
def test_every_release_gives_its_gold_and_the_text_alone(content: str, tmp_path: Path) -> None:
    (record,) = read(entry(content, tmp_path)).records
    assert record.text == "Ada is the boss of Bo."
    assert relations(record) == [("Ada", "Bo", "boss")]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (LEX, "no_triples"),
        ("<modifiedtripleset/>" + LEX, "no_triples"),
        ("<originaltripleset><otriple>Ada | x | Bo</otriple></originaltripleset>" + LEX,
         "no_triples"),
        (TRIPLE, "no_text"),
        (TRIPLE + TRIPLE + LEX, "wrong_shape"),
        (TRIPLE + "<lex><template>AGENT</template></lex>", "wrong_shape"),
        (TRIPLE + "<lex><text>Ada</text><text>Bo</text></lex>", "wrong_shape"),
        (TRIPLE.replace("mtriple>", "xtriple>") + LEX, "wrong_shape"),
        (TRIPLE.replace("Ada |", " |") + LEX, "wrong_shape"),
    ],
)  # fmt: skip
def test_what_is_absent_is_rejected_with_its_entry(
    content: str, reason: str, tmp_path: Path
) -> None:
    path = entry(content, tmp_path)
    result = read(path)
    assert (result.records, result.reasons) == ([], {reason: 1})
    assert result.rejections[0].place.startswith(f"{path}, entry 1")


def test_a_name_that_stands_only_inside_words_is_not_in_the_text(tmp_path: Path) -> None:
    content = TRIPLE.replace("Bo<", "5<") + "<lex>Ada is the boss since 1995.</lex>"
    assert read(entry(content, tmp_path)).reasons == {"entity_not_in_text": 1}
