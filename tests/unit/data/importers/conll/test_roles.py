"""Cells -> what each column is: by option, header or check, never by place alone."""

import pytest

from t2g_ray.data.importers.conll.roles import Roles, header_roles, named_roles, shown_roles


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.split("/")]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("Ada B-P/ran O", Roles(num_columns=2, token=0, tags=(1,))),
        ("Ada NNP B-P/ran VBD O", Roles(num_columns=3, token=0, tags=(2,))),
        ("B-P Ada/O ran", Roles(num_columns=2, token=1, tags=(0,))),
        ("1 Ada B-P/2 ran O", Roles(num_columns=3, token=1, tags=(2,), index=0)),
        ("0 Ada B-P/1 ran O/0 Bo O", Roles(num_columns=3, token=1, tags=(2,), index=0)),
        ("Ada NN B-NP B-P/ran VB B-VP O", Roles(num_columns=4, token=0, tags=(3,))),
        ("Ada NN B-NP O/ran VB B-VP O", Roles(num_columns=4, token=0, tags=(3,))),
        ("Ada B-P O/ran O O", Roles(num_columns=3, token=0, tags=(1,))),
        ("7 Ada B-P/9 ran O", Roles(num_columns=3, token=1, tags=(2,))),
    ],
)
def test_the_cells_show_what_the_columns_are(lines: str, expected: Roles) -> None:
    assert shown_roles(rows(lines)) == expected


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("Ada B-P B-X/ran O O", "tags of entities"),
        ("Ada NN/ran VB", "tags of entities"),
        ("1 B-P/2 O/3 O", "holds the tokens"),
        ("d Ada B-P/d ran O/d off O", "holds the tokens"),
        ("B-P O/O B-Q", "tags of entities"),
    ],
)
def test_what_the_cells_do_not_show_is_asked(lines: str, words: str) -> None:
    with pytest.raises(ValueError, match=f"{words}.*--columns"):
        shown_roles(rows(lines))


def test_a_header_names_columns_in_the_words_of_its_format() -> None:
    assert header_roles(["ID", "FORM", "UPOS", "X:NER"]) == named_roles(
        ["index", "token", "-", "tag"]
    )
    assert header_roles(["Ada", "NN", "B-P"]) is None


@pytest.mark.parametrize("names", ["token", "token,token,tag", "tag", "index,index,token,tag", ""])
def test_names_that_leave_a_role_open_are_refused(names: str) -> None:
    with pytest.raises(ValueError, match="columns must be one token, at least one tag"):
        named_roles(names.split(","))
