"""Images and iterables that the public functions refuse, and how."""

import numpy as np
import pytest
from input_helpers import (
    DENSE_WEIGHTS,
    IMAGES,
    WEIGHTS,
    OnlyArray,
    OnlyDLPack,
    Stream,
    batches_of,
    refused,
    spoiled,
    train,
)

import hebbcore
from hebbcore import HPCA, weight_update


class ExhaustedLater:
    """A re-iterable by its looks that gives nothing from the second loop on."""

    def __init__(self, batches):
        self._iterator = iter(batches)

    def __iter__(self):
        yield from self._iterator


class WithGradient:
    """What a library does not give away, as PyTorch a tensor with a gradient or of bfloat16."""

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("Use tensor.detach().numpy() instead.")


# Refused images, the same for all functions

LAYER = hebbcore.HebbianLayer(WEIGHTS, HPCA())
FUNCTIONS = {
    "weight_update": lambda images: weight_update(images, WEIGHTS, "hpca"),
    "train_layer": train,
    "transform": LAYER.transform,
}
RANKS = "(n, height, width, channels) or (n, features)"
NUMBERS = "uint8 (read as 0…1), float16, float32 or float64"


def all_functions(bad):
    """Parametrise over functions × bad inputs."""

    def decorate(test):
        return pytest.mark.parametrize("function", FUNCTIONS)(pytest.mark.parametrize(*bad)(test))

    return decorate


@all_functions(
    (
        ("images", "error", "parts"),
        [
            (IMAGES[0, 0, 0], ValueError, [RANKS, "(3,)"]),
            (np.float32(3), ValueError, [RANKS, "()"]),
            (IMAGES[0], ValueError, [RANKS, "(6, 5, 3)", "images[None]"]),
            (IMAGES[..., 0], ValueError, [RANKS, "(10, 6, 5)", "images[..., None]"]),
            (IMAGES[None], ValueError, [RANKS, "(1, 10, 6, 5, 3)"]),
            (IMAGES[:0], ValueError, ["empty", "(0, 6, 5, 3)"]),
            (IMAGES[:, :0], ValueError, ["empty", "(10, 0, 5, 3)"]),
            (IMAGES.astype(np.int32), TypeError, [NUMBERS, "int32"]),
            (IMAGES.astype(np.int8), TypeError, [NUMBERS, "int8"]),
            (IMAGES > 0.5, TypeError, [NUMBERS, "bool"]),
            (IMAGES.astype(complex), TypeError, ["array of numbers", "complex128"]),
            (IMAGES.astype(object), TypeError, ["array of numbers", "object"]),
            (np.ma.masked_less(IMAGES, 0.5), TypeError, ["must not be masked", ".filled(0)"]),
            (np.full(IMAGES.shape, "a"), TypeError, ["array of numbers", "<U1"]),
            (np.zeros(IMAGES.shape, "M8[s]"), TypeError, ["array of numbers", "datetime64"]),
            (WithGradient(), TypeError, ["array of numbers", "WithGradient", "tensor.detach()"]),
            (OnlyArray(IMAGES[0]), ValueError, [RANKS, "(6, 5, 3)"]),
            (OnlyDLPack(IMAGES.astype(np.int64)), TypeError, [NUMBERS, "int64"]),
            (IMAGES.reshape(10, -1), ValueError, ["(n, height, width, channels)", "90)"]),
            (IMAGES[:, :2], ValueError, ["kernel_size 3×2", "padded image 2×5"]),
            (IMAGES[:, :, :1], ValueError, ["kernel_size 3×2", "padded image 6×1"]),
            (None, TypeError, ["NoneType"]),
            (3, (TypeError, ValueError), ["int", "got"]),
            ("images.npy", TypeError, ["str"]),
            ({"images": IMAGES}, TypeError, ["dict"]),
            ([[1.0, 2.0], [1.0]], (TypeError, ValueError), ["got"]),
            ([IMAGES[:2], IMAGES[:3, 1:]], (TypeError, ValueError), ["got", "("]),
        ],
    ),
)
def test_bad_images_are_refused(function, images, error, parts):
    if isinstance(images, int) and function != "train_layer":
        parts = ["got", "()"]
    if isinstance(images, list) and len(images[1]) == 3 and function == "train_layer":
        parts = ["data changed", "(6, 5)", "(5, 5)"]
    message = refused(error, parts, FUNCTIONS[function], images)
    assert message.startswith(f"{function}: {'data' if function == 'train_layer' else 'images'}") or any(
        text in message for text in ("kernel_size", "data changed")
    )


@pytest.mark.parametrize("function", ["weight_update", "transform"])
@pytest.mark.parametrize(("images", "came"), [(IMAGES[..., :2], 2), (np.moveaxis(IMAGES, -1, 1), 5)])
def test_convolutional_weights_refuse_other_channels(function, images, came):
    parts = [f"{function}: images have {came} channels", "weights 3", "(4, 3, 2, 3)", "np.moveaxis(images, 1, -1)"]
    refused(ValueError, parts, FUNCTIONS[function], images)


