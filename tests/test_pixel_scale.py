"""What learned from images on one scale is not given others: uint8 is read as 0…1, other numbers as they are."""

import pickle
from contextlib import nullcontext
from warnings import catch_warnings

import numpy as np
import pytest

import hebbcore
from hebbcore import export
from hebbcore.bridges import jax as to_jax
from hebbcore.bridges import torch as to_torch
from hebbcore.estimators import HebbianTransformer

BRIGHT = "must have the scale of what was learned from, uint8, got float32 up to 255 or so"
FLOATS = "must have the scale of what was learned from, float32 of 0…1, got float32 up to 255 or so"
BYTES = "must have the scale of what was learned from, float32 up to 255 or so, got uint8"
BYTE_IMAGES = np.random.default_rng(0).integers(0, 256, (12, 6, 6, 3), np.uint8)
LARGE_IMAGES = BYTE_IMAGES.astype(np.float32)


def layer_of(images, **options):
    return hebbcore.train_layer(images, units=4, kernel_size=3, rule="hpca", learning_rate=1e-6, **options)


def network_of(images):
    network = hebbcore.Network([hebbcore.Conv(4, 3, rule="swta"), hebbcore.Pool(2)], seed=0)
    return hebbcore.fit(network, images, learning_rate=1e-6)


@pytest.fixture(params=[layer_of, network_of])
def model_of(request):
    return request.param


@pytest.mark.parametrize("suffix", [None, "h5", "safetensors"])
@pytest.mark.parametrize(
    ("images", "other", "text"),
    [
        (BYTE_IMAGES, LARGE_IMAGES, BRIGHT),
        (LARGE_IMAGES, BYTE_IMAGES, BYTES),
        (LARGE_IMAGES / 255, LARGE_IMAGES, FLOATS),
    ],
)
def test_images_of_another_scale_are_refused(model_of, images, other, text, suffix, tmp_path):
    model = model_of(images)
    if suffix is not None:
        hebbcore.save(tmp_path / f"model.{suffix}", model)
        model = hebbcore.load(tmp_path / f"model.{suffix}")
    with pytest.raises(ValueError, match=f"transform: images {text}"):
        model.transform(other)
    assert model.transform(images).shape[0] == len(images)


def test_images_of_one_scale_are_taken_in_any_dtype(model_of):
    learned = model_of(BYTE_IMAGES)
    expected = learned.transform(BYTE_IMAGES)
    for dtype in (np.float16, np.float32, np.float64):
        np.testing.assert_allclose(learned.transform((BYTE_IMAGES / 255).astype(dtype)), expected, rtol=0.02, atol=1e-3)
    small = model_of(LARGE_IMAGES / 255)
    np.testing.assert_allclose(small.transform(BYTE_IMAGES), small.transform(LARGE_IMAGES / 255), rtol=1e-5, atol=1e-6)
    dark = model_of(LARGE_IMAGES)  # floating images may be darker than those learned from
    assert np.isfinite(dark.transform(LARGE_IMAGES / 255)).all()


def test_numbers_that_are_no_images_of_one_scale_are_taken(model_of):
    for factor, shift in ((1 / 255, -0.5), (1.5 / 255, 0), (0, 0.7)):
        learned = model_of(LARGE_IMAGES * np.float32(factor) + np.float32(shift))
        if factor:
            assert np.isfinite(learned.transform(LARGE_IMAGES)).all()
        assert np.isfinite(learned.transform(LARGE_IMAGES / 10)).all()


def test_nan_is_not_taken_for_a_scale(model_of):
    images = (LARGE_IMAGES / 255).copy()
    images[3, 2, 2, 1] = np.nan
    features = model_of(BYTE_IMAGES).transform(images)
    assert np.isnan(features[3]).any()
    assert np.isfinite(np.delete(features, 3, axis=0)).all()


TWO = "of the data some are floating numbers of 0…1 and others go up to 255 or so"
BLACK = np.zeros_like(LARGE_IMAGES)
DIM = np.full_like(LARGE_IMAGES, 0.5)


@pytest.mark.parametrize("first", [BLACK, BLACK + LARGE_IMAGES % 2, DIM])
def test_a_first_batch_of_dark_images_of_0_to_255_decides_nothing(model_of, first):
    for data in ([first, LARGE_IMAGES], np.concatenate([first] * 6 + [LARGE_IMAGES])):
        warned = pytest.warns(UserWarning, match=TWO) if first is DIM and isinstance(data, list) else nullcontext()
        with warned:
            learned = model_of(data)
        assert np.isfinite(learned.transform(LARGE_IMAGES)).all()
        with pytest.raises(ValueError, match=f"images {BYTES}"):
            learned.transform(BYTE_IMAGES)


