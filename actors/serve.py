"""A trained model -> an HTTP service: one Ingress replica in front of N replicas with an engine.

Requests are checked and counted in the ingress and answered by the replicas, which generate for
all their callers at once. Ray Serve restarts a replica whose engine stops answering.

Invariant: `run_server` leaves nothing behind, whichever way it ends.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from ipaddress import ip_address
from types import FrameType
from typing import Any

import ray
from ray import serve
from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import LoggingConfig

from actors.cluster.handles import process_variables
from actors.cluster.placement import cluster_nodes, connect
from actors.cluster.refusal import check_device, engines_use_gpus
from t2g_ray.rollout.sampler import SamplerStopped
from t2g_ray.run.device.installed import installed_device
from t2g_ray.run.progress import announced_wait
from t2g_ray.serving.api import Unavailable, build_app
from t2g_ray.serving.extractor import Extractor, ExtractorSpec, RequestRefused, check_served_model
from t2g_ray.serving.failures import noted
from t2g_ray.serving.schema import ExtractRequest, ExtractResponse, Health

APP_NAME = "t2g"
HEALTH_MAX_AGE_S = 30.0
PROBE_TIMEOUT_S = 20.0
REQUEST_TIMEOUT_S = 300.0
QUEUED_PER_ONGOING = 16
"""Requests that may wait for each one that runs; beyond that clients get status 503."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSettings:
    """What to serve, where, and how much of it at once."""

    model: str
    host: str = "127.0.0.1"
    port: int = 8000
    replicas: int = 1
    max_ongoing: int = 64
    """Requests that one replica works on at a time."""
    max_prompt_tokens: int = 4096
    max_new_tokens: int | None = None
    """None: as the model was trained, else 512."""


class ExtractorReplica:
    """One engine. A replica around `t2g_ray.serving.extractor.Extractor`."""

    def __init__(self, spec: ExtractorSpec, max_ongoing: int) -> None:
        self._extractor = Extractor(spec)
        self._threads = ThreadPoolExecutor(max_ongoing, thread_name_prefix="request")
        found = self._extractor.health(max_age_s=0.0, timeout_s=REQUEST_TIMEOUT_S)
        if not found.healthy:
            raise RuntimeError(f"the engine must write a first token, it did not: {found.message}")

    async def extract(self, request: ExtractRequest) -> ExtractResponse:
        """Answer one request; many run at a time."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._extractor.extract, request)

    async def health(self) -> Health:
        """Whether this replica's engine writes tokens."""
        return await asyncio.to_thread(
            self._extractor.health, max_age_s=HEALTH_MAX_AGE_S, timeout_s=PROBE_TIMEOUT_S
        )

    async def check_health(self) -> None:
        """Called by Ray Serve, which replaces the replica when this raises."""
        found = await self.health()
        if not found.healthy:
            raise RuntimeError(found.message)


class RayBackend:
    """Implements `t2g_ray.serving.api.Backend` over the replicas."""

    def __init__(self, replicas: DeploymentHandle[ExtractorReplica]) -> None:
        self._replicas = replicas

    async def extract(self, request: ExtractRequest) -> ExtractResponse:
        """Answer by the replica with the shortest queue."""
        try:
            response: ExtractResponse = await self._replicas.extract.remote(request)
        except (BackPressureError, DeploymentUnavailableError) as error:
            raise Unavailable(noted("too many requests wait; try again later", error)) from None
        except RayActorError as error:
            raise Unavailable(
                noted("the engine's process ended and is started again", error)
            ) from None
        except RayTaskError as error:
            if isinstance(error.cause, RequestRefused):
                raise error.cause from None
            if isinstance(error.cause, SamplerStopped):
                raise Unavailable(noted("the engine ended and is started again", error)) from None
            raise  # becomes status 500 and an id
        return response

    async def health(self) -> Health:
        """The health of the replica that takes the question."""
        # Boundary: a replica that cannot be asked is unhealthy, whatever the reason.
        try:
            question = self._replicas.health.remote()
            found: Health = await asyncio.wait_for(question, 2 * PROBE_TIMEOUT_S)
        except Exception as error:
            message = noted("no replica answers", error)
            return Health(healthy=False, seconds_since_answer=None, message=message)
        return found


@serve.ingress()
class Ingress:
    """Serves HTTP. The application is built in the replica, around the handle."""

    def __init__(
        self, replicas: DeploymentHandle[ExtractorReplica], local_names: Collection[str] | None
    ) -> None:
        self._backend, self._local_names = RayBackend(replicas), local_names

    def __serve_build_asgi_app__(self) -> Any:
        return build_app(self._backend, local_names=self._local_names)


