"""Rules, options and workspaces that the public functions refuse, and how."""

import contextlib
import dataclasses

import numpy as np
import pytest
from input_helpers import DENSE_WEIGHTS, IMAGES, WEIGHTS, refused, train

import hebbcore
from hebbcore import HPCA, KWTA, SWTA, Conv, HardWTA, Krotov, Network, Pool, Rule, SoftHebb, weight_update

# Rules


@pytest.mark.parametrize(
    ("function", "call"),
    [
        ("train_layer", lambda rule: train(rule=rule)),
        ("weight_update", lambda rule: weight_update(IMAGES, WEIGHTS, rule)),
    ],
)
@pytest.mark.parametrize(
    ("rule", "error", "parts"),
    [
        ("hcpa", ValueError, [*map(repr, hebbcore.RULES), "'hcpa'", "Did you mean 'hpca'?"]),
        ("SWTA", ValueError, ["rule must be one of", "'SWTA'"]),
        ("backprop", ValueError, ["rule must be one of", "'backprop'"]),
        (HPCA, TypeError, ["instance", "class HPCA", "HPCA()"]),
        (Rule, TypeError, ["instance", "class Rule"]),
        (int, TypeError, ["rule must be a Rule or one of 'hpca'", "int"]),
        (object(), TypeError, ["rule must be a Rule or one of 'hpca'", "object"]),
        (None, TypeError, ["rule must be a Rule or one of 'hpca'", "None"]),
        (KWTA(5), ValueError, ["k must be between 1 and the number of units (4)", "5"]),
        (Krotov(rank=5), ValueError, ["rank must be at most the number of units (4)", "5"]),
    ],
)
def test_bad_rules_are_refused(function, call, rule, error, parts):
    assert refused(error, parts, call, rule).startswith(f"{function}: ")


@pytest.mark.parametrize("rule", [SWTA, SoftHebb])
@pytest.mark.parametrize(
    ("temperature", "error", "expected"),
    [
        (0, ValueError, "above 0, got 0"),
        (-0.5, ValueError, "above 0, got -0.5"),
        (float("nan"), ValueError, "finite, got nan"),
        (float("inf"), ValueError, "finite, got inf"),
        (True, TypeError, "a number, got True"),
        ("0.1", TypeError, "a number, got '0.1'"),
        (None, TypeError, "a number, got None"),
    ],
)
def test_bad_temperatures_are_refused(rule, temperature, error, expected):
    refused(error, [f"{rule.__name__}: temperature must be {expected}"], rule, temperature=temperature)


