"""Every rule against its slow oracle, through the public functions, on the CPU and through CUDA's kernels."""

import importlib
import inspect
import re
from dataclasses import asdict, fields

import numpy as np
import pytest
import reference

import hebbcore

VARIANTS = [
    hebbcore.RULES[name](**parameters) for name in reference.UNSUPERVISED for parameters in reference.variants(name)
]
STATELESS = [rule for rule in VARIANTS if not rule.initial_state()]  # the others: test_rule_state.py
CONVOLUTIONS = [  # images, kernel, options
    ((2, 5, 4, 1), (2, 3), {}),
    ((1, 4, 5, 3), (3, 3), {"stride": (2, 1), "padding": 1}),
    ((2, 4, 4, 2), (3, 2), {"padding": (2, 1), "padding_mode": "reflect", "stride": 2}),
    ((1, 2, 3, 5), (1, 1), {}),
    ((3, 2, 2, 2), (2, 2), {}),
]
RULE_NAMES = {cls: name for name, cls in hebbcore.RULES.items()}


def parameters(rule):
    """Return the name and the parameters of a rule."""
    return RULE_NAMES[type(rule)], asdict(rule)


def assert_close(actual, expected, dtype):
    assert actual.shape == expected.shape
    assert actual.dtype == dtype
    exact = 1e-10 if dtype == np.float64 else 3e-5
    np.testing.assert_allclose(actual, expected, rtol=0, atol=exact * max(1e-30, np.abs(expected).max()))


def batch(generator, shape, dtype):
    return generator.normal(size=shape).astype(dtype)


@pytest.mark.parametrize("name", hebbcore.RULES)
def test_every_rule_has_an_oracle_with_the_parameters_and_defaults_of_the_rule(name):
    oracle = reference.oracle("rules", name)
    expected = {field.name: field.default for field in fields(hebbcore.RULES[name])}
    functions = [oracle.output, oracle.delta, *([oracle.rates] if hasattr(oracle, "rates") else [])]
    for function in functions:
        apart = ("bias", "teacher", "state")
        found = {key: value for key, value in reference.parameters_of(function).items() if key not in apart}
        assert found == expected, f"{function.__name__} of tests/oracles/rules/{name}.py"


@pytest.mark.parametrize("name", hebbcore.RULES)
def test_a_rules_docstring_leads_to_paper_kernel_and_oracle(name):
    text = hebbcore.RULES[name].__doc__
    assert "References\n" in text
    assert f"tests/oracles/rules/{name}.py" in text
    gates = re.findall(r"`hebbcore\.engine\.(\w+)(?:\.(\w+))?`", text)
    assert gates, f"the docstring of {name} names no gate: write `hebbcore.engine.…`, as SoftHebb's does"
    gate = gates[0]
    module = importlib.import_module(f"hebbcore.engine.{gate[0]}")
    assert not gate[1] or callable(getattr(module, gate[1]))
    for kernel in re.findall(r"kernel `(\w+)`", text):
        assert kernel in inspect.getsource(getattr(module, gate[1]))


def test_a_rule_without_an_oracle_says_what_to_write():
    with pytest.raises(LookupError, match=r"'nobodys' has no oracle: write tests/oracles/rules/nobodys\.py"):
        reference.oracle("rules", "nobodys")


def test_no_oracle_is_left_over():
    assert set(reference.RULES) == set(hebbcore.RULES)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("shape", "kernel", "options"), CONVOLUTIONS)
