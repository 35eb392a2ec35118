"""Run folders -> the pages that people look at: one for a run, one that compares several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from t2g_ray.run.folder import RunDir, write_json, write_text

if TYPE_CHECKING:
    from t2g_ray.report.load import RunData


def write_report(run_dir: RunDir) -> Path:
    """Write report.html and return its path; works on unfinished and empty runs.

    ValueError when the folder does not exist.
    """
    from t2g_ray.report.load import load_run
    from t2g_ray.report.run_page import render

    write_page(run_dir.report_html, render(load_run(run_dir)))
    return run_dir.report_html


def write_comparison(runs: Sequence[RunData], page: Path) -> None:
    """Write the page that compares the runs, and beside it its figures as JSON."""
    from t2g_ray.report.comparison_page import render
    from t2g_ray.report.runs import summary

    figures = summary(runs)
    page.parent.mkdir(parents=True, exist_ok=True)
    write_json(page.with_suffix(".json"), figures)
    write_page(page, render(runs, figures))


def write_page(path: Path, page: str) -> None:
    """Write HTML. A model can write lone surrogates, which UTF-8 cannot hold."""
    write_text(path, page.encode("utf-8", "replace").decode("utf-8"))


__all__ = ["write_comparison", "write_page", "write_report"]
