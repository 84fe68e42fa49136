"""What an experiment is: one typed, validated tree. Imports neither torch nor lightning."""

from partialsym._utils.validation import ConfigError
from partialsym.config.data import AUGMENTATIONS, DATASETS, DataConfig
from partialsym.config.experiment import Experiment, check_keys, keys_of, unknown_key
from partialsym.config.model import GROUPS, HEADS, KERNELS, NETWORKS, PLACES, ModelConfig
from partialsym.config.reading import read_yaml
from partialsym.config.trainer import TrainerConfig
from partialsym.config.training import TrainingConfig

__all__ = [
    "AUGMENTATIONS",
    "DATASETS",
    "GROUPS",
    "HEADS",
    "KERNELS",
    "NETWORKS",
    "PLACES",
    "ConfigError",
    "DataConfig",
    "Experiment",
    "ModelConfig",
    "TrainerConfig",
    "TrainingConfig",
    "check_keys",
    "keys_of",
    "read_yaml",
    "unknown_key",
]
