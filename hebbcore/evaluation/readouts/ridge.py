"""Readout "ridge": the exact ridge classifier."""

from hebbcore.evaluation.readouts.base import Readout
from hebbcore.evaluation.ridge.holdout import FEW
from hebbcore.evaluation.ridge.readout import RidgeReadout

RIDGE = Readout(lambda seed: RidgeReadout(standardize=True, random_state=seed), few=FEW, singly=True)
