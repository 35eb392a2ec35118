"""ASGI middleware: body limit, security headers, and the figures of /extract.

Invariant: no more of a body than the limit is ever held, whatever its declared length says.
"""

from __future__ import annotations

import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from t2g_ray.serving.schema import MAX_BODY_BYTES
from t2g_ray.serving.usage import Usage

COUNTED_PATH = "/extract"


class ServiceMiddleware:
    """Wraps the application: limits bodies, sets headers, counts requests."""

    def __init__(self, app: ASGIApp, *, usage: Usage) -> None:
        self._app, self._usage = app, usage

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; 413 for a body beyond the limit."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500
        is_counted = scope["path"] == COUNTED_PATH
        started = time.perf_counter()

        async def guarded_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Content-Type-Options"] = "nosniff"
            await send(message)

        if is_counted:
            self._usage.begin()
        try:
            await self._app(scope, limited(scope, receive), guarded_send)
        finally:
            if is_counted:
                self._usage.end(status, time.perf_counter() - started)


def limited(scope: Scope, receive: Receive) -> Receive:
    """`receive` that raises HTTPException 413 as soon as the body is too long."""
    declared = Headers(scope=scope).get("content-length", "0")
    num_bytes = 0

    async def limited_receive() -> Message:
        nonlocal num_bytes
        if declared.isdigit() and int(declared) > MAX_BODY_BYTES:
            raise _too_long(f"found {declared} declared")
        message = await receive()
        num_bytes += len(message.get("body", b""))
        if num_bytes > MAX_BODY_BYTES:
            raise _too_long(f"found {num_bytes} or more")
        return message

    return limited_receive


def _too_long(found: str) -> HTTPException:
    return HTTPException(
        413,
        f"a body must be at most {MAX_BODY_BYTES} bytes, {found}; send the texts in parts",
    )
