"""`t2g report`: run folders -> the page of one run, or one that compares several."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer


def report_command(
    run_dirs: Annotated[
        list[Path], typer.Argument(metavar="RUN_DIR...", help="Run folders, or those of demos.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Page that compares several runs; its JSON goes beside it.",
            show_default="comparison.html",
        ),
    ] = None,
) -> None:
    """Write report.html of a run, finished or not, or one page that compares several.

    Example: t2g report runs/demo
    Example: t2g report runs/first runs/second --out runs/both.html
    """
    from t2g_ray.records.outputs import check_outputs
    from t2g_ray.report import write_comparison, write_report
    from t2g_ray.report.demo import is_demo, load_demo, write_demo_page
    from t2g_ray.report.load import load_run
    from t2g_ray.report.runs import distinct_names
    from t2g_ray.run.folder import RunDir

    if len(run_dirs) == 1:
        if out is not None:
            raise ValueError(
                f"--out names a page of several runs, found one run and {out}; leave it out: the "
                "page of one run is its report.html"
            )
        path = run_dirs[0]
        typer.echo(write_demo_page(path) if is_demo(path) else write_report(RunDir(path)))
        return
    page = out or Path("comparison.html")
    beside = page.with_suffix(".json")
    check_outputs({"--out": page, "the JSON of --out": beside}, run_dirs)
    runs = [load_demo(path) if is_demo(path) else load_run(RunDir(path)) for path in run_dirs]
    names = distinct_names(run_dirs)
    write_comparison([replace(run, name=name) for run, name in zip(runs, names, strict=True)], page)
    typer.echo(page)
