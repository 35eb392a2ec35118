"""A run folder -> report.html, the page that people look at."""

from __future__ import annotations

from pathlib import Path

from t2g_ray.rundir import RunDir, write_text


def write_report(run_dir: RunDir) -> Path:
    """Write report.html and return its path; works on unfinished and empty runs.

    ValueError when the folder does not exist.
    """
    from t2g_ray.report.load import load_run
    from t2g_ray.report.page import render  # plotly, jinja2 and networkx, only when needed

    if not run_dir.path.is_dir():
        raise ValueError(f"run_dir must be a folder, found nothing at {run_dir.path}")
    # A model can write lone surrogates, which UTF-8 cannot hold.
    page = render(load_run(run_dir)).encode("utf-8", "replace").decode("utf-8")
    write_text(run_dir.report_html, page)
    return run_dir.report_html


__all__ = ["write_report"]
