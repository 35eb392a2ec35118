"""`t2g serve` as its users meet it: a process, HTTP, a browser, Ctrl-C."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from websockets.sync.client import connect

from actors.serve import QUEUED_PER_ONGOING
from t2g_ray.graph import Graph
from t2g_ray.prompts.settings import FILE_NAME
from t2g_ray.records.corpus import ENTITY_TYPES, RELATION_ENDS, generate_records
from t2g_ray.serving.schema import MAX_BODY_BYTES
from tests.ports import free_port

START_S = 240.0
NUM_REQUESTS = 500
NUM_CLIENTS = 16
MAX_ONGOING = 16
NUM_AT_ONCE = 2 * (QUEUED_PER_ONGOING + 1) * MAX_ONGOING
AWKWARD_TYPES = ["ta\u00efga", 'the "quoted"', "a\\b", "\u4eba\u7269", "and/or, {}", "<think>"]

pytestmark = pytest.mark.timeout(900)


class Server:
    """The command in a process group of its own, as a terminal starts it."""

    def __init__(self, model: Path, *arguments: str) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        port = self.url.rpartition(":")[2]
        command = [sys.executable, "-m", "t2g_ray.cli", "serve", "--model", str(model)]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        self.process = subprocess.Popen(
            [*command, "--port", port, *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
            preexec_fn=hear_interrupts,
        )
        assert self.process.stdout is not None
        lines = iter(self.process.stdout.readline, "")
        if not any(line.startswith("serving ") and self.url in line for line in lines):
            raise RuntimeError(f"the server ended with {self.process.wait()} before it served")

    def family(self) -> list[psutil.Process]:
        """The process and everything that it started."""
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]

    def interrupt(self) -> int:
        """Press Ctrl-C: the signal goes to the whole foreground group."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGINT)
        return self.process.wait(120)


