"""Readout "svm": a linear support vector machine."""

import numpy as np
from sklearn.svm import LinearSVC

from hebbcore.evaluation.readouts.base import Readout, searched

SVM = Readout(lambda seed: searched(LinearSVC(dual="auto", random_state=seed), seed, C=np.logspace(-5, 0, 6)))
