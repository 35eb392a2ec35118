"""Weights that stay on their device: flat buckets, links between processes, shared memory."""

from __future__ import annotations

import gc
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import ClassVar

import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st

from t2g_ray.weights.channels import (
    ALIGNMENT,
    FlatBucket,
    Link,
    Rendezvous,
    device_key,
    flat_buckets,
    offer,
    unflatten,
)
from t2g_ray.weights.manifest import bytes_of, check_received
from tests.ports import free_port

CPU = torch.device("cpu")
TENSORS = [
    ("embedding", torch.arange(12, dtype=torch.float32).view(4, 3)),
    ("scale", torch.tensor([1.5, -2.0, 0.25], dtype=torch.bfloat16)),
    ("bias", torch.tensor(7.0, dtype=torch.float64)),
    ("down", torch.linspace(0, 1, 10).view(2, 5).T),
]


def buckets_of(*, bucket_bytes: int, is_proven: bool = True) -> list[FlatBucket]:
    return list(flat_buckets(TENSORS, bucket_bytes=bucket_bytes, is_proven=is_proven))


@given(st.integers(1, 200), st.booleans())
def test_every_cut_into_buckets_gives_the_tensors_back(bucket_bytes: int, is_proven: bool) -> None:
    found = {}
    for flat, entries in buckets_of(bucket_bytes=bucket_bytes, is_proven=is_proven):
        assert flat.numel() % ALIGNMENT == 0
        tensors = unflatten(flat, entries)
        if is_proven:
            check_received([bytes_of(tensor) for tensor in tensors], entries)
        found.update(zip([entry.name for entry in entries], tensors, strict=True))
    assert list(found) == [name for name, _ in TENSORS]
    for name, tensor in TENSORS:
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


def test_a_bucket_is_a_copy_that_later_changes_of_the_tensors_do_not_reach() -> None:
    tensor = torch.ones(3)
    ((flat, entries),) = flat_buckets([("w", tensor)], bucket_bytes=100, is_proven=False)
    tensor.zero_()
    assert torch.equal(unflatten(flat, entries)[0], torch.ones(3))


def test_only_proven_entries_have_a_digest() -> None:
    assert all(e.digest for _, part in buckets_of(bucket_bytes=50) for e in part)
    unproven = buckets_of(bucket_bytes=50, is_proven=False)
    assert not any(e.digest for _, part in unproven for e in part)


def links(size: int, *, timeout_s: float = 20) -> list[Link]:
    """All ends of a link, in this process."""
    rendezvous = Rendezvous(address="127.0.0.1", port=free_port(), size=size, timeout_s=timeout_s)
    ends: dict[int, Link] = {}

    def join(rank: int) -> None:
        ends[rank] = Link(rendezvous, rank=rank, device=CPU)

    threads = [threading.Thread(target=join, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [ends[rank] for rank in range(size)]


def test_every_receiver_gets_all_buckets_and_the_next_version_after_them() -> None:
    sender, *receivers = links(3)
    received: dict[int, list[FlatBucket]] = {}

    def receive(number: int) -> None:
        received[number] = [*receivers[number].receive(), *receivers[number].receive()]

    threads = [threading.Thread(target=receive, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    sent = [list(sender.send(buckets_of(bucket_bytes=60))) for _ in range(2)]
    for thread in threads:
        thread.join()
    assert len(sent[0]) > 1
    for number in range(2):
        assert [entries for _, entries in received[number]] == sent[0] + sent[1]
        for flat, entries in received[number]:
            check_received([bytes_of(tensor) for tensor in unflatten(flat, entries)], entries)


def test_a_receiver_of_a_sender_that_fails_does_not_wait_for_ever() -> None:
    sender, receiver = links(2, timeout_s=2)

    def broken() -> Iterator[FlatBucket]:
        yield buckets_of(bucket_bytes=1000)[0]
        raise RuntimeError("no more")

    def send() -> None:
        with pytest.raises(RuntimeError, match="no more"):
            list(sender.send(broken()))

    thread = threading.Thread(target=send)
    thread.start()
    with pytest.raises(RuntimeError):
        list(receiver.receive())
    thread.join()


PEER = """
import sys, torch
from t2g_ray.weights.channels import Link, Rendezvous
port, rank = map(int, sys.argv[1:])
there = Rendezvous(address="127.0.0.1", port=port, size=2, timeout_s=20)
link = Link(there, rank=rank, device=torch.device("cpu"))
print("joined", flush=True)
sys.stdin.read()
"""


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_peer_that_is_killed_ends_a_message_with_an_error(rank: int) -> None:
    port = free_port()
    command = [sys.executable, "-c", PEER, str(port), str(1 - rank)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as peer:
        there = Rendezvous(address="127.0.0.1", port=port, size=2, timeout_s=20)
        link = Link(there, rank=rank, device=CPU)
        assert peer.stdout is not None
        assert peer.stdout.readline() == b"joined\n"
        peer.kill()
    began = time.monotonic()
    with pytest.raises(RuntimeError, match=r"(?i)connection|closed|timed out"):
        list(link.receive() if rank else link.send(buckets_of(bucket_bytes=1000)))
    assert time.monotonic() - began < 25


class NotedGroup:
    """In place of NCCL's group, which a build for CPUs lacks."""

    class Options:
        _timeout = timedelta()

    waits: ClassVar[list[tuple[str | None, timedelta]]] = []

    def __init__(self, store: object, rank: int, size: int, options: Options) -> None:
        self.waits.append((os.environ.get("TORCH_NCCL_BLOCKING_WAIT"), options._timeout))


@pytest.mark.parametrize("before", [None, "0"])
def test_between_gpus_a_wait_blocks_so_that_it_can_raise_and_other_groups_keep_theirs(
    before: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "TORCH_NCCL_BLOCKING_WAIT"
    monkeypatch.setattr(dist, "ProcessGroupNCCL", NotedGroup, raising=False)
    monkeypatch.setattr(NotedGroup, "waits", [])
    monkeypatch.delenv(name, raising=False)
    if before is not None:
        monkeypatch.setenv(name, before)
    there = Rendezvous(address="127.0.0.1", port=free_port(), size=1, timeout_s=7)
    Link(there, rank=0, device=torch.device("cuda"))
    assert NotedGroup.waits == [("1", timedelta(seconds=7))]
    assert os.environ.get(name) == before


READER = """
import pickle, sys
from t2g_ray.weights.channels import unflatten
bucket, entries = pickle.load(open(sys.argv[1], "rb"))
(tensor,) = unflatten(bucket.open(), entries)
print(tensor.sum().item())
"""


@pytest.mark.slow
def test_another_process_opens_a_bucket_while_its_owner_keeps_it(tmp_path: Path) -> None:
    tensors = [("w", torch.arange(1000, dtype=torch.float32))]
    ((flat, entries),) = flat_buckets(tensors, bucket_bytes=1, is_proven=False)
    bucket, kept = offer(flat)
    file = tmp_path / "bucket"
    file.write_bytes(pickle.dumps((bucket, entries)))
    command = [sys.executable, "-c", READER, str(file)]
    assert float(subprocess.check_output(command)) == sum(range(1000))
    del kept
    gc.collect()
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0


def test_all_processes_of_a_node_share_the_cpu() -> None:
    assert device_key(CPU) == device_key(torch.device("cpu", 0)) == "cpu"
