"""What vLLM does not document: all of it is listed, there, missed where it is not, and used in one
package only."""

from __future__ import annotations

import ast
import importlib
import pickle
import re
import sys
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from t2g_ray.rollout.spec import start_vllm
from t2g_ray.vllm_private import layers as private
from t2g_ray.vllm_private.parts import PrivatePartsMissing, check_private_parts
from t2g_ray.vllm_private.table import PRIVATE_PARTS, PrivatePart, Side
from tests.unit.parts import engine_spec
from tests.unit.test_architecture import PACKAGES, ROOT, SOURCES, imports_of, parse

NAMES = {part.name for part in PRIVATE_PARTS}
NEEDS_VLLM = pytest.mark.slow
"""Its import takes seconds."""

TOO_GENERAL = {
    # Words of torch, of Hugging Face and of thread pools.
    "apply",
    "config",
    "device",
    "forward",
    "hidden_size",
    "modules",
    "num_experts",
    "num_local_experts",
    "scheduler",
    "shutdown",
    # Words of the project's own settings and requests.
    "max_tokens",
    "requests",
    "temperature",
    "top_k",
    "top_p",
}
"""Names that the rest of the code uses for other things, which a scan would mistake for vLLM's."""

PUBLIC_MODULES = {
    "vllm",
    "vllm.config.profiler",
    "vllm.config.weight_transfer",
    "vllm.distributed.weight_transfer.base",
    "vllm.distributed.weight_transfer.factory",
    "vllm.engine.arg_utils",
    "vllm.lora.request",
    "vllm.outputs",
    "vllm.sampling_params",
    "vllm.v1.engine.llm_engine",
}

OTHERS = [name for name in SOURCES if not name.startswith("t2g_ray.vllm_private")]


