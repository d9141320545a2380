"""scikit-learn transformers: a Hebbian layer, and a network."""

from hebbcore.estimators.layer import HebbianTransformer
from hebbcore.estimators.network import HebbianNetworkTransformer

__all__ = ["HebbianNetworkTransformer", "HebbianTransformer"]
