"""ASGI middleware: hosts, body limit, security headers, faults, and the figures of /extract.

Invariants: no more of a body than the limit is ever held, whatever its declared length says; every
answer has the security headers, that of a fault of ours too, and a fault tells its id alone.
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Sequence
from ipaddress import ip_address

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from t2g_ray.serving.failures import noted
from t2g_ray.serving.schema import MAX_BODY_BYTES, ErrorBody, ErrorResponse, RequestFault
from t2g_ray.serving.usage import Usage

COUNTED_PATH = "/extract"

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
"""Of every answer. A page brings a Content-Security-Policy of its own."""

_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]/@\s]+)(?::\d{1,5})?")


class ServiceMiddleware:
    """Wraps the application: checks hosts, limits bodies, sets headers, counts requests.

    `local_names`: the names by which a server on the loopback interface is known; None for a server
    on another interface, which may have any name.
    """

    def __init__(
        self, app: ASGIApp, *, usage: Usage, local_names: Collection[str] | None = None
    ) -> None:
        self._app, self._usage, self._local_names = app, usage, local_names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; 421 for another host, 413 for a body beyond the limit."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, is_begun = 500, False
        is_counted = scope["path"] == COUNTED_PATH
        started = time.perf_counter()

        async def guarded_send(message: Message) -> None:
            nonlocal status, is_begun
            if message["type"] == "http.response.start":
                status, is_begun = message["status"], True
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        if is_counted:
            self._usage.begin()
        # Boundary: whatever went wrong inside, the client gets an answer and the log the reason.
        try:
            if (refusal := self._refusal(scope)) is not None:
                await refusal(scope, receive, guarded_send)
            else:
                await self._app(scope, limited(scope, receive), guarded_send)
        except Exception as error:
            if is_begun:
                raise
            fault = error_response(500, noted("the server failed", error))
            await fault(scope, receive, guarded_send)
        finally:
            if is_counted:
                self._usage.end(status, time.perf_counter() - started)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        """The answer to a request for another host, or None.

        The page of another site can have its own name resolve to 127.0.0.1; the browser then lets
        its scripts read what this server answers (DNS rebinding). The Host still has that name.
        """
        hosts = Headers(scope=scope).getlist("host")
        if self._local_names is None or (len(hosts) == 1 and is_local(hosts[0], self._local_names)):
            return None
        return error_response(
            421,
            "a server on the loopback interface must be asked by localhost or 127.0.0.1 in the "
            "header Host, found another; use that address, or let the proxy set the header",
        )


def is_local(host: str, names: Collection[str]) -> bool:
    """Whether the value of a Host header is a loopback address, localhost or one of the names."""
    match = _HOST.fullmatch(host)
    if match is None:
        return False
    name = match[1].strip("[]").lower().removesuffix(".")
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or name in {known.lower() for known in names}


def error_response(
    status: int,
    message: str,
    faults: Sequence[RequestFault] = (),
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    """An error as every client gets it."""
    body = ErrorBody(status=status, message=message, faults=list(faults))
    return JSONResponse(ErrorResponse(error=body).model_dump(), status, headers)


def limited(scope: Scope, receive: Receive) -> Receive:
    """`receive` that raises HTTPException 413 as soon as the body is too long."""
    declared = Headers(scope=scope).get("content-length", "0")
    num_bytes = 0

    async def limited_receive() -> Message:
        nonlocal num_bytes
        if _is_more(declared):
            raise _too_long("more was declared")
        message = await receive()
        num_bytes += len(message.get("body", b""))
        if num_bytes > MAX_BODY_BYTES:
            raise _too_long(f"found {num_bytes} or more")
        return message

    return limited_receive


def _is_more(declared: str) -> bool:
    digits = declared.strip().lstrip("0") if declared.isascii() else ""
    return digits.isdigit() and (len(digits) > 9 or int(digits) > MAX_BODY_BYTES)


def _too_long(found: str) -> HTTPException:
    return HTTPException(
        413,
        f"a body must be at most {MAX_BODY_BYTES} bytes, {found}; send the texts in parts",
    )