@pytest.mark.parametrize("rule", [SoftHebb, HardWTA, Krotov])
@pytest.mark.parametrize(
    ("p", "error", "expected"),
    [
        (1.9, ValueError, "at least 2, got 1.9"),
        (-3, ValueError, "at least 2, got -3"),
        (float("nan"), ValueError, "finite, got nan"),
        (True, TypeError, "a number, got True"),
        ("2", TypeError, "a number, got '2'"),
    ],
)
def test_bad_exponents_are_refused(rule, p, error, expected):
    refused(error, [f"{rule.__name__}: p must be {expected}"], rule, p=p)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: HPCA("rleu"), ValueError, "HPCA: activation must be one of 'relu', 'tanh', 'identity', "
         "'adaptive_tanh'; got 'rleu'. Did you mean 'relu'?"),
        (lambda: HPCA(None), ValueError, "HPCA: activation must be one of 'relu', 'tanh', 'identity', "
         "'adaptive_tanh'; got None"),
        (lambda: SWTA(competition="pwer"), ValueError, "SWTA: competition must be one of 'exp', 'power'; got 'pwer'. "
         "Did you mean 'power'?"),
        (lambda: KWTA(0), ValueError, "KWTA: k must be at least 1, got 0"),
        (lambda: KWTA(1.0), TypeError, "KWTA: k must be an integer, got 1.0"),
        (lambda: KWTA(True), TypeError, "KWTA: k must be an integer, got True"),
        (lambda: Krotov(rank=1), ValueError, "Krotov: rank must be at least 2, got 1"),
        (lambda: Krotov(rank=2.5), TypeError, "Krotov: rank must be an integer, got 2.5"),
        (lambda: Krotov(strength=-1), ValueError, "Krotov: strength must be at least 0, got -1"),
        (lambda: SoftHebb(adaptive_power=0), ValueError, "SoftHebb: adaptive_power must be above 0, got 0"),
        (lambda: HardWTA(adaptive_power="x"), TypeError, "HardWTA: adaptive_power must be a number, got 'x'"),
        (lambda: SoftHebb(p=1e40), ValueError, "SoftHebb: p must be at most 200, got 1e+40"),
        (lambda: HardWTA(adaptive_power=1e40), ValueError, "HardWTA: adaptive_power must be at most 200, got 1e+40"),
        (lambda: Krotov(p=201), ValueError, "Krotov: p must be at most 200, got 201"),
        (lambda: Krotov(strength=1e300), ValueError, "Krotov: strength must be at most 1e+12, got 1e+300"),
        (lambda: SWTA(1e-40, "power"), ValueError, "SWTA: temperature must be at least 1e-12, got 1e-40"),
        (lambda: Conv(4, 3, "kwta", conscience=1e40), ValueError, "conscience must be at most 1e+12, got 1e+40"),
        (lambda: Conv(4, 3, stride=10**30), ValueError, "Conv: stride must be at most 2147483647, got 1000000000"),
        (lambda: Pool(2, stride=2**31), ValueError, "Pool: stride must be at most 2147483647, got 2147483648"),
    ],
)  # fmt: skip
def test_bad_parameters_of_rules_are_refused(make, error, message):
    refused(error, [message], make)


@pytest.mark.parametrize("value", [1e308, 1e40, 1e6, 200, 5e-324, 10**30, 2**31 - 1])
@pytest.mark.parametrize("name", hebbcore.RULES)
def test_extreme_numbers_of_rules_are_refused_or_make_finite_weights(name, value):
    rule = hebbcore.RULES[name]
    for field in dataclasses.fields(rule):
        if isinstance(field.default, float | int) and not isinstance(field.default, bool):
            for number in (value, int(value)):
                with contextlib.suppress(ValueError, TypeError):
                    made = rule(**{field.name: number})
                    assert np.isfinite(made.initial_weights(np.random.default_rng(0), 4, 9)).all()


def test_a_stride_beyond_the_image_costs_no_memory():
    images = np.random.default_rng(0).random((2, 6, 6, 1), np.float32)
    far, near = (Network([Conv(4, 3, stride=stride)], (6, 6, 1), device="cpu") for stride in (2**31 - 1, 4))
    np.testing.assert_array_equal(far.transform(images), near.transform(images))


