"""`t2g data generate` as people run it: Ray Data, vLLM and an untrained policy as the teacher.

The teacher is the engine of `vllm_teacher`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jsonschema
import pytest
import ray

from actors.generate import ask
from t2g_ray.config import PromptConfig
from t2g_ray.data.generate.config import SourceConfig, TeacherConfig
from t2g_ray.data.generate.content.texts import read_texts
from t2g_ray.data.generate.shards import run_stage
from t2g_ray.data.generate.stages import TeacherRequest, TeacherStage
from t2g_ray.graph.constrained import close_graph, graph_json_schema
from t2g_ray.prompts.settings import write_prompt_settings
from t2g_ray.records.corpus import generate_records
from t2g_ray.records.jsonl import load_records
from t2g_ray.types import Record
from tests.integration.parts import make_policy, write_policy

NUM_TEXTS = 24
NUM_SHARDS = 12
SAMPLES = 2
DEADLY = 1


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_policy(tmp_path_factory.mktemp("teacher") / "model", make_policy("tied"))
    write_prompt_settings(folder, PromptConfig(style="compact"), 96)
    return folder


def command(folder: Path, teacher: Path) -> list[str]:
    config = folder.with_suffix(".yaml")
    config.write_text(
        json.dumps(
            {
                "run_dir": str(folder),
                "source": {"limit": NUM_TEXTS},
                "samples": SAMPLES,
                "teacher": {"model": str(teacher), "temperature": 1.0},
                "select": {"faulty": "repair"},
                "augment": {"sub_schemas": 1},
                "shard_size": NUM_TEXTS // NUM_SHARDS,
            }
        )
    )
    return [sys.executable, "-m", "t2g_ray.cli", "data", "generate", str(config)]


def outputs(folder: Path) -> dict[str, bytes]:
    names = ("records.jsonl", "rejects.jsonl", "card.json", "card.md")
    return {name: (folder / name).read_bytes() for name in names}


@pytest.fixture(scope="module")
def straight(teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generate") / "straight"
    result = subprocess.run(
        command(folder, teacher),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert f"graph (shards) {NUM_SHARDS}/{NUM_SHARDS}" in result.stderr
    return folder


def test_every_answer_of_an_untrained_teacher_is_a_graph_of_the_schema(straight: Path) -> None:
    texts, _ = read_texts(SourceConfig(limit=NUM_TEXTS), seed=0)
    files = sorted((straight / "answers" / "graph").iterdir())
    lines = [json.loads(line) for path in files for line in path.read_text().splitlines()]
    assert [(line["number"], line["sample"]) for line in lines] == [
        (number, sample) for number in range(NUM_TEXTS) for sample in range(SAMPLES)
    ]
    for line in lines:
        record = texts[line["number"]].record
        graph = json.loads(close_graph(line["text"]))
        jsonschema.validate(graph, graph_json_schema(record.entity_types, record.relation_types))
    assert len(load_records(straight / "records.jsonl")) >= NUM_TEXTS


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(straight: Path, teacher: Path) -> None:
    folder = straight.with_name("killed")
    process = subprocess.Popen(
        command(folder, teacher), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    answers = folder / "answers" / "graph"
    deadline_s = time.monotonic() + 200
    while not (answers.is_dir() and any(answers.glob("0*.jsonl"))):
        assert process.poll() is None and time.monotonic() < deadline_s
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (folder / "records.jsonl").exists()
    written = {path: path.stat().st_mtime_ns for path in answers.glob("0*.jsonl")}
    result = subprocess.run(
        command(folder, teacher), capture_output=True, text=True, timeout=300, check=False
    )
    assert result.returncode == 0, result.stderr
    assert all(path.stat().st_mtime_ns == time_ns for path, time_ns in written.items())
    assert outputs(folder) == outputs(straight)


class DeadlyStage(TeacherStage):
    """Ends its process at one of the records."""

    def requests(self, number: int, record: Record) -> list[TeacherRequest]:
        if number == DEADLY:
            os._exit(1)
        return super().requests(number, record)


class Endpoint(BaseHTTPRequestHandler):
    """Says "yes" to every question."""

    def do_POST(self) -> None:
        message = {"role": "assistant", "content": "yes"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        data = json.dumps({"choices": [choice]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def endpoint() -> Iterator[TeacherConfig]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    yield TeacherConfig(model="m", base_url=url)
    server.shutdown()
    server.server_close()


def test_a_text_that_ends_every_actor_is_given_up_and_costs_no_other(
    endpoint: TeacherConfig, tmp_path: Path
) -> None:
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    stage = DeadlyStage(name="reasoning", samples=1, seed=0)
    records = generate_records("train", 4, seed=0)
    try:
        outcomes = run_stage(stage, endpoint, records, folder=tmp_path, shard_size=2, ask=ask)
    finally:
        ray.shutdown()
    assert [(o.text, o.message) for (o,) in outcomes] == [
        ("", "2 actors died over it") if number == DEADLY else ("yes", "") for number in range(4)
    ]
    assert {path.suffix for path in tmp_path.iterdir()} == {".jsonl"}
