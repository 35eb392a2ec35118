"""What every section of a configuration refuses."""

from __future__ import annotations

import pytest

from t2g_ray.config import (
    GrpoConfig,
    build_config,
)
from t2g_ray.data.generate.config import TeacherConfig


def build(**tree: object) -> GrpoConfig:
    return build_config(GrpoConfig, {"run_dir": "runs/x", **tree})


def test_a_configuration_cannot_be_changed_after_it_was_checked() -> None:
    with pytest.raises(ValueError, match="frozen"):
        build().steps = 3


def test_no_engine_argument_is_switched_by_a_word_that_vllm_takes_for_true() -> None:
    with pytest.raises(ValueError, match=r"by true and false, found engine\.enforce_eager=off"):
        build(rollout={"engine": {"enforce_eager": "off"}, "gpus": 1})


@pytest.mark.parametrize(
    "argument",
    [
        {"trust_remote_code": True},
        {"trust-remote-code": "yes"},
        {"worker_cls": "evil.Worker"},
        {"worker_extension_cls": "evil.Extension"},
        {"scheduler_cls": "evil.Scheduler"},
        {"logits_processors": ["evil:Processor"]},
        {"hf_overrides": {"auto_map": {"AutoModel": "evil.Model"}}},
        {"hf_overrides": '{"auto_map": {"AutoModel": "evil.Model"}}'},
        {"hf_overrides": "evil.overrides"},
        {"model_class_overrides": {"LlamaForCausalLM": "evil:Model"}},
        {"load_format": "pt"},
        {"load_format": "my_plugin"},
        {"tokenizer_mode": "custom"},
        {"distributed_executor_backend": "evil.Executor"},
        {"reasoning_parser_plugin": "/tmp/evil.py"},
        {"io_processor_plugin": "evil"},
        {"speculative_config": {"method": "custom_class", "model": "evil.Drafts"}},
        {"kv_transfer_config": {"kv_connector_module_path": "evil"}},
        {"compilation_config": {"backend": "evil.backend"}},
        {"structured_outputs_config": {"reasoning_parser_plugin": "evil"}},
        {"log_config_file": "evil.json"},
        {"profiler_config": {"deep": [{"deeper": "evil.module.function"}]}},
    ],
)
def test_no_engine_argument_makes_vllm_load_code(argument: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="engine arguments must load no code, found"):
        build(rollout={"engine": argument, "gpus": 1})
    with pytest.raises(ValueError, match="engine arguments must load no code, found"):
        TeacherConfig.model_validate({"model": "m", "engine": argument})


@pytest.mark.parametrize(
    "argument",
    [
        {"seed": 77, "swap_space": 1},
        {"trust_remote_code": False},
        {"load_format": "safetensors"},
        {"quantization": "fp8", "kv_cache_dtype": "auto", "revision": "v1.2"},
        {"hf_overrides": {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}},
        {"compilation_config": {"mode": 3}, "distributed_executor_backend": "mp"},
        {"ignore_patterns": ["original/**/*", "consolidated.safetensors"]},
        {"data_parallel_address": "node1.cluster.local", "served_model_name": "Qwen2.5"},
        {"structured_outputs_config": {"backend": "xgrammar"}},
    ],
)
def test_other_engine_arguments_pass_unchanged(argument: dict[str, object]) -> None:
    assert build(rollout={"engine": argument}).rollout.engine == argument
