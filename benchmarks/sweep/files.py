"""Result -> sweep.json and sweep.html in the folder of the sweep, and its verdict in words."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from benchmarks.result import Result, to_json
from t2g_ray.run.folder import write_json

if TYPE_CHECKING:
    from benchmarks.app import SharedOptions


def write_sweep(result: Result, given: SharedOptions) -> None:
    """Write both files where the runs lie, and say what was found and where."""
    from benchmarks.sweep.page import render, verdict_words
    from t2g_ray.report import write_page

    folder = Path(given.settings_of_run().run_dir)
    write_json(folder / "sweep.json", to_json(result))
    write_page(folder / "sweep.html", render(result))
    typer.echo(f"{verdict_words(result)}\nresult: {folder}/sweep.json\npage: {folder}/sweep.html")
