"""YAML and overrides -> frozen settings. Imports nothing heavy.

The modules mirror the packages that read them; these are the names for other packages to use.
"""

from t2g_ray.config.algorithm import AlgorithmConfig
from t2g_ray.config.learner import LearnerConfig, LoraConfig, OptimizerConfig
from t2g_ray.config.load import (
    AnyConfig,
    ConfigError,
    build_config,
    check_set_once,
    dump_config,
    load_config,
    read_tree,
)
from t2g_ray.config.prompts import DataConfig, PromptConfig
from t2g_ray.config.rewards import CustomRewardConfig, RewardConfig, RewardSpec
from t2g_ray.config.rollout import RolloutConfig, SamplingConfig
from t2g_ray.config.run import CheckpointConfig, Deadline, DeadlineConfig, EvalConfig, SyncConfig
from t2g_ray.config.section import EMBEDDED, Folder, Section, Seed
from t2g_ray.config.stages import GrpoConfig, SftConfig, StageConfig

__all__ = [
    "EMBEDDED",
    "AlgorithmConfig",
    "AnyConfig",
    "CheckpointConfig",
    "ConfigError",
    "CustomRewardConfig",
    "DataConfig",
    "Deadline",
    "DeadlineConfig",
    "EvalConfig",
    "Folder",
    "GrpoConfig",
    "LearnerConfig",
    "LoraConfig",
    "OptimizerConfig",
    "PromptConfig",
    "RewardConfig",
    "RewardSpec",
    "RolloutConfig",
    "SamplingConfig",
    "Section",
    "Seed",
    "SftConfig",
    "StageConfig",
    "SyncConfig",
    "build_config",
    "check_set_once",
    "dump_config",
    "load_config",
    "read_tree",
]