def hear_interrupts() -> None:
    """Whoever is started in the background of a script inherits that Ctrl-C is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture(scope="module")
def model(tied_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served") / "model"
    shutil.copytree(tied_model, folder)
    settings = {"style": "compact", "thinking": False, "max_new_tokens": 40}
    (folder / FILE_NAME).write_text(json.dumps(settings), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[Server]:
    started = Server(model, "--max-ongoing", str(MAX_ONGOING))
    yield started
    started.interrupt()


def post(server: Server, body: dict[str, Any]) -> httpx.Response:
    return httpx.post(f"{server.url}/extract", json=body, timeout=120)


def bodies() -> Iterator[dict[str, Any]]:
    """Requests for the embedded world, every tenth of them about awkward types."""
    for number, record in enumerate(generate_records("heldout", NUM_REQUESTS, seed=1)):
        is_awkward = number % 10 == 0
        yield {
            **({"text": record.text} if number % 7 else {"texts": [record.text, "Nothing."]}),
            "entity_types": AWKWARD_TYPES if is_awkward else list(record.entity_types),
            "relation_types": AWKWARD_TYPES if is_awkward else list(record.relation_types),
        }


def check_answer(body: dict[str, Any], answer: dict[str, Any], text: str) -> None:
    assert answer["parse"] in ("ok", "cut")
    entities, relations = answer["graph"]["entities"], answer["graph"]["relations"]
    plain = [{key: entity[key] for key in ("id", "text", "type")} for entity in entities]
    graph = Graph.from_dict({"entities": plain, "relations": relations})
    assert {entity.type for entity in graph.entities} <= set(body["entity_types"])
    assert {relation.type for relation in graph.relations} <= set(body["relation_types"])
    for entity in entities:
        if entity["start"] is None:
            assert entity["text"] == "" or entity["text"] not in text
        else:
            assert text[entity["start"] : entity["end"]] == entity["text"]


def test_many_clients_at_once_always_get_valid_graphs_of_their_types(server: Server) -> None:
    asked = list(bodies())
    before = figures(server)
    with ThreadPoolExecutor(NUM_CLIENTS) as clients:
        replies = list(clients.map(lambda body: post(server, body), asked))
    assert [reply.status_code for reply in replies] == [200] * NUM_REQUESTS
    num_answers = 0
    for body, reply in zip(asked, replies, strict=True):
        texts = body.get("texts") or [body["text"]]
        answers = reply.json()["answers"]
        assert len(answers) == len(texts)
        num_answers += len(texts)
        for text, answer in zip(texts, answers, strict=True):
            check_answer(body, answer, text)
    after = figures(server)
    for name, change in {
        't2g_requests_total{status="200"}': NUM_REQUESTS,
        "t2g_request_seconds_count": NUM_REQUESTS,
        "t2g_errors_total": 0,
    }.items():
        assert after[name] - before.get(name, 0) == change
    kinds = [name for name in after if name.startswith("t2g_answers_total")]
    assert sum(after[kind] - before.get(kind, 0) for kind in kinds) == num_answers


def figures(server: Server) -> dict[str, float]:
    lines = httpx.get(f"{server.url}/metrics", timeout=60).text.splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


def test_a_free_answer_may_fail_to_be_a_graph_and_says_so(server: Server) -> None:
    body = {"text": "Ann.", "entity_types": list(ENTITY_TYPES), "constrained": False}
    reply = post(server, {**body, "relation_types": list(RELATION_ENDS)})
    [answer] = reply.json()["answers"]
    assert (answer["graph"] is None) == (answer["parse"] != "ok")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"text": "word " * 3000}, "must fit in"),
        ({"text": "x" * 30_000}, "at most 20000 characters"),
        ({"entity_types": []}, "at least 1 item"),
        ({"thinking": True}, "no room for reasoning"),
    ],
)
def test_requests_that_must_be_changed_get_422(
    server: Server, changes: dict[str, Any], told: str
) -> None:
    reply = post(server, {"text": "Ann.", "entity_types": ["person"], **changes})
    assert reply.status_code == 422
    assert told in json.dumps(reply.json()["error"]["faults"])


def test_a_body_that_is_too_long_gets_413(server: Server) -> None:
    reply = post(server, {"text": "Ann.", "entity_types": ["x" * MAX_BODY_BYTES]})
    assert reply.status_code == 413


def test_health_says_that_answers_come_out(server: Server) -> None:
    reply = httpx.get(f"{server.url}/health", timeout=60)
    assert (reply.status_code, reply.json()["healthy"]) == (200, True)


def test_a_port_in_use_is_bad_input(server: Server, model: Path) -> None:
    port = server.url.rpartition(":")[2]
    result = subprocess.run(
        [sys.executable, "-m", "t2g_ray.cli", "serve", "--model", str(model), "--port", port],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert f"found 127.0.0.1:{port}" in result.stderr


class Browser:
    """A headless Chromium, driven by its own protocol."""

    def __init__(self, folder: Path) -> None:
        flags = ("--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0")
        self._process = subprocess.Popen(
            ["chromium", *flags, f"--user-data-dir={folder}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        port_file = folder / "DevToolsActivePort"
        wait_for(lambda: port_file.exists() and port_file.read_text().strip() != "")
        port = port_file.read_text().split()[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as reply:
            tabs = json.load(reply)
        address = next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page")
        self._socket = connect(address, max_size=None)
        self._numbers = itertools.count()
        self.events: list[dict[str, Any]] = []
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(60))
            if message.get("id") == number:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result
            self.events.append(message)

    def run(self, code: str) -> Any:
        result = self.call("Runtime.evaluate", expression=code, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)
        wait_for(lambda: self.run("document.readyState === 'complete' && location.href") == url)

    def close(self) -> None:
        self._socket.close()
        self._process.terminate()
        self._process.wait(30)


def wait_for(is_true: Callable[[], bool], timeout_s: float = 90.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_true():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.1)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    if shutil.which("chromium") is None:
        pytest.skip("needs Chromium, which is not installed")
    opened = Browser(tmp_path)
    yield opened
    opened.close()


def test_the_page_shows_entities_graph_and_errors_and_asks_no_other_host(
    server: Server, browser: Browser
) -> None:
    browser.open(f"{server.url}/")
    browser.run("document.getElementById('example').click()")
    browser.run("document.getElementById('extract').click()")
    wait_for(lambda: bool(browser.run("document.getElementById('json').textContent")))
    answer = json.loads(browser.run("document.getElementById('json').textContent"))["answers"][0]
    shown = browser.run("[...document.querySelectorAll('#graph g')].map((g) => g.textContent)")
    for entity in answer["graph"]["entities"]:
        assert any(entity["type"] in node for node in shown)
    browser.run("document.getElementById('entity-types').value = ', '")
    browser.run("document.getElementById('extract').click()")
    wait_for(lambda: "entity_types" in browser.run("document.getElementById('error').textContent"))
    browser.open(f"{server.url}/docs")
    wait_for(lambda: browser.run("document.querySelectorAll('section').length") > 10)
    asked = [
        event["params"]["request"]["url"]
        for event in browser.events
        if event["method"] == "Network.requestWillBeSent"
    ]
    assert f"{server.url}/extract" in asked
    assert {url for url in asked if not url.startswith(server.url)} == set()
    assert [e for e in browser.events if e["method"] == "Runtime.exceptionThrown"] == []


@pytest.mark.long
def test_more_requests_than_may_wait_get_503_and_the_others_an_answer(server: Server) -> None:
    async def ask_all() -> list[int]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(timeout=300, limits=limits) as client:
            body = {"text": "Ann. " * 9, "entity_types": ["person"]}
            asked = [client.post(f"{server.url}/extract", json=body) for _ in range(NUM_AT_ONCE)]
            replies = await asyncio.gather(*asked)
        refused = [reply for reply in replies if reply.status_code == 503]
        assert all(reply.headers["Retry-After"] == "1" for reply in refused)
        assert all("too many requests wait" in reply.text for reply in refused)
        return [reply.status_code for reply in replies]

    found = Counter(asyncio.run(ask_all()))
    assert found.keys() == {200, 503}
    assert found[200] >= QUEUED_PER_ONGOING * MAX_ONGOING
    assert httpx.get(f"{server.url}/health", timeout=60).status_code == 200


def test_a_replica_that_dies_is_replaced_and_its_requests_may_be_asked_again(
    server: Server,
) -> None:
    [replica] = [p for p in server.family() if "Extractor" in " ".join(p.cmdline())]
    asked = list(itertools.islice(bodies(), 4 * NUM_CLIENTS))
    with ThreadPoolExecutor(NUM_CLIENTS) as clients:
        replies = clients.map(lambda body: post(server, body).status_code, asked)
        time.sleep(0.2)
        replica.kill()
        replica.wait(30)
        assert {503} <= set(replies) <= {200, 503}
    body = {"text": "Ann.", "entity_types": ["person"]}

    def is_answered() -> bool:
        return httpx.post(f"{server.url}/extract", json=body, timeout=300).status_code == 200

    wait_for(is_answered, START_S)
    assert httpx.get(f"{server.url}/health", timeout=60).status_code == 200


def test_ctrl_c_ends_every_process(server: Server) -> None:
    family = server.family()
    assert len(family) > 3
    assert server.interrupt() == 130
    _, alive = psutil.wait_procs(family, timeout=30)
    assert alive == []
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{server.url}/health")
