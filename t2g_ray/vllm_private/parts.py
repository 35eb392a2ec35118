"""Every undocumented name of vLLM that is used here, and the check that it exists.

Releases may move or rename these without notice. So each is listed here with the version that it
was read in, `check_private_parts` looks for it when an engine or a worker starts, and no other
package uses one of them.

Invariant: what passed the check has every listed name, before a model is loaded or a weight sent.
"""

from __future__ import annotations

import dis
import importlib
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Literal

Side = Literal["engine", "worker", "guesses", "adapters"]
"""What needs a part: the code that steps an engine, a worker that takes weights, an engine that
checks guessed tokens (only those on CPUs do), or one that holds adapters."""


@dataclass(frozen=True, slots=True)
class PrivatePart:
    """One name. Example: PrivatePart("engine", "vllm.v1.request:Request", "cache_salt", "...")."""

    side: Side
    owner: str
    """`module:Class` that has the attribute, or the module itself."""
    name: str
    use: str
    read_in: str = "0.32.0"
    """The version of vLLM in which it was found and its meaning read."""

    def __str__(self) -> str:
        return f"{self.owner.replace(':', '.')}.{self.name}"


class PrivatePartsMissing(RuntimeError):
    """The installed vLLM lacks internals that this project needs."""


def _parts(side: Side, owner: str, **uses: str) -> Iterator[PrivatePart]:
    for name, use in uses.items():
        yield PrivatePart(side, owner, name, use)


_ENGINE = (
    *_parts(
        "engine",
        "vllm.v1.engine.llm_engine:LLMEngine",
        engine_core="leads to the scheduler, and ends the engine",
        output_processor="leads to the unfinished completions",
        wake_up="takes memory that `sleep` gave up, a part at a time",
    ),
    *_parts(
        "engine",
        "vllm.v1.engine.core_client:InprocClient",
        engine_core="the engine proper, where it runs in this process",
        shutdown="releases memory and child processes",
    ),
    *_parts(
        "engine",
        "vllm.v1.engine.core:EngineCore",
        scheduler="holds all requests",
        batch_queue="passes under way; None: each one ends before another begins",
    ),
    *_parts("engine", "vllm.v1.core.sched.scheduler:Scheduler", requests="all requests, by name"),
    *_parts(
        "engine",
        "vllm.v1.engine.output_processor:OutputProcessor",
        request_states="the unfinished completions, by the name of their request",
    ),
    *_parts(
        "engine",
        "vllm.v1.engine.output_processor:RequestState",
        external_req_id="the name that the group was added under",
        request_index="which completion of its group it is",
        detokenizer="counts the tokens, text or not",
    ),
    *_parts(
        "engine",
        "vllm.v1.engine.detokenizer:IncrementalDetokenizer",
        num_output_tokens="how many tokens a completion has",
    ),
    *_parts(
        "engine",
        "vllm.v1.request:Request",
        num_computed_tokens="0: it waits, and will look for cached prefixes once more",
        cache_salt="part of the keys of its cached prefixes",
        block_hashes="those keys",
        update_block_hashes="computes the keys that are missing",
    ),
)

_WORKER = (
    *_parts(
        "worker",
        "vllm.v1.worker.worker_base:WorkerBase",
        get_model="the model that computes",
        device="where it computes",
    ),
    *_parts(
        "worker",
        "vllm.v1.worker.gpu_worker:Worker",  # those for CPUs are made from it
        weight_transfer_engine="the project's receiver of weights",
    ),
    *_parts(
        "worker",
        "vllm.model_executor.layers.linear:LinearBase",
        quant_method="packs the matrix and computes with it",
        prefix="the layer's name, for messages",
        input_size="columns of the full matrix",
        output_size="rows of the full matrix",
        params_dtype="number format of the matrix",
    ),
    *_parts(
        "worker",
        "vllm.model_executor.layers.linear:ColumnParallelLinear",
        input_size_per_partition="columns that this worker holds",
        output_partition_sizes="rows that this worker holds, of each constituent",
        weight_loader_v2="puts a loaded tensor in its place",
    ),
    *_parts(
        "worker",
        "vllm.model_executor.layers.linear:ReplicatedLinear",
        weight_loader="the same, of layers that have no second loader",
    ),
    *_parts(
        "worker",
        "vllm.model_executor.layers.linear",
        WEIGHT_LOADER_V2_SUPPORTED="methods whose parameters want the second loader",
    ),
    *_parts(
        "worker",
        "vllm.model_executor.layers.linear:UnquantizedLinearMethod",
        create_weights="gives a layer an empty full matrix",
        process_weights_after_loading="packs the matrix for the CPU's kernels",
        apply="computes with what was packed",
    ),
    *_parts(
        "worker",
        "vllm.model_executor.layers.vocab_parallel_embedding:VocabParallelEmbedding",
        quant_method="as for LinearBase: of the embedding and the head",
    ),
    *_parts(
        "worker",
        "vllm.model_executor.layers.vocab_parallel_embedding:UnquantizedEmbeddingMethod",
        process_weights_after_loading="packs the head",
        apply="computes as the head",
    ),
    *_parts(
        "worker",
        "vllm.model_executor.models.llama:LlamaForCausalLM",  # stands for all models
        packed_modules_mapping="which matrices of a checkpoint one layer keeps as one",
        config="tells whether the head is the embedding",
    ),
)

