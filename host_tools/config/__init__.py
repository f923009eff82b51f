"""All options of a training: the values that each takes, its default, its unit and its purpose."""

from host_tools.config.devices import DevicesConfig
from host_tools.config.mix import VALIDATION_THRESHOLDS, AugmentConfig, MixConfig, SequenceConfig
from host_tools.config.stage import (
    NETWORKS,
    STREAM_NETWORKS,
    DataConfig,
    NetworkConfig,
    OptimConfig,
    StageConfig,
    WeightsConfig,
)
from host_tools.config.values import DB, SEED, SHARE

__all__ = [
    "DB",
    "NETWORKS",
    "SEED",
    "SHARE",
    "STREAM_NETWORKS",
    "VALIDATION_THRESHOLDS",
    "AugmentConfig",
    "DataConfig",
    "DevicesConfig",
    "MixConfig",
    "NetworkConfig",
    "OptimConfig",
    "SequenceConfig",
    "StageConfig",
    "WeightsConfig",
]
