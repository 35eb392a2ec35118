"""A backend that answers -> the HTTP application: routes, limits, errors, figures, pages.

Invariant: every answer with a status of 400 or above is a short ErrorResponse in JSON, whatever
the client sent. None tells what an exception said: a failure has an id, which the log has too.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Coroutine
from typing import Any, NoReturn, Protocol

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from t2g_ray import __version__
from t2g_ray.serving.extractor import RequestRefused
from t2g_ray.serving.guard import ServiceMiddleware, error_response
from t2g_ray.serving.pages import page_response
from t2g_ray.serving.schema import (
    ErrorResponse,
    ExtractRequest,
    ExtractResponse,
    Health,
    RequestFault,
)
from t2g_ray.serving.usage import CONTENT_TYPE, Usage

MAX_FAULTS = 20
MAX_FAULT_CHARS = 200

_ERRORS: dict[int | str, dict[str, Any]] = {
    413: {"model": ErrorResponse, "description": "The body is too long."},
    422: {"model": ErrorResponse, "description": "The request must be changed; faults say where."},
    421: {"model": ErrorResponse, "description": "The header Host names another server."},
    503: {"model": ErrorResponse, "description": "Too many requests wait, or the engine ended."},
}


class Unavailable(RuntimeError):
    """The request is right and cannot be answered now."""


class Backend(Protocol):
    """Whatever turns requests into answers."""

    async def extract(self, request: ExtractRequest) -> ExtractResponse:
        """Answer. Raises RequestRefused or Unavailable."""

    async def health(self) -> Health:
        """Whether the engine answers; never raises."""


def build_app(backend: Backend, *, local_names: Collection[str] | None = None) -> FastAPI:
    """The whole HTTP interface over one backend; `local_names` as for ServiceMiddleware."""
    usage = Usage()
    # FastAPI's own documentation page loads its scripts from another host.
    app = FastAPI(title="t2g-ray", version=__version__, docs_url=None, redoc_url=None)
    app.add_middleware(ServiceMiddleware, usage=usage, local_names=local_names)
    app.router.route_class = _StrictRoute
    _add_errors(app)
    _add_pages(app)

    @app.post("/extract", responses=_ERRORS)
    async def extract(request: ExtractRequest) -> ExtractResponse:
        """Turn texts into graphs of the wanted types."""
        response = await backend.extract(request)
        usage.count(response)
        return response

    @app.get("/health", responses={503: {"model": Health}})
    async def health(response: Response) -> Health:
        """Whether the engine answers: it did so lately, or a probe succeeds now."""
        found = await backend.health()
        response.status_code = 200 if found.healthy else 503
        return found

    @app.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Requests, errors, seconds and tokens since the start, for Prometheus."""
        return Response(usage.render(), media_type=CONTENT_TYPE)

    return app


class _StrictRequest(Request):
    """A request whose JSON says one thing: no key stands twice, and nothing in it is no JSON."""

    async def json(self) -> Any:
        """Raises JSONDecodeError, whose message a client is told."""
        body = await self.body()
        try:
            return json.loads(
                body.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse
            )
        except json.JSONDecodeError:
            raise
        except (ValueError, RecursionError) as error:
            what = "brackets nest too deep" if isinstance(error, RecursionError) else str(error)
            raise json.JSONDecodeError(what, "", 0) from None


class _StrictRoute(APIRoute):
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_strictly(request: Request) -> Response:
            return await handle(_StrictRequest(request.scope, request.receive))

        return handle_strictly


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        [(twice, _)] = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"each key must stand once, found {twice[:40]!a} twice")
    return found


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"numbers must be finite, found {name}")


def _add_pages(app: FastAPI) -> None:
    page, docs = page_response("page.html"), page_response("docs.html")

    @app.get("/", include_in_schema=False)
    async def show_page() -> HTMLResponse:
        return page

    @app.get("/docs", include_in_schema=False)
    async def show_docs() -> HTMLResponse:
        return docs


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(RequestValidationError)
    async def on_invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        faults = [_fault(one) for one in error.errors()[:MAX_FAULTS]]
        return error_response(422, "the request must be changed", faults)

    @app.exception_handler(RequestRefused)
    async def on_refused(request: Request, error: RequestRefused) -> JSONResponse:
        fault = RequestFault(field=error.field, message=error.message)
        return error_response(422, "the request must be changed", [fault])

    @app.exception_handler(Unavailable)
    async def on_unavailable(request: Request, error: Unavailable) -> JSONResponse:
        return error_response(503, str(error), headers={"Retry-After": "1"})

    @app.exception_handler(HTTPException)
    async def on_http(request: Request, error: HTTPException) -> JSONResponse:
        headers = dict(error.headers or {})
        return error_response(error.status_code, str(error.detail), headers=headers)


def _fault(error: dict[str, Any]) -> RequestFault:
    # The first part of the location is "body".
    place = ".".join(str(part) for part in error["loc"][1:])
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "json_invalid":
        place, message = "", f"the body must be JSON: {error.get('ctx', {}).get('error', message)}"
    return RequestFault(field=_short(place) or "body", message=_short(message))


def _short(text: str) -> str:
    # The field can contain keys that the client chose, and not every JSON string can be encoded
    # again.
    return text.encode("ascii", "backslashreplace").decode()[:MAX_FAULT_CHARS]
