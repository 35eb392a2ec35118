"""The layouts by name, and which of them a source has.

Invariant: a layout is chosen only when no other fits; otherwise the message says which do.
"""

from __future__ import annotations

from t2g_ray.data.importers.conll import columns as conll_columns
from t2g_ray.data.importers.conll import relations as conll_relations
from t2g_ray.data.importers.layout import Layout
from t2g_ray.data.importers.source import Source, preview_of
from t2g_ray.data.importers.texts import (
    ade_rel,
    brat,
    prompt_solution,
    records,
    text2kgbench,
    webnlg,
)
from t2g_ray.data.importers.tokens import docred, dygie, scier, span_json, spert, tagged_json

AUTO = "auto"
LAYOUTS: dict[str, Layout] = {
    module.LAYOUT.name: module.LAYOUT
    for module in (
        records,
        prompt_solution,
        spert,
        dygie,
        span_json,
        tagged_json,
        conll_relations,
        conll_columns,
        ade_rel,
        scier,
        text2kgbench,
        webnlg,
        docred,
        brat,
    )
}


def layout_of(source: Source, name: str = AUTO) -> Layout:
    """The named layout, or the one that the source has. Raises ValueError with the choices."""
    if name != AUTO:
        if name not in LAYOUTS:
            raise ValueError(f"--layout must be {AUTO} or one of {[*LAYOUTS]}, found {name!r}")
        return LAYOUTS[name]
    preview = preview_of(source)
    fitting = [layout for layout in LAYOUTS.values() if layout.looks_like(preview)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise ValueError(
            f"{source.name}: its layout must be clear from its first rows, found that "
            f"{' and '.join(layout.name for layout in fitting)} fit; choose one with --layout"
        )
    found = f"rows with the keys {sorted(preview.rows[0])[:12]}" if preview.rows else "no JSON rows"
    raise ValueError(
        f"{source.name}: must have one of the layouts {[*LAYOUTS]}, found {found} in files of the "
        f"kinds {sorted(preview.suffixes)}; choose one with --layout"
    )
