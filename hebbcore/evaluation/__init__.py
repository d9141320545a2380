"""Evaluation of features: classifiers for few or many labels, retrieval, metrics, and baselines to compare with.

Features come as arrays, or as iterables of (features, labels) batches. Needs scikit-learn, which `import hebbcore` does
not load: import this package by its own name.
"""

from hebbcore.evaluation.baselines import kmeans_centres, principal_components, random_filters, random_patches
from hebbcore.evaluation.metrics import Interval, confusion_matrix, mean_interval, top_k_accuracy
from hebbcore.evaluation.readouts import READOUTS, ValidationSplit, make_readout, sgd_stream
from hebbcore.evaluation.retrieval import METRICS, Retrieval, retrieval_scores
from hebbcore.evaluation.ridge.readout import RidgeReadout
from hebbcore.evaluation.splits import FRACTIONS, labelled_subset

__all__ = [
    "FRACTIONS",
    "METRICS",
    "READOUTS",
    "Interval",
    "Retrieval",
    "RidgeReadout",
    "ValidationSplit",
    "confusion_matrix",
    "kmeans_centres",
    "labelled_subset",
    "make_readout",
    "mean_interval",
    "principal_components",
    "random_filters",
    "random_patches",
    "retrieval_scores",
    "sgd_stream",
    "top_k_accuracy",
]
