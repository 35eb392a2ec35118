"""HTML files of this package -> responses that can reach nothing but this server.

Invariant: a page runs only the scripts and styles in its own file. The Content-Security-Policy
allows their hashes and no source outside this server.
"""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

from starlette.responses import HTMLResponse

_INLINE = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL)


def page_response(name: str) -> HTMLResponse:
    """One of the HTML files beside this module, with its policy."""
    html = (Path(__file__).parent / name).read_text(encoding="utf-8")
    return HTMLResponse(html, headers={"Content-Security-Policy": content_policy(html)})


def content_policy(html: str) -> str:
    """The policy that allows the inline scripts and styles of `html` and requests to this host."""
    hashes: dict[str, list[str]] = {"script": [], "style": []}
    for kind, code in _INLINE.findall(html):
        digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
        hashes[kind].append(f"'sha256-{digest}'")
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src {' '.join(hashes['script'])}",
            f"style-src {' '.join(hashes['style'])}",
            "connect-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    )
