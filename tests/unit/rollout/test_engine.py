"""Bookkeeping around vLLM, with an engine that writes token 7 until it is told to end a request."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from t2g_ray.config import LoraConfig
from t2g_ray.graph import Graph
from t2g_ray.rollout import engine as engine_module
from t2g_ray.rollout.adapters import AdapterSlots
from t2g_ray.rollout.engine import GenerationEngine
from t2g_ray.rollout.spec import Sampling
from t2g_ray.types import Group, Prompt, Purpose, Record
from t2g_ray.weights.manifest import Manifest, WeightSyncError, pack_buckets
from t2g_ray.weights.worker_calls import Failure
from tests.unit.parts import engine_spec

RECORD = Record(text="Ann.", entity_types=("person",), relation_types=(), graph=Graph((), ()))
SAMPLING = Sampling(group_size=2, temperature=1.0, max_new_tokens=8)


class FakeState:
    """What vLLM keeps of an unfinished completion."""

    def __init__(self, group: str, member: int) -> None:
        self.external_req_id, self.request_index = group, member
        self.ids: list[int] = []
        self.detokenizer = SimpleNamespace(num_output_tokens=lambda: len(self.ids))


class FakeRequest:
    """What vLLM's scheduler keeps of a completion, as far as cached prefixes go."""

    def __init__(self, num_computed_tokens: int) -> None:
        self.num_computed_tokens = num_computed_tokens
        self.cache_salt = "train v0"
        self.block_hashes: list[str] = []
        self.update_block_hashes()

    def update_block_hashes(self) -> None:
        self.block_hashes.append(f"of {self.cache_salt}")


class FakeVllm:
    """Writes one token a step for every completion, as many as `ends` says of "group-member", else
    three; hands a group over once all of it is there."""

    def __init__(self) -> None:
        self.ends: dict[str, int] = {}
        self.salts: list[str] = []
        self.seeds: list[int] = []
        self.adapters: list[Any] = []
        self.calls: list[tuple[Any, ...]] = []
        self.refused: str | None = None
        self.num_workers = 1
        self.longest_prompt = 16
        self.has_logprobs = True
        self.is_down = False
        self.output_processor = SimpleNamespace(request_states={})
        core = SimpleNamespace(scheduler=SimpleNamespace(requests={}))
        self.engine_core = SimpleNamespace(shutdown=self._shut_down, engine_core=core)
        self._whole: dict[str, dict[int, Any]] = {}

    def _shut_down(self) -> None:
        self.is_down = True

    def add_request(
        self, name: str, prompt: dict[str, Any], parameters: Any, lora_request: Any = None
    ) -> str:
        self.adapters.append(lora_request)
        if len(prompt["prompt_token_ids"]) > self.longest_prompt:
            raise ValueError("the prompt is too long")
        self.salts.append(prompt["cache_salt"])
        self.seeds.append(parameters.seed)
        for member in range(parameters.group_size):
            self._states[f"{member}_{name}-internal"] = FakeState(name, member)
        self._whole[name] = {}
        return f"{name}-internal"

    @property
    def _states(self) -> dict[str, FakeState]:
        states: dict[str, FakeState] = self.output_processor.request_states
        return states

    def step(self) -> list[Any]:
        outputs = []
        for request, state in list(self._states.items()):
            state.ids.append(7)
            group, member = state.external_req_id, state.request_index
            if len(state.ids) < self.ends.get(f"{group}-{member}", 3):
                continue
            del self._states[request]
            self._whole[group][member] = self._completion(member, state.ids)
            if all(other.external_req_id != group for other in self._states.values()):
                members = [whole for _, whole in sorted(self._whole.pop(group).items())]
                outputs.append(SimpleNamespace(request_id=group, outputs=members, finished=True))
        return outputs

    def _completion(self, member: int, ids: list[int]) -> Any:
        logprobs = [-0.5] * (len(ids) if self.has_logprobs else len(ids) - 1)
        return SimpleNamespace(
            index=member,
            token_ids=ids,
            logprobs=SimpleNamespace(logprobs=logprobs),
            finish_reason="length" if len(ids) >= 8 else "stop",
        )

    def abort_request(self, requests: Sequence[str], internal: bool) -> None:
        assert internal
        for request in requests:
            for name in [name for name in self._states if name.endswith(f"_{request}")]:
                del self._states[name]

    def collective_rpc(self, method: Any, args: tuple[Any, ...]) -> list[Any]:
        asked, arguments = args
        name = asked if isinstance(asked, str) else asked.__name__
        self.calls.append((name, *arguments))
        answers: list[Any] = [None] * self.num_workers
        if name == self.refused:
            # As `method` hands it over.
            answers[-1] = Failure("tensor w")
        return answers


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> FakeVllm:
    fake = FakeVllm()
    monkeypatch.setattr(engine_module, "start_vllm", lambda spec: fake)
    monkeypatch.setattr(
        engine_module, "sampling_parameters", lambda sampling, seed: replace(sampling, seed=seed)
    )
    return fake