_GUESSES = (
    *_parts("guesses", "vllm.v1.engine.llm_engine:LLMEngine", vllm_config="leads to the model's"),
    *_parts("guesses", "vllm.config:VllmConfig", model_config="knows the vocabulary"),
    *_parts("guesses", "vllm.config:ModelConfig", get_vocab_size="width of a row of logits"),
    *_parts(
        "guesses",
        "vllm.v1.request:Request",
        output_token_ids="what is written",
        num_output_tokens="how much of it",
        max_tokens="how much it may become",
        spec_token_ids="what the next pass checks",
    ),
    *_parts("guesses", "vllm.v1.worker.worker_base:WorkerBase", model_runner="runs the passes"),
    *_parts(
        "guesses",
        "vllm.v1.worker.gpu_model_runner:GPUModelRunner",  # that for CPUs is made from it
        rejection_sampler="checks the guesses of a pass",
    ),
    *_parts("guesses", "vllm.v1.sample.rejection_sampler:RejectionSampler", forward="the check"),
    *_parts(
        "guesses",
        "vllm.v1.spec_decode.metadata:SpecDecodeMetadata",
        num_draft_tokens="guesses of each row",
        draft_token_ids="all guesses, row after row",
    ),
    *_parts(
        "guesses",
        "vllm.v1.sample.metadata:SamplingMetadata",
        temperature="of each row; None: all are greedy",
        max_num_logprobs="None: no log-probs are asked for; 0: the token's own",
        generators="what rows draw with that have a seed, by their place",
        # All of these must be unset.
        top_p="a way to sample that the project's check leaves out",
        top_k="likewise",
        no_penalties="likewise",
        bad_words_token_ids="likewise",
        allowed_token_ids_mask="likewise",
    ),
    *_parts(
        "guesses",
        "vllm.v1.outputs",
        SamplerOutput="what a check returns",
        LogprobsTensors="its log-probs",
    ),
)

_ADAPTERS = (
    *_parts(
        "adapters",
        "vllm.lora.model_manager:LoRAModelManager",
        lora_manager="itself, which the model leads to",
        lora_slots="versions that fit",
        lora_index_to_id="which adapter each slot holds",
        modules="layers with slots",
        packed_modules="layers of a checkpoint that one of them keeps as one",
        list_adapters="those held, by number",
        add_adapter="takes one",
        activate_adapter="puts its matrices into a slot",
        remove_adapter="empties the slot",
        set_adapter_mapping="says which adapter each token of a pass has",
    ),
    *_parts("adapters", "vllm.lora.lora_model:LoRAModel", get_lora="what one layer has of it"),
    *_parts(
        "adapters",
        "vllm.lora.lora_weights:LoRALayerWeights",
        lora_a="the first matrix, or one for each packed layer",
        lora_b="the second",
    ),
    *_parts("adapters", "vllm.lora.layers", LoRAMapping="the adapter of each token"),
    *_parts(
        "adapters",
        "vllm.lora.layers.base_linear:BaseLinearLayerWithLoRA",
        base_layer="the layer inside the one with slots",
        tp_size="workers that share it",
        tp_rank="which of them this is",
        create_lora_weights="makes the slots: lora_a_stacked, lora_b_stacked and output_slices",
        set_mapping="gives the layer its punica_wrapper",
        slice_lora_a="a worker's part of the first matrix",
        slice_lora_b="and of the second",
    ),
    *_parts(
        "adapters",
        "vllm.lora.punica_wrapper.punica_base:PunicaWrapperBase",
        add_lora_linear="adds the product of a slot",
    ),
)

PRIVATE_PARTS: tuple[PrivatePart, ...] = (*_ENGINE, *_WORKER, *_GUESSES, *_ADAPTERS)


def check_private_parts(side: Side) -> None:
    """Raises PrivatePartsMissing that names all parts of this side that the vLLM here lacks."""
    wanted = [part for part in PRIVATE_PARTS if part.side == side]
    missing = [part for part in wanted if not _is_there(part)]
    if not missing:
        return
    import vllm

    described = "; ".join(f"{part} ({part.use}; read in {part.read_in})" for part in missing)
    raise PrivatePartsMissing(
        f"vLLM must have all {len(wanted)} undocumented attributes that its {side} is used by, "
        f"found version {vllm.__version__} without {described}; install the version that "
        "pyproject.toml pins, or mend t2g_ray/vllm_private"
    )


def _is_there(part: PrivatePart) -> bool:
    module_name, _, class_name = part.owner.partition(":")
    try:
        module = importlib.import_module(module_name)
        owner: ModuleType | type = getattr(module, class_name) if class_name else module
    except (ImportError, AttributeError):
        return False
    # Attributes of instances must be found before there are any instances.
    return hasattr(owner, part.name) or (
        isinstance(owner, type) and any(part.name in _sets(base) for base in owner.__mro__)
    )


def _sets(owner: type) -> Iterator[str]:
    """Attributes that a class declares or its own `__init__` sets on something."""
    yield from inspect.get_annotations(owner)
    init = inspect.unwrap(vars(owner).get("__init__", object.__init__))
    if inspect.isfunction(init):
        for instruction in dis.get_instructions(init):
            if instruction.opname == "STORE_ATTR":
                yield str(instruction.argval)
