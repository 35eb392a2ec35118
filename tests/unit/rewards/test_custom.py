"""The user's own functions in child processes: how they are called, and all the ways they fail."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from t2g_ray.config import RewardSpec
from t2g_ray.config.rewards import CustomReward
from t2g_ray.graph import Entity, Graph
from t2g_ray.records.corpus import build_tokenizer
from t2g_ray.rewards.completion import grade_all
from t2g_ray.rewards.custom import CustomRewards, check_custom
from t2g_ray.rewards.group import score_group
from t2g_ray.types import Completion, Group, Prompt, Record, Reward

ROOT = Path(__file__).parents[3]
GOLD = Graph((Entity(0, "Ann", "person"),), ())
RECORD = Record(
    text="Ann slept.",
    entity_types=("person",),
    relation_types=("knows",),
    graph=GOLD,
    extra={"source": "diary", "level": 3},
)
TEXTS = (GOLD.to_json(), "no graph", Graph((), ()).to_json())
MODULE = """
import asyncio, os, signal, subprocess, sys, time

def length(completion):
    return len(completion)

def everything(completion, predicted, text, entity_types, relation_types, graph, **columns):
    assert (text, entity_types, relation_types) == ("Ann slept.", ["person"], ["knows"])
    assert graph["entities"] == [{"id": 0, "text": "Ann", "type": "person"}]
    assert columns == {"source": "diary", "level": 3}
    return -1.0 if predicted is None else float(len(predicted["entities"]))

def batch(completions, predicted, level):
    return [level + i + (graph is None) / 2 for i, graph in enumerate(predicted)]

async def patient(completion):
    await asyncio.sleep(0.5)
    return len(completion)

async def patient_batch(completions):
    await asyncio.sleep(0)
    return [1.0 for _ in completions]

class Judge:
    async def __call__(self, completion):
        return 0.5

judge = Judge()

def pid(completion):
    return os.getpid()

def hangs_without_graph(completion):
    while completion == "no graph":
        time.sleep(60)
    return 1

async def sleeps_without_graph(completion):
    if completion == "no graph":
        await asyncio.sleep(60)
    return 1

def hangs_for_all(completions):
    time.sleep(60)

def dies_without_graph(completion):
    if completion == "no graph":
        os._exit(3)
    return 1

def raises_without_graph(completion, predicted):
    return len(predicted["entities"])

def bad_numbers(completions):
    return BAD[: len(completions)]

BAD = [float("nan"), float("inf"), "0.5", None, True, [1.0]]

def too_few(completions):
    return [1.0]

def needs_more(completion, column_that_is_not_there):
    return 1.0

def starts_another(completion):
    code = "import time; time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", code])
    with open(os.environ["PID_FILE"], "w") as file:
        file.write(str(child.pid))
    time.sleep(60)

def neither(text):
    return 1.0

def both(completion, completions):
    return 1.0

