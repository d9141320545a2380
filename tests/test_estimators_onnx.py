"""skl2onnx takes pipelines with the transformers."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import hebbcore
from hebbcore.estimators import HebbianNetworkTransformer, HebbianTransformer

skl2onnx = pytest.importorskip("skl2onnx", reason="needs skl2onnx")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs onnxruntime, which reads the files")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def outputs_of(model, X, **options):
    proto = skl2onnx.to_onnx(model, X[:1], **options)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: X})


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "int64"])
@pytest.mark.parametrize("flattened", [False, True])
def test_a_pipeline(dtype, flattened, generator):
    images, labels = generator.integers(0, 256, (40, 6, 6, 2)), np.arange(40) % 3
    images[labels == 1, :3] //= 4
    X = (images / 255).astype(dtype) if dtype[0] == "f" else images.astype(dtype)
    X = X.reshape(40, -1) if flattened else X
    transformer = HebbianTransformer(
        8, 3, activation="split", pool=2, power=0.5, mirror=True, image_shape=(6, 6, 2), random_state=0, device="cpu"
    )
    pipe = make_pipeline(transformer, StandardScaler(), LogisticRegression()).fit(X, labels)
    found, likely = outputs_of(pipe, X, options={"zipmap": False})
    np.testing.assert_array_equal(found, pipe.predict(X))
    np.testing.assert_allclose(likely, pipe.predict_proba(X), rtol=0, atol=1e-4)


def test_vectors_and_networks(generator):
    X = generator.random((40, 7), np.float32)
    layer = HebbianTransformer(5, random_state=0, device="cpu").fit(X)
    np.testing.assert_allclose(outputs_of(layer, X)[0], layer.transform(X), rtol=0, atol=1e-5)
    layers = [hebbcore.Conv(4, 3), hebbcore.Pool(2), hebbcore.Dense(3)]
    images = generator.random((20, 6, 6, 1), np.float32)
    network = HebbianNetworkTransformer(layers, layer="pool1", random_state=0, device="cpu").fit(images)
    np.testing.assert_allclose(outputs_of(network, images)[0], network.transform(images), rtol=0, atol=1e-5)


def test_what_the_transformer_refuses_is_refused(generator):
    images = generator.integers(0, 256, (20, 6, 6, 1))
    layer = HebbianTransformer(4, 3, random_state=0, device="cpu").fit(images)  # learns from them as they are
    with pytest.raises(ValueError, match=r"^to_onnx: X must have the scale of what was learned from"):
        skl2onnx.to_onnx(layer, images[:1].astype(np.uint8))
    with pytest.raises(ValueError, match=r"^to_onnx: target_opset must be 13 or more for Hebbian transformers, got 12"):
        skl2onnx.to_onnx(layer, images[:1], target_opset=12)
    assert outputs_of(layer, images, target_opset=13)[0].shape == layer.transform(images).shape