@pytest.mark.parametrize("rule", VARIANTS, ids=repr)
def test_convolution(rule, shape, kernel, options, dtype, generator):
    images = batch(generator, shape, dtype)
    weights = batch(generator, (5, *kernel, shape[3]), dtype)
    name, params = parameters(rule)
    expected = reference.weight_update(images, weights, name, **options, **params)
    assert_close(hebbcore.weight_update(images, weights, rule, **options), expected, dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rule", VARIANTS, ids=repr)
def test_dense_and_convolution_on_both_kernels(rule, dtype, backend_module, generator):
    name, params = parameters(rule)
    vectors, matrix = batch(generator, (3, 4), dtype), batch(generator, (5, 4), dtype)
    expected = reference.weight_update(vectors, matrix, name, **params)
    assert_close(hebbcore.weight_update(vectors, matrix, rule), expected, dtype)
    images, weights = batch(generator, (1, 3, 3, 2), dtype), batch(generator, (4, 2, 2, 2), dtype)
    expected = reference.weight_update(images, weights, name, padding=(0, 1), **params)
    assert_close(hebbcore.weight_update(images, weights, rule, padding=(0, 1)), expected, dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rule", VARIANTS, ids=repr)
def test_output(rule, dtype, backend_module, generator):
    name, params = parameters(rule)
    images, weights = batch(generator, (2, 4, 3, 2), dtype), batch(generator, (4, 3, 2, 2), dtype)
    layer = hebbcore.HebbianLayer(weights, rule, (1, 2), (1, 0), precision=np.dtype(dtype).name)
    patches = reference.patches(images, (3, 2), (1, 2), (1, 0))
    expected = reference.output(patches, weights.reshape(4, -1), name, **params)
    assert_close(layer.transform(images), expected.reshape(2, 4, 1, 4), dtype)


@pytest.mark.parametrize("rule", VARIANTS, ids=repr)
def test_three_steps_of_training(rule, generator):
    name, params = parameters(rule)
    batches = [batch(generator, (4, 4, 4, 2), np.float64) for _ in range(3)]
    weights = batch(generator, (5, 3, 3, 2), np.float64)
    expected, state = weights, None
    for images in batches:
        before = {} if state is None else {"state": state}
        state = reference.state_after(images, expected, name, state, **params)
        expected = reference.step(images, expected, name, 0.1, **before, **params)
    layer = hebbcore.train_layer(
        batches,
        5,
        3,
        rule=rule,
        learning_rate=0.1,
        initial_weights=weights,
        precision="float64",
        check_finite=False,  # three steps from such weights are large ones
    )
    assert_close(layer.weights, expected, np.float64)
    assert layer.state.keys() == (state or {}).keys()
    for key, array in layer.state.items():
        assert_close(array, state[key], np.float64)


@pytest.mark.parametrize("shape", [(1, 6), (9, 1), (1, 1)])
@pytest.mark.parametrize("units", [1, 4])
@pytest.mark.parametrize("rule", VARIANTS, ids=repr)
def test_one_sample_one_feature_one_unit(rule, units, shape, generator):
    rule = hebbcore.KWTA(k=min(rule.k, units)) if isinstance(rule, hebbcore.KWTA) else rule
    vectors, weights = batch(generator, shape, np.float64), batch(generator, (units, shape[1]), np.float64)
    if shape[1] == 1:
        vectors, weights = np.abs(vectors), np.abs(weights)  # cosines of exactly -1 leave Y = 0 for all units
        if rule.needs_norms and not rule.signed and rule.expected_winners() is not None:
            return  # all cosines are 1: whether rounding keeps the tie is nobody's promise
    name, params = parameters(rule)
    expected = reference.weight_update(vectors, weights, name, **params)
    assert_close(hebbcore.weight_update(vectors, weights, rule), expected, np.float64)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rule", VARIANTS, ids=repr)
def test_zero_patches_and_zero_units(rule, dtype, backend_module, generator):
    name, params = parameters(rule)
    vectors, weights = batch(generator, (4, 3), dtype), batch(generator, (4, 3), dtype)
    vectors[1] = 0
    weights[2] = 0
    expected = reference.weight_update(vectors, weights, name, **params)
    assert_close(hebbcore.weight_update(vectors, weights, rule), expected, dtype)
    silent = hebbcore.weight_update(np.zeros_like(vectors), np.zeros_like(weights), rule)
    np.testing.assert_array_equal(silent, 0)


@pytest.mark.parametrize("rule", VARIANTS, ids=repr)
def test_exact_ties_of_duplicate_units(rule, generator):
    vectors = generator.integers(-2, 3, (40, 4)).astype(float)
    weights = generator.integers(-2, 3, (3, 4)).astype(float)[[0, 1, 0, 2, 1, 0]]
    name, params = parameters(rule)
    expected = reference.weight_update(vectors, weights, name, **params)
    assert_close(hebbcore.weight_update(vectors, weights, rule), expected, np.float64)


@pytest.mark.parametrize("competition", ["exp", "power"])
def test_low_temperature_in_float32_is_finite_and_right(competition, generator):
    images, weights = batch(generator, (4, 6, 6, 3), np.float32), batch(generator, (8, 3, 3, 3), np.float32)
    rule = hebbcore.SWTA(temperature=0.005, competition=competition)
    delta = hebbcore.weight_update(images, weights, rule)
    assert np.isfinite(delta).all()
    expected = reference.weight_update(images, weights, "swta", temperature=0.005, competition=competition)
    np.testing.assert_allclose(delta, expected, atol=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize("taught", [False, True])
def test_a_unit_opposite_to_a_patch_gets_no_share_at_a_high_temperature(taught, backend_module):
    """0 to a small power counted as a small number to that."""
    X, W = np.array([[1.0], [-2.0], [3.0]], np.float32), np.array([[1.0], [-1.0], [0.5]], np.float32)
    params = {"temperature": 10.0, "competition": "power"}
    teacher = np.array([[1, 1, 0], [1, 1, 1], [0, 1, 0]]) if taught else None
    found = hebbcore.weight_update(X, W, hebbcore.SWTA(**params), teacher=teacher)
    assert_close(found, reference.weight_update(X, W, "swta", teacher=teacher, **params), np.float32)


@pytest.mark.parametrize(
    ("rule", "lowest", "highest"),
    [
        (hebbcore.HPCA(), 0.9 / np.sqrt(3), 1 / np.sqrt(3)),  # U(-1/√D, 1/√D) has rows of norm 1/√3 on average
        (hebbcore.SoftHebb(), 24, 26),
        (hebbcore.SoftHebb(p=3), 24, 26),
        (hebbcore.HardWTA(p=4), 24, 26),
        (hebbcore.Krotov(), 0.97 * np.sqrt(400), 1.03 * np.sqrt(400)),
    ],
)
def test_first_weights_have_the_papers_size(rule, lowest, highest):
    weights = rule.initial_weights(np.random.default_rng(0), 50, 400)
    p = getattr(rule, "p", 2)
    norms = (np.abs(weights) ** p).sum(axis=1) ** (1 / p)
    assert lowest < norms.mean() < highest * 1.001


@pytest.mark.parametrize("p", [2, 3, 5])
def test_adaptive_rate_of_each_unit(p, generator):
    rule = hebbcore.SoftHebb(p=p, adaptive_power=0.7)
    weights = generator.normal(size=(6, 9))
    expected = reference.rates(weights, "softhebb", 0.3, p=p, adaptive_power=0.7)
    np.testing.assert_allclose(np.ravel(rule.rate(weights, 0.3)), expected, rtol=1e-13)


@pytest.mark.parametrize(
    "rule",
    [
        lambda of: hebbcore.SignedWTA(k=of(np.int8, 9)),
        lambda of: hebbcore.SWTA(of(np.float16, 2**-18), of(np.str_, "power")),
        lambda of: hebbcore.SoftHebb(of(np.float16, 2**-18), p=of(np.float16, 4)),
        lambda of: hebbcore.Krotov(p=of(np.float32, 2.5), rank=of(np.uint8, 3), strength=of(np.float16, 0.25)),
        lambda of: hebbcore.HPCA(scale_by_fan_in=of(np.bool_, True)),
    ],
)
def test_parameters_that_are_numpys_numbers_are_those_of_python(rule, generator):
    """int8 and float16 overflowed, and powers of NumPy's floats round in another way than what a file gives back."""
    numpys, pythons = rule(lambda kind, value: kind(value)), rule(lambda kind, value: kind(value).item())
    assert numpys == pythons
    assert not any(isinstance(value, np.generic) for value in vars(numpys).values())
    data = generator.normal(size=(60, 12))
    found, expected = (hebbcore.train_layer(data, 5, rule=each, device="cpu") for each in (numpys, pythons))
    np.testing.assert_array_equal(found.weights, expected.weights)


def test_a_gate_without_the_mass_that_scale_divides_by_is_told(generator):
    class Massless(hebbcore.SWTA):
        def gate(self, scores, norms):
            return super().gate(scores, norms)._replace(mass=None)

    with pytest.raises(ValueError, match=r"^Massless\.gate must return a mass, which its scale divides by\."):
        hebbcore.weight_update(generator.normal(size=(9, 4)), generator.normal(size=(3, 4)), Massless())
