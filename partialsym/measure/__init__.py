"""Measurements of what a model has learned and how it behaves. Evaluation is in float32, in eval mode."""

from partialsym.measure.dense import dense_errors
from partialsym.measure.equivariance_error import TURNS, equivariance_errors
from partialsym.measure.lie_derivative import lie_derivative
from partialsym.measure.predictions import (
    BATCH,
    accuracies_of_draws,
    accuracy,
    confusion,
    copy_gap,
    logits,
    most_confused,
    sampled_accuracies,
)
from partialsym.measure.ranges import half_changed, measured_range, preserved_ranges, range_of
from partialsym.measure.responses import ANGLES, class_responses, predictions_unchanged, response, turned_logits
from partialsym.measure.subsets import learned_subsets, subset_spread
from partialsym.measure.transforms import control_error, control_image, rotate

__all__ = [
    "ANGLES",
    "BATCH",
    "TURNS",
    "accuracies_of_draws",
    "accuracy",
    "class_responses",
    "confusion",
    "control_error",
    "control_image",
    "copy_gap",
    "dense_errors",
    "equivariance_errors",
    "half_changed",
    "learned_subsets",
    "lie_derivative",
    "logits",
    "measured_range",
    "most_confused",
    "predictions_unchanged",
    "preserved_ranges",
    "range_of",
    "response",
    "rotate",
    "sampled_accuracies",
    "subset_spread",
    "turned_logits",
]
