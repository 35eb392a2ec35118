"""A model of one rank of an engine, and tensors as they arrive -> proof that it computes with them.

Each rank proves its own share: it cuts every tensor that arrived whole as its layers do
(`shards`), remembers what must hold (`expectations`), and compares after loading. So a fault names
the tensor, and the engine adds the rank.

Invariant: what passed has every parameter from a tensor that arrived since `begin`, and used every
tensor that arrived.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from t2g_ray.vllm_private.experts import are_experts, expert_facts
from t2g_ray.vllm_private.layers import facts_of, is_matrix, sources_of
from t2g_ray.weights.expectations import Expectation, ExpertProducts, HeldBytes, MatrixProduct
from t2g_ray.weights.manifest import Manifest, TensorEntry, WeightSyncError
from t2g_ray.weights.shards import Piece, expert_pieces, pieces_of


@dataclass(frozen=True, slots=True)
class _Expected:
    parameter: str
    """As the model names it."""
    layer: nn.Module
    what: Expectation


class ShardProof:
    """Of one rank. Raises NoRule, with the layer's name, where nobody wrote down what it holds."""

    def __init__(self, model: nn.Module) -> None:
        self._all = tuple(_expectations(model))
        self._of_tensor: dict[str, list[tuple[_Expected, Piece]]] = defaultdict(list)
        for expected in self._all:
            for piece in expected.what.pieces:
                self._of_tensor[piece.tensor].append((expected, piece))
        self.begin()

    @property
    def tensors(self) -> frozenset[str]:
        """Names of the tensors that must arrive."""
        return frozenset(self._of_tensor)

    def begin(self) -> None:
        """Forget what arrived before."""
        self._digests: dict[str, str] = {}
        """Of the tensors that arrived, as the learner gave them."""

    def record(self, entry: TensorEntry, tensor: Tensor) -> None:
        """Take a whole tensor before it is loaded. Raises WeightSyncError for one that no layer
        holds a piece of."""
        if entry.name not in self._of_tensor:
            raise _unused(entry.name)
        for expected, piece in self._of_tensor[entry.name]:
            part = piece.of_tensor(tensor)
            expected.what.record(piece, part, entry.digest if part.shape == tensor.shape else "")
        self._digests[entry.name] = entry.digest

    def check_loaded(self) -> None:
        """Compare the bytes of all parameters, before any is packed; raises WeightSyncError."""
        self._check_all_arrived()
        for expected in self._all:
            if isinstance(expected.what, HeldBytes):
                expected.what.check()

    def check(self) -> int:
        """Compare what is held and what is computed; returns how many tensors were proven.

        Raises WeightSyncError that names the first tensor which is missing or differs.
        """
        self._check_all_arrived()
        for expected in self._all:
            if not (isinstance(expected.what, HeldBytes) and _is_laid_anew(expected)):
                expected.what.check()
        return len(self._digests)

    def check_manifest(self, manifest: Manifest) -> int:
        """`check`, where the manifest's tensors are those that arrived last."""
        for entry in manifest.entries:
            if entry.name not in self._of_tensor:
                raise _unused(entry.name)
            found = self._digests.get(entry.name)
            if found != entry.digest:
                raise WeightSyncError(
                    f"tensor {entry.name} must have arrived with digest {entry.digest} in the last "
                    f"sync that was verified, found {found or 'none'}; send it with verify=True"
                )
        return self.check()

    def _check_all_arrived(self) -> None:
        for expected in self._all:
            for piece in expected.what.pieces:
                if piece.tensor not in self._digests:
                    raise WeightSyncError(
                        f"the sampler's parameter {expected.parameter} must come from tensor "
                        f"{piece.tensor} of the learner, found no such name among the "
                        f"{len(self._digests)} sent: the tensor was dropped"
                    )


def _unused(name: str) -> WeightSyncError:
    return WeightSyncError(f"every tensor sent must be used by the sampler, found no use of {name}")


def _is_laid_anew(expected: _Expected) -> bool:
    """Whether the parameter that holds the bytes was replaced by a packed copy."""
    parameter = expected.layer._parameters[expected.parameter.rpartition(".")[2]]
    assert parameter is not None
    is_empty = parameter.numel() == 0
    return is_empty or (are_experts(expected.layer) and parameter.device.type == "cpu")


def _expectations(model: nn.Module) -> Iterator[_Expected]:
    for path, layer in model.named_modules():
        if are_experts(layer):
            yield from _of_experts(layer, path)
            continue
        for name, parameter in layer._parameters.items():
            if parameter is not None:
                yield from _of_parameter(model, layer, path, name, parameter)


def _of_parameter(
    model: nn.Module, layer: nn.Module, path: str, name: str, parameter: Tensor
) -> Iterator[_Expected]:
    full_name = f"{path}.{name}"
    is_weight = name == "weight"
    length = parameter.shape[0] if parameter.ndim else 1
    pieces = pieces_of(
        facts_of(layer, path), sources_of(model, full_name), is_bias=not is_weight, length=length
    )
    yield _Expected(full_name, layer, HeldBytes(layer, name, pieces))
    if is_weight and is_matrix(layer):
        yield _Expected(full_name, layer, MatrixProduct(layer, pieces))


def _of_experts(layer: nn.Module, path: str) -> Iterator[_Expected]:
    experts = expert_pieces(expert_facts(layer, path))
    first = tuple(piece for one in experts for piece in (one.gate, one.up))
    second = tuple(one.down for one in experts)
    yield _Expected(f"{path}.w13_weight", layer, HeldBytes(layer, "w13_weight", first))
    yield _Expected(f"{path}.w2_weight", layer, HeldBytes(layer, "w2_weight", second))
    yield _Expected(f"{path}.w13_weight", layer, ExpertProducts(layer, experts))
