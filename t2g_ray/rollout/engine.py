"""Prompts -> groups of completions, by one vLLM engine in this process.

Invariant: every token carries the version of the weights that wrote it, a prefix cached under one
version is never read under another, and a group leaves the engine complete or not at all.

The engine starts from random weights: only a real first sync makes it the policy.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from t2g_ray.rollout.adapters import install_adapter, request_of, verify_adapter, versions_in_use
from t2g_ray.rollout.drafting import Guesser
from t2g_ray.rollout.spec import EngineSpec, Sampling, sampling_parameters, seed_of, start_vllm
from t2g_ray.run.timing.profiled import EngineProfiler
from t2g_ray.types import Completion, FloatArray, Group, IntArray, Prompt
from t2g_ray.vllm_private.engine import (
    begun_completions,
    num_running,
    rekey_waiting_requests,
    running_completions,
    shut_down,
    vocabulary_size,
)
from t2g_ray.weights.adapters import check_products
from t2g_ray.weights.channels import Rendezvous, SharedBucket
from t2g_ray.weights.manifest import Bucket, Manifest, WeightSyncError
from t2g_ray.weights.worker_calls import (
    check_kinds,
    close_failed_update,
    on_worker,
    prove,
    raise_failure,
    worker_key,
)

if TYPE_CHECKING:
    from vllm.outputs import CompletionOutput, RequestOutput


CHECK_BYTES = 512 * 2**20
"""Memory for checking guesses in a pass: a large vocabulary allows fewer guesses."""


@dataclass(slots=True)
class _OpenGroup:
    prompt: Prompt
    started_s: float
    request: str
    """vLLM's own name of the group."""
    version_starts: list[list[tuple[int, int]]]
    """For each completion (first token, version): where a new version began."""
    guesser: Guesser


