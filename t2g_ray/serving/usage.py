"""What the service did -> Prometheus text, from one registry for each application."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from t2g_ray.serving.schema import ExtractResponse

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class Usage:
    """Counters of one application."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "t2g_requests", "Requests to /extract, by HTTP status.", ["status"], registry=registry
        )
        self._errors = Counter(
            "t2g_errors", "Requests to /extract that got status 400 or above.", registry=registry
        )
        self._seconds = Histogram(
            "t2g_request_seconds",
            "Wall-clock seconds of a request to /extract, errors included.",
            buckets=_SECONDS,
            registry=registry,
        )
        self._in_flight = Gauge(
            "t2g_requests_in_flight", "Requests to /extract not yet answered.", registry=registry
        )
        self._answers = Counter(
            "t2g_answers",
            "Answered texts, by what the completion was.",
            ["parse"],
            registry=registry,
        )
        self._tokens = Counter(
            "t2g_tokens",
            "Tokens read (prompt) and written (generated).",
            ["kind"],
            registry=registry,
        )

    def begin(self) -> None:
        """A request to /extract came in."""
        self._in_flight.inc()

    def end(self, status: int, seconds: float) -> None:
        """It was answered."""
        self._in_flight.dec()
        self._requests.labels(str(status)).inc()
        self._seconds.observe(seconds)
        if status >= 400:
            self._errors.inc()

    def count(self, response: ExtractResponse) -> None:
        """Count texts and tokens of an answered request."""
        for answer in response.answers:
            self._answers.labels(answer.parse).inc()
            self._tokens.labels("prompt").inc(answer.tokens.prompt)
            self._tokens.labels("generated").inc(answer.tokens.generated)

    def render(self) -> bytes:
        """The page that a Prometheus server reads."""
        return generate_latest(self._registry)