def private_names(tree: ast.Module) -> Iterator[str]:
    """Names of the table that code asks something for, by a dot or by `getattr` and the like."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            found: object = node.attr
        elif (
            isinstance(node, ast.Call)
            and ast.unparse(node.func) in ("getattr", "setattr", "hasattr")
            and isinstance(node.args[1], ast.Constant)
        ):
            found = node.args[1].value
        else:
            continue
        if isinstance(found, str) and found in NAMES - TOO_GENERAL:
            yield found


def test_the_scan_sees_dots_and_getattr_but_not_the_keys_of_a_prompt() -> None:
    source = "a.engine_core.scheduler\ngetattr(b, 'quant_method', None)\n{'cache_salt': c}"
    assert sorted(private_names(ast.parse(source))) == ["engine_core", "quant_method"]
    assert TOO_GENERAL <= NAMES


@pytest.mark.untraced
@pytest.mark.parametrize("module", OTHERS)
def test_no_other_module_uses_what_vllm_does_not_document(module: str) -> None:
    assert list(private_names(parse(module))) == []
    # Names imported from a module, like `vllm.outputs.RequestOutput`, are public with it.
    from_vllm = {name for name, _ in imports_of(module) if name.split(".")[0] == "vllm"}
    assert {name.rpartition(".")[0] or name for name in from_vllm} <= PUBLIC_MODULES


def test_the_package_stands_on_no_other_of_the_project() -> None:
    for module in set(SOURCES) - set(OTHERS):
        own = {name for name, _ in imports_of(module) if name.split(".")[0] in PACKAGES}
        assert all(name.startswith("t2g_ray.vllm_private") for name in own), module


@NEEDS_VLLM
@pytest.mark.parametrize("side", ["engine", "worker", "experts", "guesses", "adapters"])
def test_the_installed_vllm_has_all_parts(side: Side) -> None:
    check_private_parts(side)


def test_every_part_was_read_in_the_version_that_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    pins = {match[1] for name in ("cpu", "gpu") for match in re.finditer("==(.+)", extras[name][0])}
    # Whoever moves the pin reads them all again.
    assert {part.read_in for part in PRIVATE_PARTS} == pins


@NEEDS_VLLM
@pytest.mark.parametrize("part", PRIVATE_PARTS, ids=str)
def test_a_part_that_is_missing_is_named(
    part: PrivatePart, monkeypatch: pytest.MonkeyPatch
) -> None:
    module_name, _, class_name = part.owner.partition(":")
    module = importlib.import_module(module_name)
    if class_name:
        rest = {p.name: None for p in PRIVATE_PARTS if p.owner == part.owner and p != part}
        monkeypatch.setattr(module, class_name, type(class_name, (), rest))
    else:
        monkeypatch.delattr(module, part.name)
    with pytest.raises(PrivatePartsMissing, match="must have all") as caught:
        check_private_parts(part.side)
    message = str(caught.value)
    assert f"{part} ({part.use}; read in {part.read_in})" in message
    assert message.count("read in") == 1
    assert f"found version {importlib.import_module('vllm').__version__}" in message
    assert "install the version that pyproject.toml pins" in message
    assert str(pickle.loads(pickle.dumps(caught.value))) == message


@NEEDS_VLLM
def test_what_only_instances_have_is_missed_when_nothing_sets_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from vllm.v1.request import Request

    monkeypatch.setattr(Request, "__init__", lambda self: None)
    with pytest.raises(PrivatePartsMissing) as caught:
        check_private_parts("engine")
    found = re.findall(r"vllm\.v1\.request\.Request\.(\w+)", str(caught.value))
    assert found == ["num_computed_tokens", "cache_salt", "block_hashes"]


@NEEDS_VLLM
def test_a_module_that_is_gone_is_named_by_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm.v1.outputs", None)
    with pytest.raises(PrivatePartsMissing, match=r"vllm\.v1\.outputs\.LogprobsTensors"):
        check_private_parts("guesses")


@NEEDS_VLLM
@pytest.mark.parametrize(
    ("owner", "name", "draft_tokens"),
    [
        ("vllm.v1.request.Request", "update_block_hashes", 0),
        ("vllm.v1.outputs", "SamplerOutput", 4),
    ],
)
def test_an_engine_does_not_start_where_a_part_is_missing(
    owner: str, name: str, draft_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    monkeypatch.setenv("VLLM_LOGGING_LEVEL", "WARNING")
    for variable in ("VLLM_CPU_KVCACHE_SPACE", "VLLM_CPU_OMP_THREADS_BIND", "OMP_NUM_THREADS"):
        monkeypatch.setenv(variable, "1")  # put back afterwards
    monkeypatch.delattr(f"{owner}.{name}")
    # There is no such model: nothing was loaded before the check.
    with pytest.raises(PrivatePartsMissing, match=f"without {re.escape(owner)}.{name} "):
        start_vllm(engine_spec(draft_tokens=draft_tokens))


@NEEDS_VLLM
def test_a_worker_does_not_take_weights_where_a_part_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from t2g_ray.weights.vllm_backend import BucketWeightTransferEngine

    linear = "vllm.model_executor.layers.linear"
    monkeypatch.delattr(f"{linear}.WEIGHT_LOADER_V2_SUPPORTED")
    with pytest.raises(PrivatePartsMissing, match="WEIGHT_LOADER_V2_SUPPORTED"):
        BucketWeightTransferEngine(None, None, torch.device("cpu"), torch.nn.Linear(1, 1))


@NEEDS_VLLM
def test_a_layer_that_every_worker_holds_whole_takes_new_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from vllm.model_executor.layers.linear import ReplicatedLinear

    # As in an engine with one worker.
    parameter = "vllm.model_executor.parameter"
    monkeypatch.setattr(f"{parameter}.get_tensor_model_parallel_rank", lambda: 0)
    monkeypatch.setattr(f"{parameter}.get_tensor_model_parallel_world_size", lambda: 1)
    layer: Any = ReplicatedLinear(32, 16, bias=False, params_dtype=torch.float32, disable_tp=True)
    probe = torch.linspace(-1.0, 1.0, 32)
    for seed in range(2):
        weight = torch.randn(16, 32, generator=torch.Generator().manual_seed(seed))
        if private.is_packed(layer):
            private.restore_full_parameter(layer)
        layer.weight.weight_loader(layer.weight, weight)
        private.pack_layer(layer)
        assert torch.allclose(private.product_of(layer, probe), weight @ probe, atol=1e-5)
    assert private.is_packed(layer)
