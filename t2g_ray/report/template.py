"""Template and values -> one HTML page that needs nothing from outside.

Invariant: the page opens no connection (its content security policy forbids it) and every text
that comes from data is escaped.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

_ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
)


def fill(template: str, **values: Any) -> str:
    """The page. `figures` are Plotly figures; the library comes along where there are any."""
    from plotly.offline import get_plotlyjs

    page = _ENVIRONMENT.get_template(template)
    return page.render(plotly_js=Markup(get_plotlyjs()), **values)
