from sklearn.utils.estimator_checks import parametrize_with_checks

from hebbcore.evaluation.ridge import RidgeReadout


@parametrize_with_checks([RidgeReadout(), RidgeReadout(1.0, standardize=True)])
def test_scikit_learn_accepts_it(estimator, check):
    check(estimator)
