"""The table of vLLM's undocumented names: what each one is, and what it is used for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Side = Literal["engine", "worker", "experts", "guesses", "adapters"]
"""What needs a part: the code that steps an engine, a worker that takes weights, one whose model is
a mixture of experts, an engine that checks guessed tokens (only those on CPUs do), or one that
holds adapters."""


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
    *_parts(
        "engine",
        "vllm.v1.executor.abstract:Executor",
        determine_available_memory="a part of the start that is timed",
        initialize_from_config="another",
        compile_or_warm_up_model="another",
    ),
    *_parts("engine", "vllm.config:CompilationConfig", compilation_time="a part of the start"),
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
        input_size="columns of the full matrix",
        output_size="rows of the full matrix",
        params_dtype="number format of the matrix",
        tp_rank="which share of the matrix this worker holds",
        tp_size="of how many",
        update_param_tp_status="tells new parameters so",
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
        "vllm.model_executor.layers.linear:QKVParallelLinear",
        num_kv_head_replicas="how many workers hold the same key and value heads",
    ),
    *_parts(
        "worker",
        "vllm.model_executor.layers.linear:ReplicatedLinear",
        weight_loader="the same, of layers that have no second loader",
    ),
    *_parts(
        "worker",
        "vllm.model_executor.layers.linear",
        MergedColumnParallelLinear="several matrices under one another, each cut by rows",
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
        org_vocab_size="rows of the checkpoint's tensor",
        num_embeddings_padded="rows of all workers together",
    ),
    *_parts(
        "worker",
        "vllm.model_executor.layers.layernorm",
        RMSNorm="every worker holds it whole",
        GemmaRMSNorm="likewise",
        LayerNorm="likewise",
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

_EXPERTS = (
    *_parts(
        "experts",
        "vllm.model_executor.layers.fused_moe.routed_experts:RoutedExperts",
        layer_name="where a checkpoint has the experts",
        moe_config="how they are cut",
        quant_method="packs the experts and computes with them",
        params_dtype="number format of the arrays",
        hidden_size="width of the states",
        local_num_experts="experts that this worker holds",
        use_ep="whether workers hold different experts",
        ckpt_gate_proj_name="as a checkpoint calls the matrix",
        ckpt_up_proj_name="likewise",
        ckpt_down_proj_name="likewise",
        weight_loader="puts a loaded tensor in its place",
    ),
    *_parts(
        "experts",
        "vllm.model_executor.layers.fused_moe.config:FusedMoEConfig",
        num_experts="of the model, copies included",
        num_logical_experts="without copies",
        num_local_experts="of this worker",
        tp_rank="which share of each expert this worker holds",
        tp_size="of how many",
        intermediate_size_per_partition="width of the arrays here",
        intermediate_size_per_partition_unpadded="width of this worker's share",
        has_bias="whether experts have biases",
        is_act_and_mul="whether they have a gate",
        activation="between the two products",
    ),
    *_parts(
        "experts",
        "vllm.model_executor.layers.fused_moe.unquantized_fused_moe_method:UnquantizedFusedMoEMethod",
        create_weights="gives a layer empty arrays",
        process_weights_after_loading="lays them out for the kernel",
        apply="computes with them",
        unquantized_backend="which kernel that is",
    ),
    *_parts(
        "experts",
        "vllm.model_executor.layers.fused_moe.fused_moe_method_base:FusedMoEMethodBase",
        moe_kernel="None: the next laying out is the first",
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
    *_parts("guesses", "vllm.v1.outputs", SamplerOutput="of a check", LogprobsTensors="likewise"),
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

PRIVATE_PARTS: tuple[PrivatePart, ...] = (*_ENGINE, *_WORKER, *_EXPERTS, *_GUESSES, *_ADAPTERS)
