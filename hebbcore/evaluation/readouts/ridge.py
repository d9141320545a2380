"""Readout "ridge": the exact ridge classifier."""

from hebbcore.evaluation.readouts.base import VALIDATION_FRACTION, Readout
from hebbcore.evaluation.ridge.readout import RidgeReadout

RIDGE = Readout(lambda seed: RidgeReadout(standardize=True, validation_fraction=VALIDATION_FRACTION, random_state=seed))