@pytest.mark.parametrize(
    ("batches", "text"), [([BYTE_IMAGES, LARGE_IMAGES], BRIGHT), ([LARGE_IMAGES, BYTE_IMAGES], BYTES)]
)
def test_batches_of_two_scales_are_refused(model_of, batches, text):
    with pytest.raises(ValueError, match=f"data {text}"):
        model_of(batches)
    model_of([LARGE_IMAGES / 255, BYTE_IMAGES, LARGE_IMAGES / 255])


def test_batches_of_floating_numbers_on_two_scales_are_told(model_of):
    small = LARGE_IMAGES / 255
    for batches in ([small, LARGE_IMAGES, small], [LARGE_IMAGES, small]):
        with pytest.warns(UserWarning, match=TWO) as told:
            learned = model_of(batches)
        assert {each.category for each in told} == {UserWarning}
        assert (learned.pixel_scale.large, learned.pixel_scale.unit) == (True, False)
    model_of([small, BYTE_IMAGES, small])
    model_of([LARGE_IMAGES, BLACK, LARGE_IMAGES])


def test_learning_goes_on_from_large_numbers_with_those_of_0_to_1_and_is_told():
    network = network_of(LARGE_IMAGES)
    transformer = HebbianTransformer(4, 3, initial_weights="rule", random_state=0).partial_fit(LARGE_IMAGES)
    with pytest.warns(UserWarning, match=TWO):
        hebbcore.fit(network, LARGE_IMAGES / 255, learning_rate=1e-6)
    with pytest.warns(UserWarning, match=TWO):
        transformer.partial_fit(LARGE_IMAGES / 255)
    for model in (network, transformer):  # it refused the images that it had learned from
        assert np.isfinite(model.transform(LARGE_IMAGES)).all()


def test_black_images_have_no_scale_and_others_after_them_do(model_of):
    alone = model_of(BLACK)
    assert (alone.pixel_scale.large, alone.pixel_scale.unit) == (False, None)
    assert np.isfinite(alone.transform(LARGE_IMAGES)).all()
    for data in ([BLACK, LARGE_IMAGES / 255], np.concatenate([BLACK, LARGE_IMAGES / 255])):
        with pytest.raises(ValueError, match=FLOATS):
            model_of(data).transform(LARGE_IMAGES)


def test_a_part_that_is_black_keeps_no_later_one_from_a_transformer():
    transformer = HebbianTransformer(4, 3, initial_weights="rule", random_state=0).partial_fit(BLACK)
    transformer.partial_fit(LARGE_IMAGES).partial_fit(BLACK)
    assert np.isfinite(transformer.transform(LARGE_IMAGES)).all()
    with pytest.raises(ValueError, match=f"HebbianTransformer: X {BYTES}"):
        transformer.transform(BYTE_IMAGES)


def test_a_training_that_goes_on_knows_the_images_before(tmp_path):
    class Stops(Exception):
        pass

    def stop(record):
        raise Stops

    data, options = [DIM, LARGE_IMAGES, DIM, DIM], {"learning_rate": 1e-6, "run": tmp_path, "log_seconds": 0}
    network = hebbcore.Network([hebbcore.Conv(4, 3, rule="swta")], seed=0)
    with pytest.raises(Stops), catch_warnings(action="ignore"):  # the next batch may have been read, or not
        hebbcore.fit(network, data, callback=stop, epochs=2, **options)
    network = hebbcore.Network([hebbcore.Conv(4, 3, rule="swta")], seed=0)
    with pytest.warns(UserWarning, match=TWO):
        hebbcore.fit(network, data, epochs=2, **options)
    assert network.pixel_scale == hebbcore.load(tmp_path).pixel_scale
    assert (network.pixel_scale.large, network.pixel_scale.unit) == (True, False)


def test_all_of_an_array_is_looked_at_before_learning_goes_on():
    network = network_of(LARGE_IMAGES / 255)
    with pytest.raises(ValueError, match=f"fit: data {FLOATS}"):
        hebbcore.fit(network, np.concatenate([DIM, LARGE_IMAGES]), batch_size=12, shuffle=False)


def test_learning_goes_on_from_one_scale(tmp_path):
    network = network_of(BYTE_IMAGES)
    with pytest.raises(ValueError, match=f"fit: data {BRIGHT}"):
        hebbcore.fit(network, LARGE_IMAGES, learning_rate=1e-6)
    hebbcore.fit(network, LARGE_IMAGES / 255, learning_rate=1e-6)


def test_pickles_keep_the_scale_and_older_ones_have_none():
    network = network_of(BYTE_IMAGES)
    again = pickle.loads(pickle.dumps(network))
    with pytest.raises(ValueError, match=BRIGHT):
        again.transform(LARGE_IMAGES)
    del again.__dict__["pixel_scale"]
    assert pickle.loads(pickle.dumps(again)).transform(LARGE_IMAGES).shape == again.transform(BYTE_IMAGES).shape