# Options


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"units": 0}, ValueError, "units must be at least 1, got 0"),
        ({"units": 1.5}, TypeError, "units must be an integer, got 1.5"),
        ({"units": True}, TypeError, "units must be an integer, got True"),
        ({"epochs": 0}, ValueError, "epochs must be at least 1, got 0"),
        ({"epochs": "2"}, TypeError, "epochs must be an integer, got '2'"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1, got 0"),
        ({"batch_size": 2.0}, TypeError, "batch_size must be an integer, got 2.0"),
        ({"shuffle": "no"}, TypeError, "shuffle must be true or false, got 'no'"),
        ({"learning_rate": 0}, ValueError, "learning_rate must be above 0, got 0"),
        ({"learning_rate": -1e-3}, ValueError, "learning_rate must be above 0, got -0.001"),
        ({"learning_rate": float("nan")}, ValueError, "learning_rate must be finite, got nan"),
        ({"learning_rate": "1e-3"}, TypeError, "learning_rate must be a number, got '1e-3'"),
        ({"kernel_size": 0}, ValueError, "kernel_size must be at least 1, got 0"),
        ({"kernel_size": (3, 3, 3)}, ValueError, "kernel_size must be one integer or a (height, width) pair, got (3,"),
        ({"kernel_size": "3"}, TypeError, "kernel_size must be an integer, got '3'"),
        ({"kernel_size": 7}, ValueError, "kernel_size 7×7 is larger than the padded image 6×5"),
        ({"stride": 0}, ValueError, "stride must be at least 1, got 0"),
        ({"stride": (1, 2, 3)}, ValueError, "stride must be one integer or a (height, width) pair, got (1, 2, 3)"),
        ({"padding": -1}, ValueError, "padding must be at least 0, got -1"),
        ({"padding": 1.0}, TypeError, "padding must be an integer, got 1.0"),
        ({"padding_mode": "reflekt"}, ValueError, "'zeros', 'reflect', 'edge'; got 'reflekt'. Did you mean 'reflect'?"),
        ({"padding": 5, "padding_mode": "reflect"}, ValueError, "smaller than the image (6×5), got 5×5"),
        ({"kernel_size": None, "stride": 2}, ValueError, "stride and padding are for convolutions"),
        ({"kernel_size": None, "padding": 1}, ValueError, "stride and padding are for convolutions"),
        ({"device": "gpu"}, ValueError, "device must be one of 'auto', 'cpu', 'cuda'; got 'gpu'"),
        ({"device": "cdua"}, ValueError, "Did you mean 'cuda'?"),
        ({"precision": "tf32"}, ValueError, "precision 'tf32' needs CUDA"),
        ({"precision": "bf16"}, ValueError, "precision 'bf16' needs CUDA"),
        ({"precision": "float23"}, ValueError, "'bf16'; got 'float23'. Did you mean 'float32'?"),
        ({"precision": np.float32}, ValueError, "precision must be one of 'float32'"),
        ({"workspace": "lots"}, ValueError, 'workspace must be bytes or text like "256 MiB" or "2 GB", got \'lots\''),
        ({"workspace": "3 parsecs"}, ValueError, "got '3 parsecs'"),
        ({"workspace": "-1 MiB"}, ValueError, "got '-1 MiB'"),
        ({"workspace": 0}, ValueError, "workspace must be at least 1, got 0"),
        ({"workspace": 1e6}, TypeError, "workspace must be an integer, got 1000000.0"),
        ({"initial_weights": WEIGHTS[:3]}, ValueError, "must be (4, 3, 2, channels), got shape (3, 3, 2, 3)"),
        ({"initial_weights": WEIGHTS[:, :2]}, ValueError, "must be (4, 3, 2, channels), got shape (4, 2, 2, 3)"),
        ({"initial_weights": DENSE_WEIGHTS}, ValueError, "must be (4, 3, 2, channels), got shape (4, 18)"),
        ({"initial_weights": WEIGHTS, "kernel_size": None}, ValueError, "must be (4, features), got shape (4, 3, 2, 3"),
        ({"initial_weights": WEIGHTS[..., :2]}, ValueError, "data have 3 channels but the weights 2"),
        ({"initial_weights": DENSE_WEIGHTS, "kernel_size": None}, ValueError, "data have 90 features but the weights"),
        ({"initial_weights": WEIGHTS.astype(int)}, TypeError, "initial_weights must be float32 or float64, got int64"),
        ({"group": 2}, TypeError, "group must be hebbcore.world(), a Group of your own, or None, got 2"),
        ({"initial_weights": "random"}, ValueError, "initial_weights must be one of 'rule', 'patches', 'k-means"),
    ],
)  # fmt: skip
def test_bad_options_of_train_layer_are_refused_before_any_step(options, error, message):
    steps = []
    text = refused(error, [message], train, callback=steps.append, **options)
    assert text.startswith("train_layer: ")
    assert steps == []