@pytest.mark.parametrize("shape", [(10, 17), (10, 3, 3, 3)])
def test_dense_weights_refuse_other_features(shape):
    images, size = np.zeros(shape, np.float32), int(np.prod(shape[1:]))
    parts = [f"images have {size} features", "weights 18", "(4, 18)"]
    refused(ValueError, ["weight_update: ", *parts], weight_update, images, DENSE_WEIGHTS, "hpca")
    refused(ValueError, ["transform: ", *parts], hebbcore.HebbianLayer(DENSE_WEIGHTS, HPCA()).transform, images)


def test_convolutional_weights_refuse_a_list_of_vectors():
    weights = WEIGHTS[:, :1, :1]
    refused(ValueError, ["(n, height, width, channels)"], weight_update, [[0.5, 0.5, 0.5]], weights, "hpca")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("weight_update: images", lambda value, **o: weight_update(spoiled(IMAGES, value), WEIGHTS, "swta", **o)),
        ("weight_update: weights", lambda value, **o: weight_update(IMAGES, spoiled(WEIGHTS, value), "swta", **o)),
        ("train_layer: data", lambda value, **o: train(spoiled(IMAGES, value), **o).weights),
        ("train_layer: data", lambda value, **o: train([IMAGES, spoiled(IMAGES, value)], **o).weights),
        ("train_layer: data", lambda value, **o: train(spoiled(IMAGES.astype(np.float16), value), **o).weights),
        (
            "train_layer: initial_weights",
            lambda value, **o: train(initial_weights=spoiled(WEIGHTS, value), **o).weights,
        ),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_nan_and_infinity_are_found_unless_told_not_to_look(name, call, value):
    refused(ValueError, [name, "must be finite", "[2] holds NaN or infinity", "check_finite=False"], call, value)
    assert not np.isfinite(call(value, check_finite=False)).all()


def test_nan_is_found_beyond_the_first_piece_that_is_looked_at():
    images = np.zeros((40, 400, 400, 1), np.float32)
    images[37, 5, 5, 0] = np.nan
    refused(ValueError, ["data[37] holds NaN"], train, images)


@pytest.mark.parametrize(("value", "problem"), [(np.nan, "[2] holds NaN or infinity"), (1e20, "at most 1e+12 in")])
def test_numbers_of_a_later_epoch_are_looked_at_too(value, problem):
    """The rate was blamed for weights that became NaN."""

    class Changes:
        epoch = 0

        def __iter__(self):
            self.epoch += 1
            yield IMAGES if self.epoch < 4 else spoiled(IMAGES, value)

    refused(ValueError, ["train_layer: data", problem], train, Changes(), epochs=9)


def test_nan_in_an_array_is_found_before_any_step():
    steps = []
    refused(ValueError, ["must be finite"], train, spoiled(IMAGES), batch_size=1, callback=steps.append)
    assert steps == []


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_weights_that_diverge_are_reported():
    options = {"rule": HPCA("identity"), "learning_rate": 1e30, "epochs": 3}
    refused(
        FloatingPointError,
        [
            "train_layer: ",
            "the weights of the layer diverge",
            "lower its learning rate, 1e+30",
        ],
        train,
        **options,
    )
    assert not np.isfinite(train(check_finite=False, **options).weights).all()


# Iterables


@pytest.mark.parametrize(
    ("data", "options", "error", "parts"),
    [
        ([], {}, ValueError, ["data gave no batch in epoch 1"]),
        (Stream([]), {}, ValueError, ["data gave no batch in epoch 1"]),
        (iter([]), {}, ValueError, ["data gave no batch in epoch 1"]),
        (iter(batches_of(IMAGES)), {"epochs": 2}, ValueError, ["iterator", "epochs is 2", "again", "epochs=1"]),
        ((b for b in batches_of(IMAGES)), {"epochs": 2}, ValueError, ["iterator", "epochs is 2"]),
        (ExhaustedLater(batches_of(IMAGES)), {"epochs": 2}, ValueError, ["no batch in epoch 2", "once only"]),
        ([IMAGES, IMAGES[:, 1:]], {}, ValueError, ["data changed", "(6, 5)", "(5, 5)"]),
        ([IMAGES, IMAGES[..., :2]], {}, ValueError, ["data have 2 channels", "weights 3"]),
        ([IMAGES, IMAGES[0]], {}, ValueError, ["data must be", "(6, 5, 3)"]),
        ([IMAGES, IMAGES[:0]], {}, ValueError, ["data must not be empty", "(0, 6, 5, 3)"]),
        ([IMAGES, IMAGES.astype(int)], {}, TypeError, ["data must be uint8", "int64"]),
        ([IMAGES, "labels"], {}, TypeError, ["data must be an array of numbers", "str"]),
        ([()], {}, (TypeError, ValueError), ["data"]),
        ([IMAGES.reshape(10, -1)], {}, ValueError, ["(n, height, width, channels)", "(10, 90)"]),
        ([IMAGES[:, :2]], {}, ValueError, ["kernel_size 3×2", "padded image 2×5"]),
        (b"bytes", {}, TypeError, ["data must be an array", "bytes"]),
        (object(), {}, TypeError, ["data must be an array", "object"]),
        (7, {}, TypeError, ["data must be an array", "int"]),
    ],
)  # fmt: skip
def test_bad_iterables_are_refused(data, options, error, parts):
    assert refused(error, parts, train, data, **options).startswith("train_layer: ")