def test_a_stream_of_batches_tells_its_scale():
    network = network_of([BYTE_IMAGES[:6], BYTE_IMAGES[6:]])
    with pytest.raises(ValueError, match=BRIGHT):
        network.transform(LARGE_IMAGES)


def test_a_run_says_its_scale(tmp_path):
    network = hebbcore.Network([hebbcore.Conv(4, 3, rule="swta")], seed=0)
    hebbcore.fit(network, BYTE_IMAGES, run=tmp_path / "run")
    with pytest.raises(ValueError, match=BRIGHT):
        hebbcore.load(tmp_path / "run").transform(LARGE_IMAGES)


def test_later_images_of_a_call_are_looked_at_too():
    network = network_of(BYTE_IMAGES)
    images = np.concatenate([LARGE_IMAGES / 255, LARGE_IMAGES])
    with pytest.raises(ValueError, match=BRIGHT):
        network.transform(images, workspace=1)


def test_a_later_epoch_of_another_scale_is_refused():
    """train_layer looked at the first epoch alone."""

    class Changes:
        epoch = 0

        def __iter__(self):
            self.epoch += 1
            yield BYTE_IMAGES if self.epoch < 4 else BYTE_IMAGES.astype(np.float32)

    with pytest.raises(ValueError, match=BRIGHT):
        layer_of(Changes(), epochs=9)


def test_exported_models_know_the_scale(tmp_path):
    onnx = pytest.importorskip("onnx")
    network = network_of(LARGE_IMAGES)
    export.onnx(network, tmp_path / "model.onnx")
    images = onnx.load(tmp_path / "model.onnx").graph.input[0]
    assert images.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    with pytest.raises(ValueError, match=f"export.onnx: dtype {BYTES}"):
        export.onnx(network, tmp_path / "model.onnx", dtype="uint8")


@pytest.mark.parametrize(
    ("factor", "shift", "dtype"), [(1 / 255, 0, "UINT8"), (1 / 64, -2, "FLOAT"), (1 / 200, 0, "FLOAT")]
)
def test_models_of_other_numbers_than_those_of_images_are_exported_for_floating_numbers(
    model_of, factor, shift, dtype, tmp_path
):
    onnx = pytest.importorskip("onnx")
    model = model_of(LARGE_IMAGES * np.float32(factor) + np.float32(shift))
    hebbcore.save(tmp_path / "model.h5", model)
    for again in (model, hebbcore.load(tmp_path / "model.h5")):
        export.onnx(again, tmp_path / "model.onnx")
        images = onnx.load(tmp_path / "model.onnx").graph.input[0]
        assert images.type.tensor_type.elem_type == getattr(onnx.TensorProto, dtype)
    model.pixel_scale = model.pixel_scale._replace(unit=None)  # of an earlier version, which does not know
    export.onnx(model, tmp_path / "model.onnx")
    assert onnx.load(tmp_path / "model.onnx").graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8


def test_modules_know_the_scale(model_of):
    torch = pytest.importorskip("torch")
    module = to_torch.to_module(model_of(LARGE_IMAGES))
    with pytest.raises(ValueError, match=f"images {BYTES}"):
        module(torch.tensor(BYTE_IMAGES))
    again = to_torch.from_module(module)
    with pytest.raises(ValueError, match=BYTES):
        again.transform(BYTE_IMAGES)


def test_functions_know_the_scale(model_of):
    pytest.importorskip("jax")
    function, arrays = to_jax.to_function(model_of(LARGE_IMAGES))
    with pytest.raises(ValueError, match=f"images {BYTES}"):
        function(arrays, BYTE_IMAGES)


@pytest.mark.parametrize(
    "value", [["uint8", True], ["no dtype", False, None], ["uint8", 2, None], ["uint8", True, 0], 3]
)
def test_files_with_another_scale_are_refused(value):
    from hebbcore.engine.pixel_scale import PixelScale

    with pytest.raises((TypeError, ValueError)):
        PixelScale.from_table("load", value)


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("images", "other", "text"), [(BYTE_IMAGES, LARGE_IMAGES, BRIGHT), (LARGE_IMAGES, BYTE_IMAGES, BYTES)]
)
def test_images_on_the_gpu_have_a_scale_too(images, other, text):
    cupy = pytest.importorskip("cupy")
    layer = layer_of(cupy.asarray(images), device="cuda")
    for given in (other, cupy.asarray(other)):
        with pytest.raises(ValueError, match=text):
            layer.transform(given)
    assert len(layer.transform(cupy.asarray(images))) == len(images)
