"""Values become text of a page and never markup."""

from __future__ import annotations

from t2g_ray.report.template import _ENVIRONMENT


def test_values_are_escaped_and_blocks_leave_no_lines() -> None:
    page = _ENVIRONMENT.from_string("{% if true %}\n<b>{{ name }}</b>\n{% endif %}\n")
    assert page.render(name="<script>&") == "<b>&lt;script&gt;&amp;</b>\n"
