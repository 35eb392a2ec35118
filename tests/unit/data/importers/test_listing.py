"""Names of files: what is data, what editors left behind, and which split a path names."""

from pathlib import Path

import pytest

from t2g_ray.data.importers.listing import has_rows, is_side_file, split_in, visible_files


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("train.json", "train"),
        ("conll04_DEV.jsonl.gz", "dev"),
        ("1triple_Monument_train.xml", "train"),
        ("valid.CoNLL04.json", "valid"),
        ("test/a.txt", "test"),
        ("a/Train/b/1.ann", "train"),
        ("test/train.json", "train"),
        ("train_dev.json", "train_dev"),
        ("train2017.json", "train"),
        ("data-00000-of-00002.json", None),
        ("contest.json", None),
        ("testament.txt", None),
        ("training-set.json", "training"),
    ],
)
def test_a_path_names_its_split(path: str, split: str | None) -> None:
    assert split_in(Path(path)) == split


def test_what_editors_notebooks_and_archives_leave_is_no_data(tmp_path: Path) -> None:
    kept = ["a.json", "b/c.JSON", "d e.txt"]
    left = [
        ".ipynb_checkpoints/a-checkpoint.json",
        "__MACOSX/._a.json",
        "b/.hidden.json",
        ".git/config.json",
        "a.json~",
        "~$a.json",
        "#a.json#",
        "b/__pycache__/x.json",
    ]
    for name in (*kept, *left):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    assert visible_files(tmp_path) == sorted(tmp_path / name for name in kept)
    inside = tmp_path / ".cache" / "set"
    inside.mkdir(parents=True)
    (inside / "a.json").write_text("{}")
    assert visible_files(inside) == [inside / "a.json"], "the folder's own place does not count"


def test_schema_files_are_known_in_any_case() -> None:
    assert is_side_file(Path("a/1_movie_Ontology.JSON"))
    assert is_side_file(Path("rel_info.json.GZ"), "*rel_info.json")
    assert not is_side_file(Path("rel_info.json"), "*types.json")
    assert not is_side_file(Path("types.jsonl"))
    assert has_rows(Path("a.JSONL.gz"))
    assert not has_rows(Path("dataset_info.json"))
