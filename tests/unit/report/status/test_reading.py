"""Files that are being written, are damaged, or are not there."""

from __future__ import annotations

import time
from pathlib import Path

from t2g_ray.report.status.reading import age_s, json_object, newest_lines


def test_the_end_of_a_long_file_is_read_from_the_first_whole_line_on(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_text("".join(f'{{"step": {step}}}\n' for step in range(1000)) + '{"step": 10')
    steps = [line["step"] for line in newest_lines(path, num_bytes=100)]
    assert steps == list(range(994, 1000))
    assert len(newest_lines(path)) == 1000


def test_what_is_not_there_or_no_object_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    assert newest_lines(path) == []
    assert age_s(path, time.time()) is None
    for text in ("", "[1]", '{"a": ', "\udcff"):
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
        assert json_object(path) == {}
    path.write_text('{"a": 1}')
    assert json_object(path) == {"a": 1}
    assert age_s(path, path.stat().st_mtime + 3) == 3