class GenerationEngine:
    """One vLLM engine, stepped by the caller. Not thread-safe: one thread makes and uses it,
    because OpenMP keeps a pool of threads for each thread that calls it."""

    def __init__(self, spec: EngineSpec) -> None:
        self.spec = spec
        self.version = -1
        self.num_generated_tokens = 0
        self.num_passes = 0
        """Passes of the model in which a completion grew, summed over all completions."""
        self._open: dict[str, _OpenGroup] = {}
        """Open groups by the key of their prompt."""
        self._engine = start_vllm(spec)
        self._profiler = EngineProfiler(self._engine, spec.profiled, f"rollout-{spec.sampler}")
        self._broken = ""
        """Why the weights are in parts of two versions; empty: they are not."""
        if not spec.load_weights:
            self._call(check_kinds)
        if spec.draft_tokens:
            from t2g_ray.rollout.vllm_drafting import install_verifier

            self._call(install_verifier)
            # Every checked token has a row of logits and one of log-probs, in float32.
            self._max_checked = CHECK_BYTES // (2 * 4 * vocabulary_size(self._engine))

    @property
    def is_busy(self) -> bool:
        """Whether any group is unfinished."""
        return bool(self._open)

    @property
    def open_prompts(self) -> list[str]:
        """Keys of the prompts being worked on."""
        return list(self._open)

    def add(self, prompt: Prompt, sampling: Sampling) -> None:
        """Start a group. Raises ValueError when the prompt is already open, WeightSyncError after
        an update that failed, and vLLM's own error for a prompt or sampling that it refuses; the
        engine is then as it was."""
        self._check_whole()
        if prompt.key in self._open:
            raise ValueError(f"prompt {prompt.key} must be started once, it is already open")
        seed = seed_of(self.spec, sampling, prompt, version=self.version)
        # One request for all completions: vLLM reads and checks the prompt once.
        request = self._engine.add_request(
            prompt.key,
            {"prompt_token_ids": list(prompt.token_ids), "cache_salt": self._salt(prompt.purpose)},
            sampling_parameters(sampling, seed=seed),
            **({"lora_request": request_of(self.version)} if self.spec.adapters else {}),
        )
        version_starts = [[(0, self.version)] for _ in range(sampling.group_size)]
        self._open[prompt.key] = _OpenGroup(
            prompt, time.time(), request, version_starts, Guesser(prompt.likely_ids)
        )

    def step(self) -> list[Group]:
        """One pass of the model: every running completion grows. Returns the finished groups.

        Raises WeightSyncError after an update that failed.
        """
        self._check_whole()
        groups = [self._close(output) for output in self._engine.step() if output.finished]
        if self.spec.draft_tokens:
            self._guess()
        return groups

    def _guess(self) -> None:
        """Give vLLM a guess for every running completion, which its next pass checks."""
        share = self._max_checked // max(1, num_running(self._engine)) - 1
        share = min(self.spec.draft_tokens, share)
        for completion in begun_completions(self._engine):
            self.num_passes += 1
            written = completion.token_ids
            # One token more than was guessed comes out of a pass.
            room = completion.max_tokens - len(written) - 1
            guesser = self._open[completion.group].guesser
            completion.offer_guess(guesser.guess(written, min(share, room)))

    def _close(self, output: RequestOutput) -> Group:
        group = self._open.pop(output.request_id)
        completions = tuple(
            _completion(one, group.version_starts[one.index]) for one in output.outputs
        )
        num_tokens = sum(len(one.token_ids) for one in completions)
        self.num_generated_tokens += num_tokens
        # Where tokens are guessed, all passes but a completion's last are counted as they happen.
        self.num_passes += len(completions) if self.spec.draft_tokens else num_tokens
        return Group(
            prompt=group.prompt,
            completions=completions,
            sampler=self.spec.sampler,
            generate_s=time.time() - group.started_s,
        )

    def abort(self, keys: Iterable[str]) -> dict[str, list[int]]:
        """Forget the open groups among those of these prompts.

        Returns, for each one, how many tokens each of its unfinished completions had.
        """
        lengths: dict[str, list[int]] = {key: [] for key in keys if key in self._open}
        for completion in running_completions(self._engine):
            if completion.group in lengths:
                lengths[completion.group].append(completion.num_written)
        groups = [self._open.pop(key) for key in lengths]
        self._engine.abort_request([group.request for group in groups], internal=True)
        return lengths

    def load(
        self, manifest: Manifest, buckets: Sequence[Bucket | SharedBucket], *, verify: bool
    ) -> None:
        """Replace the weights under the running groups and stamp the version afterwards.

        Raises WeightSyncError naming the tensor, and the worker where there are several. The old
        version then stays stamped, and the engine neither takes nor continues groups until a whole
        update with `verify` has succeeded.
        """
        if len(buckets) != manifest.num_buckets:
            raise WeightSyncError(
                f"version {manifest.version} must come in {manifest.num_buckets} buckets, "
                f"found {len(buckets)}"
            )
        updates = (
            {"bucket": bucket, "entries": manifest.of_bucket(number), "is_proven": verify}
            for number, bucket in enumerate(buckets)
        )
        self._replace_weights(updates, manifest.version, verify=verify)

    def device_key(self) -> str:
        """`channels.device_key` of the first worker."""
        return str(self._call(worker_key)[0])

    def connect(self, rendezvous: Rendezvous, first_rank: int) -> None:
        """Join the link over which `receive` gets weights."""
        where = {"rendezvous": rendezvous, "first_rank": first_rank}
        self._call("init_weight_transfer_engine", where)

    def receive(self, version: int, *, verify: bool) -> None:
        """Like `load`, with all buckets that the learner sends over the link as `version`."""
        self._replace_weights([{"bucket": None, "is_proven": verify}], version, verify=verify)

    def _replace_weights(
        self, updates: Iterable[dict[str, Any]], version: int, *, verify: bool
    ) -> None:
        if not verify:
            self._check_whole()
        in_use, had_failed = self._versions_in_use(version), bool(self._broken)
        self._broken = f"the update to version {version} did not end"
        # Boundary: whatever stops an update leaves weights of two versions behind.
        try:
            if had_failed:
                self._call(close_failed_update)
            self._call("start_weight_update")
            for update in updates:
                self._call("update_weights", update)
            self._call("finish_weight_update")
            if in_use is not None:
                self._use_adapter(version, in_use, verify=verify)
            elif verify:
                self._call(prove)
        except Exception as error:
            self._broken = f"the update to version {version} failed: {error}"
            raise
        self._broken = ""
        self._mark_version(version)

    def _check_whole(self) -> None:
        if self._broken:
            found = f"found that {self._broken}; send a whole version, verified"
            raise WeightSyncError(f"an engine must hold the weights of one version, {found}")

    def _versions_in_use(self, version: int) -> set[int] | None:
        """The versions whose adapters stay when `version` comes; None without adapters."""
        slots = self.spec.adapters
        begun = {group.version_starts[0][0][1] for group in self._open.values()}
        return versions_in_use(begun, version, slots) if slots else None

    def _use_adapter(self, version: int, in_use: set[int], *, verify: bool) -> None:
        self._call(install_adapter, version, in_use)
        if verify:
            check_products(self._call(verify_adapter, version))

    def _mark_version(self, version: int) -> None:
        self.version = version
        self._profiler.at_version(version)
        if self.spec.adapters:
            return  # what has begun ends under its own adapter
        for completion in running_completions(self._engine):
            version_starts = self._open[completion.group].version_starts[completion.member]
            version_starts.append((completion.num_written, version))
        # Requests that are waiting or were preempted would read prefixes of the older weights.
        rekey_waiting_requests(self._engine, lambda salt: self._salt(salt.partition(" ")[0]))

    def _salt(self, purpose: str) -> str:
        """Cached prefixes are keyed by version, so that an old one cannot be hit.

        And by purpose: a resumed run may skip evaluations, so their prefixes must not decide what
        training finds in the cache.
        """
        return f"{purpose} v{self.version}"

    def verify(self, manifest: Manifest) -> None:
        """Check that all layers compute with the manifest's tensors, which came with `verify`."""
        self._check_whole()
        self._call(prove, manifest)

    def _call(self, method: Any, *arguments: Any) -> list[Any]:
        """What each worker answers; `method` is a function of a worker, or a method's name.

        Raises the WeightSyncError of a worker as such.
        """
        results: list[Any] = self._engine.collective_rpc(on_worker, args=(method, arguments))
        raise_failure(results)
        return results

    def close(self) -> None:
        """Release the engine's memory and child processes."""
        shut_down(self._engine)


def _completion(output: CompletionOutput, version_starts: list[tuple[int, int]]) -> Completion:
    token_ids: IntArray = np.asarray(output.token_ids, dtype=np.int32)
    flat: Any = output.logprobs
    logprobs: FloatArray = np.asarray(flat.logprobs, dtype=np.float32)
    if logprobs.shape != token_ids.shape:
        raise RuntimeError(
            f"the engine must report one log-prob a token, found {logprobs.size} for "
            f"{token_ids.size} tokens"
        )
    versions: IntArray = np.empty_like(token_ids)
    for first, version in version_starts:
        versions[first:] = version
    return Completion(
        token_ids=token_ids,
        logprobs=logprobs,
        versions=versions,
        finish_reason="stop" if output.finish_reason == "stop" else "length",
    )