def engine_of(
    *, seed: int = 0, sampler: int = 0, adapters: AdapterSlots | None = None
) -> GenerationEngine:
    return GenerationEngine(engine_spec(seed=seed, sampler=sampler, adapters=adapters))


def prompt(index: int) -> Prompt:
    return Prompt(index=index, token_ids=(1, 2))


def weights(version: int) -> tuple[Manifest, list[Any]]:
    tensors = [("a", torch.ones(4)), ("b", torch.ones(4)), ("c", torch.ones(4))]
    packed = list(pack_buckets(tensors, bucket_bytes=32))
    entries = tuple(entry for _, part in packed for entry in part)
    data = [data for data, _ in packed]
    return Manifest(version=version, entries=entries, num_buckets=len(data)), data


def load(engine: GenerationEngine, version: int, *, verify: bool = False) -> None:
    engine.load(*weights(version), verify=verify)


def finish(engine: GenerationEngine) -> list[Group]:
    groups: list[Group] = []
    while engine.is_busy:
        groups += engine.step()
    return groups


def test_a_group_leaves_the_engine_whole_and_in_order_of_its_members(vllm: FakeVllm) -> None:
    engine = engine_of()
    vllm.ends = {"train 4-0": 5, "train 4-1": 2}
    engine.add(prompt(4), SAMPLING)
    assert [engine.step() for _ in range(4)] == [[], [], [], []]
    (group,) = engine.step()
    assert [len(c.token_ids) for c in group.completions] == [5, 2]
    assert (group.prompt.index, group.sampler) == (4, 0)
    assert not engine.is_busy
    assert engine.num_generated_tokens == 7


def test_completions_keep_ids_logprobs_and_why_they_ended(vllm: FakeVllm) -> None:
    engine = engine_of()
    vllm.ends = {"train 0-0": 8, "train 0-1": 1}
    engine.add(prompt(0), SAMPLING)
    (group,) = finish(engine)
    first, second = group.completions
    assert (first.finish_reason, second.finish_reason) == ("length", "stop")
    assert (second.token_ids.tolist(), second.logprobs.tolist()) == ([7], [-0.5])
    assert first.token_ids.dtype == np.dtype(np.int32)
    assert first.logprobs.dtype == np.dtype(np.float32)


def test_each_token_carries_the_version_that_wrote_it(vllm: FakeVllm) -> None:
    engine = engine_of()
    load(engine, 3)
    vllm.ends = {"train 0-0": 5, "train 0-1": 1}
    engine.add(prompt(0), SAMPLING)
    engine.step()
    load(engine, 4)
    engine.step()
    engine.step()
    load(engine, 5)
    (group,) = finish(engine)
    assert group.completions[0].versions.tolist() == [3, 4, 4, 5, 5]
    assert group.completions[1].versions.tolist() == [3]


def test_weights_that_come_before_the_first_token_own_it(vllm: FakeVllm) -> None:
    engine = engine_of()
    load(engine, 0)
    engine.add(prompt(0), SAMPLING)
    load(engine, 1)
    (group,) = finish(engine)
    assert group.completions[0].versions.tolist() == [1, 1, 1]


def test_cached_prefixes_are_kept_apart_by_version_and_from_those_of_an_evaluation(
    vllm: FakeVllm,
) -> None:
    engine = engine_of()
    for version in (0, 1):
        load(engine, version)
        for one in (prompt(0), replace(prompt(0), purpose="eval")):
            engine.add(one, SAMPLING)
            finish(engine)
    assert vllm.salts == ["train v0", "eval v0", "train v1", "eval v1"]


def test_new_weights_key_anew_what_has_read_nothing_yet(vllm: FakeVllm) -> None:
    engine = engine_of()
    load(engine, 0)
    waiting, running = (FakeRequest(num_computed_tokens=n) for n in (0, 5))
    vllm.engine_core.engine_core.scheduler.requests |= {"a": waiting, "b": running}
    load(engine, 1)
    assert (waiting.cache_salt, waiting.block_hashes) == ("train v1", ["of train v1"])
    assert (running.cache_salt, running.block_hashes) == ("train v0", ["of train v0"])


