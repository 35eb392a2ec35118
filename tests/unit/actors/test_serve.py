"""What clients are told when replicas fail, and by which names a server is known."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest
from ray.exceptions import RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from actors.serve import RayBackend, local_names
from t2g_ray.rollout.sampler import SamplerStopped
from t2g_ray.serving.api import Unavailable
from t2g_ray.serving.extractor import RequestRefused
from t2g_ray.serving.schema import ExtractRequest

REQUEST = ExtractRequest(text="Ann.", entity_types=["person"])


class FailingReplicas:
    """Stands in for the handle of the replicas: every call raises."""

    def __init__(self, make: Callable[[], Exception]) -> None:
        self.make = make
        self.extract = self.health = self

    async def remote(self, *_: object) -> None:
        raise self.make()


def backend(make: Callable[[], Exception]) -> RayBackend:
    return RayBackend(cast(Any, FailingReplicas(make)))


def from_actor(cause: Exception) -> RayTaskError:
    return RayTaskError("extract", "traceback of /secret/model", cause)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: from_actor(SamplerStopped("/secret/model")), "the engine ended"),
        (lambda: DeploymentUnavailableError("/secret/model"), "too many requests wait"),
        (lambda: BackPressureError(num_queued_requests=1, max_queued_requests=1), "too many"),
    ],
)
def test_a_client_is_told_what_to_do_and_an_id(
    make: Callable[[], Exception], told: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(Unavailable) as caught:
        asyncio.run(backend(make).extract(REQUEST))
    message = str(caught.value)
    assert message.startswith(told)
    assert "secret" not in message
    assert message[-8:] in caplog.text


def test_a_refusal_of_the_replica_reaches_the_client_as_it_is() -> None:
    with pytest.raises(RequestRefused, match="text: too long"):
        asyncio.run(
            backend(lambda: from_actor(RequestRefused("text", "too long"))).extract(REQUEST)
        )


def test_ill_health_tells_an_id_and_not_the_reason(caplog: pytest.LogCaptureFixture) -> None:
    found = asyncio.run(backend(lambda: RuntimeError("/secret/model")).health())
    assert not found.healthy
    assert "secret" not in str(found.message)
    assert "/secret/model" in caplog.text


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.9.9.9"])
def test_a_server_on_the_loopback_interface_is_known_by_its_name(host: str) -> None:
    assert local_names(host) == (host,)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "", "no.such.host.invalid"])
def test_a_server_that_others_reach_may_have_any_name(host: str) -> None:
    assert local_names(host) is None
