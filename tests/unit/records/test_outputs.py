"""Files to write: what would destroy an input is refused, and what is written is whole."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from t2g_ray.records.outputs import check_folder, check_outputs, write_figures, write_lines


def linked(path: Path, target: Path) -> Path:
    path.symlink_to(target)
    return path


def hard_linked(path: Path, target: Path) -> Path:
    path.hardlink_to(target)
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder of the inputs all.jsonl and more/dev.jsonl."""
    folder = tmp_path / "data"
    (folder / "more").mkdir(parents=True)
    (folder / "all.jsonl").write_text("{}\n")
    (folder / "more" / "dev.jsonl").write_text("{}\n")
    return folder


def refused(path: Path, *inputs: Path | str | None) -> str:
    with pytest.raises(ValueError) as caught:
        check_outputs({"--out": path}, inputs)
    return str(caught.value)


def test_an_output_is_no_input_under_any_name(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = data / "all.jsonl"
    monkeypatch.chdir(data)
    for path in (
        source,
        Path("all.jsonl"),
        data / "more" / ".." / "all.jsonl",
        linked(data.parent / "link", data) / "all.jsonl",
        hard_linked(data / "other.jsonl", source),
    ):
        assert "--out must not be an input of the command" in refused(path, "owner/name", source)
    no_paths = ["hub:owner/name", "", "A=b," * 1000, "\0"]
    check_outputs({"--out": data / "new.jsonl"}, [source, None, *no_paths])


def test_an_output_is_not_inside_an_input_folder(data: Path) -> None:
    for path in (
        data / "new.jsonl",
        data / "deep" / "er" / "new.jsonl",
        data / "more" / "new.jsonl",
        linked(data.parent / "link", data / "more") / "new.jsonl",
    ):
        assert "must not be inside the input folder" in refused(path, data)
    check_outputs({"--out": data.parent / "data.jsonl"}, [data])


def test_an_output_is_a_file_that_can_be_written(data: Path) -> None:
    assert "found the folder" in refused(data)
    assert "must not be a link" in refused(linked(data.parent / "a", data / "all.jsonl"))
    assert "must not be a link" in refused(linked(data.parent / "b", data / "nothing"))
    assert "must not be a link" in refused(linked(data.parent / "c", data))
    assert "must be a regular file" in refused(Path("/dev/null"))
    assert "must be in a folder" in refused(data / "all.jsonl" / "out.jsonl")
    assert "must be in a folder" in refused(data / "all.jsonl" / "deep" / "out.jsonl")
    assert "must not end like a packed file" in refused(data / "out.jsonl.gz")
    assert "what ~ stands for" in refused(Path("~/out.jsonl"))
    assert "at most 200 bytes" in refused(data / ("n" * 240))


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_folder_without_permission_is_refused(data: Path) -> None:
    data.chmod(0o500)
    assert "can be written to" in refused(data / "out.jsonl")


def test_two_outputs_are_two_files(data: Path) -> None:
    out = data / "out.jsonl"
    for other in (out, data / "more" / ".." / "out.jsonl"):
        with pytest.raises(ValueError, match="--rejected and --out must be two files"):
            check_outputs({"--out": out, "--rejected": other}, [])
    check_outputs({"--out": out, "--rejected": None, "--json": data / "b"}, [])


def test_a_run_folder_is_apart_from_its_inputs(data: Path) -> None:
    dev = data / "more" / "dev.jsonl"
    for folder in (data, data / "run", linked(data.parent / "link", data) / "more" / "run"):
        with pytest.raises(ValueError, match="must not be"):
            check_folder("run_dir", folder, [data, "owner/name", None])
    for folder in (data, data / "more", data.parent):
        with pytest.raises(ValueError, match="must be a folder without inputs"):
            check_folder("run_dir", folder, [dev])
    check_folder("run_dir", data / "run", [dev, data / "all.jsonl"])


def test_lines_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "lines.txt"
    write_lines(path, ["a\u2028b", "c"])
    assert path.read_bytes() == "a\u2028b\nc\n".encode()

    def failing() -> Iterator[str]:
        yield "d"
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        write_lines(path, failing())
    assert path.read_text() == "a\u2028b\nc\n"
    assert [item.name for item in path.parent.iterdir()] == ["lines.txt"]


def test_figures_are_written_into_a_new_folder(tmp_path: Path) -> None:
    write_figures(tmp_path / "new" / "a.json", {"f1": 0.5})
    assert (tmp_path / "new" / "a.json").read_text() == '{\n  "f1": 0.5\n}\n'