def test_the_seed_of_a_group_is_that_of_its_run_engine_version_and_prompt(vllm: FakeVllm) -> None:
    def seeds(
        version: int, indices: Sequence[int], purpose: Purpose = "train", **spec: int
    ) -> list[int]:
        engine, before = engine_of(**spec), len(vllm.seeds)
        load(engine, version)
        for index in indices:
            engine.add(replace(prompt(index), purpose=purpose), SAMPLING)
        finish(engine)
        return vllm.seeds[before:]

    first = seeds(2, [5, 6])
    # The same ones again after a resume, and whatever is written beside a group.
    assert seeds(2, [6, 4, 5]) == [first[1], *seeds(2, [4]), first[0]]
    others = [
        first,
        seeds(3, [5]),
        seeds(2, [5], "eval"),
        seeds(2, [5], seed=1),
        seeds(2, [5], sampler=1),
    ]
    all_seeds = [seed for some in others for seed in some]
    assert len(set(all_seeds)) == len(all_seeds) == 6
    # vLLM adds the number of the completion, and takes 63 bits.
    assert all(0 <= seed < 2**63 - 10_000 for seed in all_seeds)


def test_a_seed_that_is_given_is_used(vllm: FakeVllm) -> None:
    engine = engine_of()
    load(engine, 0)
    engine.add(prompt(1), replace(SAMPLING, seed=77))
    assert vllm.seeds == [77]


def test_a_prompt_is_started_once(vllm: FakeVllm) -> None:
    engine = engine_of()
    engine.add(prompt(0), SAMPLING)
    with pytest.raises(ValueError, match="prompt train 0 must be started once"):
        engine.add(prompt(0), SAMPLING)


def test_a_token_without_its_logprob_is_an_error(vllm: FakeVllm) -> None:
    engine = engine_of()
    vllm.has_logprobs = False
    engine.add(prompt(0), SAMPLING)
    with pytest.raises(RuntimeError, match="one log-prob a token, found 2 for 3 tokens"):
        finish(engine)


def test_a_prompt_that_vllm_refuses_leaves_the_engine_as_it_was(vllm: FakeVllm) -> None:
    engine = engine_of()
    engine.add(prompt(0), SAMPLING)
    too_long = Prompt(index=1, token_ids=tuple(range(17)))
    with pytest.raises(ValueError, match="the prompt is too long"):
        engine.add(too_long, SAMPLING)
    assert engine.open_prompts == ["train 0"]
    engine.add(prompt(1), SAMPLING)
    assert sorted(group.prompt.index for group in finish(engine)) == [0, 1]


def test_aborted_groups_tell_how_far_they_were_and_can_be_started_again(vllm: FakeVllm) -> None:
    engine = engine_of()
    load(engine, 0)
    vllm.ends = {"train 9-1": 1, "train 3-0": 4}
    engine.add(prompt(9), SAMPLING)
    engine.step()
    engine.add(prompt(2), SAMPLING)
    engine.add(prompt(3), SAMPLING)
    engine.step()
    assert engine.open_prompts == ["train 9", "train 2", "train 3"]
    # A completion of 9 was finished after one token; 7 is not there.
    aborted = engine.abort(["train 2", "train 7", "train 9"])
    assert aborted == {"train 2": [1, 1], "train 9": [2]}
    assert engine.open_prompts == ["train 3"]
    load(engine, 1)
    engine.add(prompt(2), SAMPLING)
    groups = {group.prompt.index: group for group in finish(engine)}
    assert groups.keys() == {2, 3}
    assert groups[3].completions[0].versions.tolist() == [0, 1, 1, 1]
    assert engine.abort(["train 2"]) == {}


def test_a_load_is_start_buckets_finish_and_proof(vllm: FakeVllm) -> None:
    engine = engine_of()
    load(engine, 0, verify=True)
    assert [call[0] for call in vllm.calls] == [
        "check_kinds",
        "start_weight_update",
        "update_weights",
        "update_weights",
        "finish_weight_update",
        "prove",
    ]
    # Each bucket comes with the part of the manifest that describes it.
    named = [[entry.name for entry in call[1]["entries"]] for call in vllm.calls[2:4]]
    assert named == [["a", "b"], ["c"]]
    assert all(call[1]["is_proven"] for call in vllm.calls[2:4])


def test_a_load_without_proof_asks_for_none(vllm: FakeVllm) -> None:
    load(engine_of(), 0)
    assert vllm.calls[-1][0] == "finish_weight_update"


@pytest.mark.parametrize("refused", ["update_weights", "prove"])
def test_a_version_is_stamped_only_after_it_was_applied(vllm: FakeVllm, refused: str) -> None:
    engine = engine_of()
    load(engine, 3)
    vllm.refused = refused
    with pytest.raises(WeightSyncError, match="tensor w"):
        load(engine, 4, verify=True)
    assert engine.version == 3


def test_a_missing_bucket_is_noticed_before_anything_is_loaded(vllm: FakeVllm) -> None:
    engine = engine_of()
    manifest, data = weights(0)
    with pytest.raises(WeightSyncError, match="version 0 must come in 2 buckets, found 1"):
        engine.load(manifest, data[:1], verify=False)
    assert [call[0] for call in vllm.calls] == ["check_kinds"]
    assert engine.version == -1
    engine.add(prompt(0), SAMPLING)
    assert len(finish(engine)) == 1


