"""Tensors of a policy, one at a time -> a folder in the layout of Hugging Face.

Invariant: the files are those that `save_pretrained` writes, byte for byte, though one tensor is
held at a time: where each lies in its file is known from the shapes, before the first one comes.
Only where there are several files may the experts of a layer lie in others of them.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO

import torch

from t2g_ray.model.files.names import as_saved
from t2g_ray.model.files.sharded import INDEX, whole_shape
from t2g_ray.model.lora import plain_tensors
from t2g_ray.weights.manifest import bytes_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Tensors = Mapping[str, torch.Tensor]
SHARD_SIZE = "50GB"
"""Of one file, as `save_pretrained` has it."""
_CODES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""How safetensors writes what a tensor is made of."""


def export_policy(
    policy: PreTrainedModel,
    tensors: Iterable[tuple[str, torch.Tensor]],
    folder: Path,
    *,
    dtype: torch.dtype | None = None,
    shard_size: str = SHARD_SIZE,
) -> None:
    """Write `tensors`, the values of `plain_tensors` by name, as the weights of the policy.

    The policy itself may be split over ranks: it gives names, shapes, buffers and settings.
    `dtype`: what parameters are written in; None keeps each one's own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    buffers = _buffers(policy)
    shapes = _shapes(policy, dtype) | {name: b.to("meta") for name, b in buffers.items()}
    is_each_for_itself = _is_each_for_itself(policy, shapes)
    waiting: dict[str, torch.Tensor] = {}
    with _Files(folder, as_saved(policy, shapes), shard_size) as files:
        for name, tensor in _chained(tensors, buffers):
            waiting[name] = tensor.detach().to("cpu", shapes[name].dtype)
            if is_each_for_itself:
                files.write(as_saved(policy, waiting))
                waiting.clear()
        files.write(as_saved(policy, waiting))
    _write_settings(policy, folder, next(iter(shapes.values())).dtype)


def _shapes(policy: PreTrainedModel, dtype: torch.dtype | None) -> dict[str, torch.Tensor]:
    """Tensors without values, in the place of those to come."""
    return {
        plain.name: torch.empty(
            whole_shape(plain.parameter), dtype=dtype or plain.parameter.dtype, device="meta"
        )
        for plain in plain_tensors(policy)
    }


def _buffers(policy: PreTrainedModel) -> Tensors:
    """The buffers that belong into a file, such as the biases of some routers."""
    saved = policy.state_dict().keys()
    return {name: buffer for name, buffer in policy.named_buffers() if name in saved}


def _chained(
    tensors: Iterable[tuple[str, torch.Tensor]], buffers: Tensors
) -> Iterator[tuple[str, torch.Tensor]]:
    yield from tensors
    yield from buffers.items()


def _is_each_for_itself(policy: PreTrainedModel, shapes: Tensors) -> bool:
    """False where a tensor of the files is made from several parameters."""
    alone = [as_saved(policy, {name: shape}).items() for name, shape in shapes.items()]
    together = as_saved(policy, shapes)
    found = {name: shape.shape for items in alone for name, shape in items}
    return found == {name: shape.shape for name, shape in together.items()}


class _Files:
    """Files of safetensors that are filled in any order."""

    def __init__(self, folder: Path, shapes: Tensors, shard_size: str) -> None:
        from huggingface_hub import split_torch_state_dict_into_shards

        split = split_torch_state_dict_into_shards(
            dict(shapes), filename_pattern="model{suffix}.safetensors", max_shard_size=shard_size
        )
        for old in folder.glob("model*.safetensors*"):
            old.unlink()
        self._files: list[BinaryIO] = []
        self._places: dict[str, tuple[BinaryIO, int]] = {}
        for file_name, names in split.filename_to_tensors.items():
            self._open(folder / file_name, {name: shapes[name] for name in names})
        self._missing = set(shapes)
        if split.is_sharded:
            total = sum(shape.numel() for shape in shapes.values())
            index = {
                "metadata": {"total_parameters": total, **split.metadata},
                "weight_map": split.tensor_to_filename,
            }
            text = json.dumps(index, indent=2, sort_keys=True) + "\n"
            (folder / INDEX).write_text(text, encoding="utf-8")

    def _open(self, path: Path, shapes: Tensors) -> None:
        """Write the head of a file. The format: github.com/huggingface/safetensors, "Format"."""
        ordered = sorted(shapes.items(), key=lambda item: (-item[1].itemsize, item[0]))
        head: dict[str, object] = {"__metadata__": {"format": "pt"}}
        starts, end = dict[str, int](), 0
        for name, shape in ordered:
            starts[name], end = end, end + shape.numel() * shape.itemsize
            head[name] = {
                "dtype": _CODES[shape.dtype],
                "shape": list(shape.shape),
                "data_offsets": [starts[name], end],
            }
        text = json.dumps(head, separators=(",", ":"), ensure_ascii=False).encode()
        text += b" " * (-len(text) % 8)
        file = path.open("wb")
        self._files.append(file)
        file.write(len(text).to_bytes(8, "little") + text)
        self._places |= {name: (file, file.tell() + start) for name, start in starts.items()}

    def write(self, tensors: Tensors) -> None:
        """Put each tensor into its place."""
        for name, tensor in tensors.items():
            file, start = self._places[name]
            file.seek(start)
            file.write(bytes_of(tensor).data)
            self._missing.discard(name)

    def __enter__(self) -> _Files:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for file in self._files:
            file.close()
        if error is None and self._missing:
            raise ValueError(
                f"an exported policy must have all of its tensors, {len(self._missing)} did not "
                f"come, such as {min(self._missing)}"
            )


def _write_settings(policy: PreTrainedModel, folder: Path, dtype: torch.dtype) -> None:
    config = copy.deepcopy(policy.config)
    config.architectures = [type(policy).__name__]
    config.dtype = dtype
    config.save_pretrained(folder)
    if policy.can_generate():
        policy.generation_config.save_pretrained(folder)
