"""Readout "knn": the nearest neighbours, by Euclidean distance."""

from sklearn.neighbors import KNeighborsClassifier

from hebbcore.evaluation.readouts.base import Readout, searched

_NEIGHBOURS = (1, 5, 20)

KNN = Readout(
    lambda seed: searched(KNeighborsClassifier(), seed, n_neighbors=list(_NEIGHBOURS)),
    least=max(_NEIGHBOURS),
    reason="to choose the number of neighbours",
)