def test_weights_of_two_versions_write_nothing_until_a_whole_one_is_proven(vllm: FakeVllm) -> None:
    engine = engine_of()
    load(engine, 3)
    engine.add(prompt(0), SAMPLING)
    vllm.refused = "finish_weight_update"
    with pytest.raises(WeightSyncError, match="tensor w"):
        load(engine, 4)
    vllm.refused = None
    refusals: list[Callable[[], object]] = [
        lambda: engine.add(prompt(1), SAMPLING),
        engine.step,
        lambda: engine.verify(weights(4)[0]),
        lambda: load(engine, 5, verify=False),
        lambda: engine.receive(5, verify=False),
    ]
    for refused in refusals:
        with pytest.raises(WeightSyncError, match=r"one version, .* version 4 failed: tensor w"):
            refused()
    load(engine, 5, verify=True)
    # An update that did not end would let no other begin.
    names = [call[0] for call in vllm.calls]
    assert names[names.index("close_failed_update") + 1] == "start_weight_update"
    (group,) = finish(engine)
    assert set(group.completions[0].versions.tolist()) == {5}
    load(engine, 6)
    assert [call[0] for call in vllm.calls].count("close_failed_update") == 1


def test_a_fault_of_one_worker_of_several_names_its_rank(vllm: FakeVllm) -> None:
    engine = engine_of()
    vllm.num_workers, vllm.refused = 3, "update_weights"
    with pytest.raises(WeightSyncError, match="rank 2 of 3: tensor w"):
        load(engine, 0)


def test_closing_releases_vllm(vllm: FakeVllm) -> None:
    engine_of().close()
    assert vllm.is_down


@pytest.fixture
def slotted(vllm: FakeVllm, monkeypatch: pytest.MonkeyPatch) -> GenerationEngine:
    """An engine with slots for two versions, whose requests name theirs."""
    monkeypatch.setattr(engine_module, "request_of", lambda version: f"adapter {version}")
    monkeypatch.setattr(engine_module, "check_products", lambda workers: None)
    return engine_of(adapters=AdapterSlots(lora=LoraConfig(rank=2), number=2))


def test_a_group_keeps_the_adapter_that_it_began_with(
    vllm: FakeVllm, slotted: GenerationEngine
) -> None:
    load(slotted, 3)
    slotted.add(prompt(0), SAMPLING)
    slotted.step()
    waiting = FakeRequest(0)
    vllm.engine_core.engine_core.scheduler.requests["x"] = waiting
    load(slotted, 4)
    slotted.add(prompt(1), SAMPLING)
    assert vllm.adapters == ["adapter 3", "adapter 4"]
    # What waits is of its own version, and so are the prefixes that it may read.
    assert waiting.cache_salt == "train v0" and len(waiting.block_hashes) == 1
    versions = {
        group.prompt.index: {int(v) for one in group.completions for v in one.versions}
        for group in finish(slotted)
    }
    assert versions == {0: {3}, 1: {4}}


def test_versions_of_open_groups_stay_and_others_leave(
    vllm: FakeVllm, slotted: GenerationEngine
) -> None:
    load(slotted, 3)
    slotted.add(prompt(0), SAMPLING)
    load(slotted, 4)
    slotted.add(prompt(1), SAMPLING)
    with pytest.raises(WeightSyncError, match=r"version 5 comes, found \[3, 4\]"):
        load(slotted, 5)
    assert slotted.version == 4
    finish(slotted)
    load(slotted, 5, verify=True)
    installed = [call[1:] for call in vllm.calls if call[0] == "install_adapter"]
    assert installed == [(3, set()), (4, {3}), (5, set())]
    # A version is proved once it is installed, and refused before any of it is loaded.
    names = [call[0] for call in vllm.calls]
    assert names[-2:] == ["install_adapter", "verify_adapter"]
    assert names.count("start_weight_update") == 3


def test_a_version_whose_adapter_is_refused_is_not_stamped(
    vllm: FakeVllm, slotted: GenerationEngine
) -> None:
    load(slotted, 3)
    vllm.refused = "install_adapter"
    with pytest.raises(WeightSyncError, match="tensor w"):
        load(slotted, 4)
    assert slotted.version == 3


def test_adapters_over_the_link_are_installed_and_proved_too(
    vllm: FakeVllm, slotted: GenerationEngine
) -> None:
    slotted.receive(7, verify=True)
    names = [call[0] for call in vllm.calls]
    assert names[-3:] == ["finish_weight_update", "install_adapter", "verify_adapter"]
    assert slotted.version == 7