def run_server(settings: ServeSettings) -> None:
    """Serve until Ctrl-C or SIGTERM, which leave as KeyboardInterrupt.

    Prints the address once the engines answer. Raises ValueError for settings that cannot work.
    """
    check_address(settings.host, settings.port)
    check_served_model(_spec(settings))
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        start_server(settings)
        print(f"serving {settings.model} at {url_of(settings)} (Ctrl-C ends it)", flush=True)
        threading.Event().wait()
    finally:
        # An impatient second Ctrl-C must not leave processes behind.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        stop_server()


def start_server(settings: ServeSettings) -> None:
    """Start Ray where needed and the service; returns once every replica has written a token."""
    check_device(installed_device())
    connect()
    deployments = build_deployments(settings, [node.resources for node in cluster_nodes()])
    # A line of log for each request would cost more than some requests.
    logs = LoggingConfig(log_level="WARNING", enable_access_log=False)
    serve.start(
        proxy_location="HeadOnly",
        http_options={
            "host": settings.host,
            "port": settings.port,
            "request_timeout_s": REQUEST_TIMEOUT_S,
        },
        logging_config=logs,
    )
    with announced_wait(lambda: f"{settings.replicas} engines to start"):
        serve.run(deployments, name=APP_NAME, route_prefix="/", logging_config=logs)


def stop_server() -> None:
    """End the service; and Ray, unless this process had joined a cluster."""
    if not ray.is_initialized():
        return
    if os.environ.get("RAY_ADDRESS"):
        serve.delete(APP_NAME)
    else:
        serve.shutdown()
    ray.shutdown()


def build_deployments(
    settings: ServeSettings, nodes: Sequence[Mapping[str, float]]
) -> serve.Application:
    """The ingress bound to its replicas. Raises ValueError when they do not fit on the nodes."""
    has_gpus = engines_use_gpus(nodes)
    kind = "GPU" if has_gpus else "CPU"
    num_places = int(sum(node.get(kind, 0) for node in nodes))
    if not 1 <= settings.replicas <= num_places:
        raise ValueError(
            f"the replicas must be 1 to {num_places}, one for each {kind} of this cluster, found "
            f"{settings.replicas}; ask for fewer"
        )
    cores = int(min(node.get("CPU", 1) for node in nodes))
    # One core is left for HTTP: engine threads wait for each other, and spin when they lack a core.
    threads = max(1, min(cores, cores * len(nodes) // settings.replicas) - 1)
    spec = replace(_spec(settings), num_threads=threads)
    replicas = serve.deployment(
        name="Extractor",
        num_replicas=settings.replicas,
        max_ongoing_requests=settings.max_ongoing,
        max_queued_requests=QUEUED_PER_ONGOING * settings.max_ongoing * settings.replicas,
        health_check_period_s=HEALTH_MAX_AGE_S,
        health_check_timeout_s=2 * PROBE_TIMEOUT_S,
        # The model was checked before; trying more often only delays the message.
        max_constructor_retry_count=2,
        ray_actor_options={
            "num_cpus": 1,
            "num_gpus": int(has_gpus),
            "runtime_env": {"env_vars": process_variables(threads, has_gpu=has_gpus)},
        },
    )(ExtractorReplica)
    ingress = serve.deployment(
        name="Ingress",
        # It only waits; the limits are those of the replicas behind it.
        max_ongoing_requests=100_000,
        ray_actor_options={"num_cpus": 0},
    )(Ingress)
    return ingress.bind(replicas.bind(spec, settings.max_ongoing), local_names(settings.host))


def local_names(host: str) -> tuple[str, ...] | None:
    """The name of a host on the loopback interface; None where other machines reach it."""
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(host or "0.0.0.0", None)}
    except OSError:
        return None
    return (host,) if all(ip_address(address).is_loopback for address in found) else None


def check_address(host: str, port: int) -> None:
    """Raises ValueError when nothing can listen there: Ray Serve would only say so in its logs."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            raise ValueError(
                f"host and port must be free to listen on, found {host}:{port}: {error}; choose "
                "another --port or --host"
            ) from error


def _spec(settings: ServeSettings) -> ExtractorSpec:
    return ExtractorSpec(
        model=settings.model,
        max_prompt_tokens=settings.max_prompt_tokens,
        max_new_tokens=settings.max_new_tokens,
        num_threads=None,
    )


def url_of(settings: ServeSettings) -> str:
    """Where the page is."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"http://{host}:{settings.port}"


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
