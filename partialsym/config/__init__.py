"""The settings of an experiment as one typed, validated tree. This package imports neither torch nor lightning."""

from partialsym.config.data import AUGMENTATIONS, DataConfig
from partialsym.config.experiment import Experiment, check_keys, keys_of, unknown_key
from partialsym.config.model import HEADS, PLACES, ModelConfig
from partialsym.config.pretrained import lifted_settings
from partialsym.config.reading import read_yaml
from partialsym.config.trainer import TrainerConfig
from partialsym.config.training import TrainingConfig
from partialsym.errors import ConfigError

__all__ = [
    "AUGMENTATIONS",
    "HEADS",
    "PLACES",
    "ConfigError",
    "DataConfig",
    "Experiment",
    "ModelConfig",
    "TrainerConfig",
    "TrainingConfig",
    "check_keys",
    "keys_of",
    "lifted_settings",
    "read_yaml",
    "unknown_key",
]
