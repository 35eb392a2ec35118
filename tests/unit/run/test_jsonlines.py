"""Lines of JSON on disk: any text on one line, and nothing half-written is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from t2g_ray.run.jsonlines import JsonLinesWriter, last_json_line, read_json_lines


def test_the_last_line_is_the_last_that_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert last_json_line(path) is None
    path.write_text('{"step": 1')
    assert last_json_line(path) is None
    path.write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert last_json_line(path) == {"step": 2}
    path.write_text('{"step": 1}\n[2]\n')
    with pytest.raises(ValueError, match=r"its last line must be a JSON object, found list"):
        last_json_line(path)


def test_json_lines_hold_any_text_on_one_line(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    writer = JsonLinesWriter(path)
    line = {"step": 1, "text": "two\nlines, \u2028 and \ud800 alone"}
    writer.append(line)
    writer.close()
    assert path.read_bytes().count(b"\n") == 1
    assert list(read_json_lines(path)) == [line]