constant = 3
"""

Run = Callable[..., list[Reward]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "my_rewards.py").write_text(MODULE)
    return tmp_path


def custom(name: str, *, weight: float = 1.0, deadline_s: float = 20.0) -> CustomReward:
    return CustomReward(path=f"my_rewards:{name}", name=name, weight=weight, deadline_s=deadline_s)


@pytest.fixture
def run(folder: Path) -> Iterator[Run]:
    """Grade texts with one function beside a part that is 1.0 for a graph."""
    started: list[CustomRewards] = []

    def grade(*rewards: CustomReward, texts: tuple[str, ...] = TEXTS) -> list[Reward]:
        if not started:
            started.append(CustomRewards(rewards, str(folder)))
        spec = RewardSpec({"json": 1.0}, custom=rewards)
        base = grade_all(texts, RECORD, spec, thinking=False, num_tokens=[0] * len(texts))
        return started[0].add(base, texts, RECORD, thinking=False)

    yield grade
    for one in started:
        one.close()


def values(rewards: list[Reward], name: str) -> list[float]:
    return [reward.parts[name] for reward in rewards]


def test_a_function_of_one_completion_adds_its_weighted_value(run: Run) -> None:
    rewards = run(custom("length", weight=0.5))
    assert values(rewards, "length") == [len(text) for text in TEXTS]
    assert [reward.total for reward in rewards] == pytest.approx(
        [json + 0.5 * len(text) for json, text in zip((1.0, 0.0, 1.0), TEXTS, strict=True)]
    )
    assert [reward.tag for reward in rewards] == ["score", "invalid_output", "score"]
    assert rewards[0].entities == (1, 0, 0)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("everything", [1.0, -1.0, 0.0]),
        ("batch", [3.0, 4.5, 5.0]),
        ("patient_batch", [1.0, 1.0, 1.0]),
        ("judge", [0.5, 0.5, 0.5]),
    ],
)
def test_the_signature_says_how_a_function_is_called(
    name: str, expected: list[float], run: Run
) -> None:
    assert values(run(custom(name)), name) == expected


def test_async_calls_of_a_prompt_run_at_the_same_time(run: Run) -> None:
    run(custom("patient"))
    started = time.perf_counter()
    assert values(run(custom("patient")), "patient") == [len(text) for text in TEXTS]
    assert time.perf_counter() - started < 3 * 0.5


def test_several_functions_add_up_and_the_process_stays(run: Run) -> None:
    functions = (custom("pid"), custom("length"))
    first, second = run(*functions), run(*functions)
    assert len({*values(first, "pid"), *values(second, "pid")}) == 1
    assert set(first[0].parts) == {"json", "pid", "length"}


@pytest.mark.parametrize("name", ["hangs_without_graph", "sleeps_without_graph"])
def test_a_call_that_hangs_is_a_timeout_and_the_others_count(name: str, run: Run) -> None:
    for _ in range(2):  # the second time in a new process
        rewards = run(custom(name, deadline_s=1.0))
        assert [reward.tag for reward in rewards] == ["score", "timeout", "score"]
        assert [reward.parts for reward in rewards] == [
            {"json": 1.0, name: 1.0},
            {},
            {"json": 1.0, name: 1.0},
        ]


def test_a_batch_that_hangs_is_a_timeout_for_all(run: Run) -> None:
    rewards = run(custom("hangs_for_all", deadline_s=0.5))
    assert [reward.tag for reward in rewards] == ["timeout"] * 3


@pytest.mark.parametrize(
    ("name", "tags"),
    [
        ("dies_without_graph", ["score", "grader_error", "score"]),
        ("raises_without_graph", ["score", "grader_error", "score"]),
        ("too_few", ["grader_error"] * 3),
        ("needs_more", ["grader_error"] * 3),
    ],
)
def test_a_function_that_fails_is_a_grader_error_and_never_a_zero(
    name: str, tags: list[str], run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        rewards = run(custom(name))
    assert [reward.tag for reward in rewards] == tags
    assert all(reward.parts == {} for reward in rewards if reward.tag == "grader_error")
    assert f"my_rewards:{name}" in caplog.text


def test_what_is_not_a_finite_number_is_a_grader_error(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        rewards = run(custom("bad_numbers"), texts=(GOLD.to_json(),) * 6)
    assert {reward.tag for reward in rewards} == {"grader_error"}
    for found in ("found nan", "found inf", "found str", "NoneType", "found bool", "found list"):
        assert found in caplog.text


def test_a_total_that_is_not_finite_is_a_grader_error(run: Run) -> None:
    huge = custom("length", weight=1e308)
    assert {reward.tag for reward in run(huge)} == {"grader_error"}


def test_a_group_masks_what_its_grader_could_not_grade(folder: Path) -> None:
    function = custom("hangs_without_graph", deadline_s=1.0)
    tokenizer = build_tokenizer()
    group = Group(
        prompt=Prompt(index=0, token_ids=(1,)),
        completions=tuple(
            Completion(
                token_ids=np.array(tokenizer.encode(text, add_special_tokens=False), np.int32),
                logprobs=np.zeros(1, np.float32),
                versions=np.zeros(1, np.int32),
                finish_reason="stop",
            )
            for text in TEXTS
        ),
        sampler=0,
        generate_s=0.0,
    )
    spec = RewardSpec({"f1_entities": 1.0}, custom=(function,))
    functions = CustomRewards(spec.custom, str(folder))
    try:
        summary, _ = score_group(group, RECORD, tokenizer, spec, thinking=False, custom=functions)
    finally:
        functions.close()
    assert summary.is_valid == (True, False, True)
    assert summary.rewards == (2.0, 0.0, 1.0)
    # Raw scores are of the graded ones and do not hold the user's part.
    assert (summary.f1[0], summary.f1[2]) == (1.0, 0.0)
    assert summary.total_counts.entities.as_tuple() == (1, 0, 1)
    assert summary.parts == {"f1_entities": 0.5, "hangs_without_graph": 1.0}


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("no_such_module:f", "no_such_module:f must be importable as module:function, found Mod"),
        ("my_rewards:no_such_name", "found AttributeError: .*no_such_name"),
        ("my_rewards:constant", "must be a function, found int"),
        ("my_rewards:neither", r"must take either `completions` .* found the parameters \['text'"),
        ("my_rewards:both", "must take either"),
        ("breaks:f", "found ZeroDivisionError"),
        ("exits:f", "must load in a process of its own, found the end of that process"),
    ],
)
def test_a_function_that_cannot_be_used_is_refused_at_the_start(
    path: str, message: str, folder: Path
) -> None:
    (folder / "breaks.py").write_text("1 / 0")
    (folder / "exits.py").write_text("import os; os._exit(0)")
    function = CustomReward(path=path, name="f", weight=1.0, deadline_s=1.0)
    with pytest.raises(ValueError, match=message):
        check_custom([function], str(folder))


def test_what_a_hung_function_started_is_killed_with_it(
    folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid_file = folder / "pid"
    monkeypatch.setenv("PID_FILE", str(pid_file))
    assert run(custom("starts_another", deadline_s=2.0), texts=TEXTS[:1])[0].tag == "timeout"
    wait_until(lambda: is_gone(int(pid_file.read_text())))


def test_a_hung_process_ends_when_its_parent_is_killed(folder: Path) -> None:
    pid_file = folder / "pid"
    code = f"""
from tests.unit.rewards.test_custom import *
rewards = (custom("starts_another"),)
base = grade_all(TEXTS[:1], RECORD, RewardSpec({{"json": 1.0}}), thinking=False, num_tokens=[0])
CustomRewards(rewards, {str(folder)!r}).add(base, TEXTS[:1], RECORD, thinking=False)
"""
    environment = {**os.environ, "PID_FILE": str(pid_file), "PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen([sys.executable, "-c", code], env=environment, cwd=ROOT)
    wait_until(lambda: pid_file.is_file() and pid_file.read_text() != "")
    parent.kill()
    parent.wait()
    wait_until(lambda: is_gone(int(pid_file.read_text())))


def wait_until(is_true: Callable[[], bool]) -> None:
    ends = time.monotonic() + 20
    while not is_true():
        assert time.monotonic() < ends, "waited for 20 s"
        time.sleep(0.05)


def is_gone(pid: int) -> bool:
    """Whether the process ended; one that nobody has waited for yet counts as ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"
