"""Readout "logistic": logistic regression."""

import numpy as np
from sklearn.linear_model import LogisticRegression

from hebbcore.evaluation.readouts.base import Readout, searched

LOGISTIC = Readout(lambda seed: searched(LogisticRegression(max_iter=1000), seed, C=np.logspace(-4, 1, 6)))