@pytest.mark.parametrize(
    ("weights", "options", "error", "message"),
    [
        (WEIGHTS.astype(np.int64), {}, TypeError, "weights must be float32 or float64, got int64"),
        (WEIGHTS.astype(np.uint8), {}, TypeError, "weights must be float32 or float64, got uint8"),
        (WEIGHTS.astype(np.float16), {}, TypeError, "weights must be float32 or float64, got float16"),
        (WEIGHTS > 0, {}, TypeError, "weights must be float32 or float64, got bool"),
        (WEIGHTS[0], {}, ValueError, "(units, features), got shape (3, 2, 3)"),
        (WEIGHTS[:0], {}, ValueError, "got shape (0, 3, 2, 3)"),
        (None, {}, TypeError, "weights must be an array of numbers, got NoneType"),
        (WEIGHTS, {"stride": 0}, ValueError, "stride must be at least 1, got 0"),
        (WEIGHTS, {"padding": -1}, ValueError, "padding must be at least 0, got -1"),
        (WEIGHTS, {"padding_mode": "wrap"}, ValueError, "'zeros', 'reflect', 'edge'; got 'wrap'"),
        (WEIGHTS, {"padding": 6, "padding_mode": "reflect"}, ValueError, "smaller than the image (6×5), got 6×6"),
        (WEIGHTS, {"precision": "tf32"}, ValueError, "precision 'tf32' needs CUDA"),
        (WEIGHTS, {"precision": "half"}, ValueError, "'half'"),
        (WEIGHTS, {"precision": ""}, ValueError, "got ''"),
        (WEIGHTS, {"workspace": "1 parsec"}, ValueError, "workspace must be bytes or text like"),
        (np.zeros((4, 90), np.float32), {"stride": 2}, ValueError, "stride"),
        (np.zeros((4, 90), np.float32), {"padding": 1}, ValueError, "padding"),
    ],
)
def test_bad_options_of_weight_update_are_refused(weights, options, error, message):
    text = refused(error, [message], weight_update, IMAGES, weights, "hpca", **options)
    assert text.startswith("weight_update: ")


def test_fit_and_a_layer_alone_refuse_what_they_would_stumble_on():
    with pytest.raises(TypeError, match=r"fit: group must be hebbcore.world\(\), .* got True"):
        hebbcore.fit(Network([Conv(4, 3)], device="cpu"), IMAGES, group=True)
    with pytest.raises(TypeError, match="HebbianLayer: pixel_scale must be that of another layer, or None, got 255"):
        hebbcore.HebbianLayer(WEIGHTS, "hpca", pixel_scale=255)


# Workspace


def least_of(message):
    return message.split("use at least ")[1].rstrip(".")


@pytest.mark.parametrize("kernel", [(3, 2), (6, 5), None])
@pytest.mark.parametrize("units", [4, 300])
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_the_least_workspace_that_is_named_works(kernel, units, precision):
    shape = (units, *kernel, 3) if kernel else (units, 90)
    weights = np.random.default_rng(0).normal(size=shape).astype(precision)
    layer = hebbcore.HebbianLayer(weights, SWTA(), precision=precision)
    calls = {
        "weight_update": lambda workspace: weight_update(IMAGES, weights, "swta", workspace=workspace),
        "transform": lambda workspace: layer.transform(IMAGES, workspace=workspace),
        "train_layer": lambda workspace: (
            train(units=units, kernel_size=kernel, precision=precision, workspace=workspace).weights
        ),
    }
    tolerance = 1e-4 if precision == "float32" else 1e-10
    for function, call in calls.items():
        message = refused(ValueError, ["workspace of 16 B is too small", f"{units} units"], call, 16)
        assert message.startswith(f"{function}: ")
        least = least_of(message)
        np.testing.assert_allclose(call(least), call("256 MiB"), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("workspace", ["1000000", "1000000b", "1 MB", " 0.5 mib ", "1gb", 10**6, np.int64(10**6)])
def test_a_workspace_is_bytes_or_text(workspace):
    np.testing.assert_allclose(
        weight_update(IMAGES, WEIGHTS, "hpca", workspace=workspace), weight_update(IMAGES, WEIGHTS, "hpca"), rtol=1e-4
    )
