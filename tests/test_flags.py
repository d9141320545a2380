"""What is true or false must be so, in every public function: texts such as "no" are no more taken for true."""

import importlib
import inspect
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import hebbcore
import loaders
from hebbcore.classify import FewLabelClassifier
from hebbcore.estimators import HebbianNetworkTransformer, HebbianTransformer
from hebbcore.evaluation import RidgeReadout
from hebbcore.evaluation.evaluate import evaluate
from hebbcore.features.extract import extract_features

MODULES = [
    "hebbcore", "hebbcore.layers", "hebbcore.rules", "hebbcore.evaluation", "hebbcore.estimators", "hebbcore.classify",
    "hebbcore.labelling", "hebbcore.export", "loaders",
]  # fmt: skip
OF_LAYERS = {"arrays_for", "forward", "begin", "learn", "run"}  # what networks call, and those who write layers
RECORDS = {"Device", "Pair"}  # what the library makes itself
OF_SKLEARN = ("get_params", "set_", "fit_transform")

X = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3)).astype(np.uint8)
ROWS, Y = X.reshape(12, -1) / 255, np.arange(12) % 3
WEIGHTS = np.ones((4, 3, 3, 3), np.float32)


def network(layer=None):
    return hebbcore.Network([layer or hebbcore.Conv(4, 3, "swta")], (8, 8, 3), device="cpu")


def teacher():
    return hebbcore.Network([hebbcore.Dense(3, "supervised")], (8, 8, 3), device="cpu")


FLAGS = {
    "HPCA.scale_by_fan_in": lambda value: hebbcore.HPCA(scale_by_fan_in=value),
    "ICA.hierarchical": lambda value: hebbcore.ICA(hierarchical=value),
    "ICA.normalized": lambda value: hebbcore.ICA(normalized=value),
    "SoftHebb.anti_hebbian": lambda value: hebbcore.SoftHebb(anti_hebbian=value),
    "BatchNorm.modified": lambda value: network(hebbcore.BatchNorm(modified=value)),
    "Conv.linear": lambda value: network(hebbcore.Conv(4, 3, linear=value)),
    "Conv.normalize_patches": lambda value: network(hebbcore.Conv(4, 3, normalize_patches=value)),
    "Dense.linear": lambda value: network(hebbcore.Dense(4, linear=value)),
    "Dense.normalize_patches": lambda value: network(hebbcore.Dense(4, normalize_patches=value)),
    "Whiten.relative": lambda value: network(hebbcore.Whiten(3, relative=value)),
    "Whiten.centre": lambda value: network(hebbcore.Whiten(3, centre=value)),
    "HebbianLayer.linear": lambda value: hebbcore.HebbianLayer(WEIGHTS, "swta", linear=value),
    "Network.build.draw": lambda value: hebbcore.Network([hebbcore.Conv(4, 3)]).build((8, 8, 3), draw=value),
    "Network.features.mirror": lambda value: network().features(X, ["conv1"], mirror=value),
    "Network.gflop.mirror": lambda value: network().gflop(mirror=value),
    "Network.predict.mirror": lambda value: teacher().predict(X, mirror=value),
    "Network.transform.mirror": lambda value: network().transform(X, mirror=value),
    "fit.shuffle": lambda value: hebbcore.fit(network(), X, shuffle=value),
    "fit.previous": lambda value: hebbcore.fit(network(), X, previous=value, run="run"),
    "fit.progress": lambda value: hebbcore.fit(network(), X, progress=value),
    "fit.check_finite": lambda value: hebbcore.fit(network(), X, check_finite=value),
    "load.previous": lambda value: hebbcore.load("run", previous=value),
    "train_layer.shuffle": lambda value: hebbcore.train_layer(X, 4, 3, shuffle=value),
    "train_layer.progress": lambda value: hebbcore.train_layer(X, 4, 3, progress=value),
    "train_layer.check_finite": lambda value: hebbcore.train_layer(X, 4, 3, check_finite=value),
    "weight_update.check_finite": lambda value: hebbcore.weight_update(X, WEIGHTS, "swta", check_finite=value),
    "RidgeReadout.fit_intercept": lambda value: RidgeReadout(fit_intercept=value).fit(ROWS, Y),
    "RidgeReadout.standardize": lambda value: RidgeReadout(standardize=value).fit(ROWS, Y),
    "HebbianNetworkTransformer.mirror": lambda value: HebbianNetworkTransformer(
        [hebbcore.Conv(4, 3)], mirror=value
    ).fit(X),
    "HebbianTransformer.whiten": lambda value: HebbianTransformer(4, 3, whiten=value).fit(X),
    "HebbianTransformer.mirror": lambda value: HebbianTransformer(4, 3, mirror=value).fit(X),
    "onnx.mirror": lambda value: importlib.import_module("hebbcore.export").onnx(network(), "a.onnx", mirror=value),
    "CenterCrop.flip": lambda value: loaders.CenterCrop(8, flip=value),
    "RandomResizedCrop.flip": lambda value: loaders.RandomResizedCrop(8, flip=value),
    "ClassFolderTar.classes": lambda value: loaders.ClassFolderTar("photos.tar", classes=value),
    "ZipImages.classes": lambda value: loaders.ZipImages("photos.zip", classes=value),
    "ShardStream.shuffle": lambda value: loaders.ShardStream("shards", shuffle=value),
    "ShardStream.drop_last": lambda value: loaders.ShardStream("shards", drop_last=value),
    "ShardStream.labels": lambda value: loaders.ShardStream("shards", labels=value),
    "array_source.wide": lambda value: loaders.array_source(X, Y, wide=value),
    "build_shards.strict": lambda value: loaders.build_shards("photos", "built", strict=value),
    "write_shards.wide": lambda value: loaders.write_shards((X, Y), "written", wide=value),
}


def public_flags():
    """Yield the name of every argument of a public function or class that is true or false."""
    for module in map(importlib.import_module, MODULES):
        for name in module.__all__:
            thing = getattr(module, name)
            found = [(name, thing)]
            if not inspect.isfunction(thing) and not inspect.isclass(thing):
                continue
            if inspect.isclass(thing):
                found += [(f"{name}.{key}", member) for key, member in inspect.getmembers(thing, inspect.isfunction)]
            for place, function in found:
                key = place.rpartition(".")[2]
                if name in RECORDS or key in OF_LAYERS or key.startswith(("_", *OF_SKLEARN)):
                    continue
                for parameter in inspect.signature(function).parameters.values():
                    if isinstance(parameter.default, bool) or "bool" in str(parameter.annotation).split("]")[-1]:
                        yield f"{place}.{parameter.name}"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Work in a folder of images in all forms."""
    monkeypatch.chdir(tmp_path)
    for name in ("a/1.png", "b/2.png"):
        path = Path("photos", name)
        path.parent.mkdir(parents=True)
        Image.fromarray(X[0]).save(path)
    with tarfile.open("photos.tar", "w") as tar, zipfile.ZipFile("photos.zip", "w") as archive:
        tar.add("photos")
        for path in Path("photos").rglob("*.png"):
            archive.write(path)
    loaders.write_shards((X, Y), "shards")
    hebbcore.fit(network(), X, run="run")


def test_no_flag_of_a_public_function_is_missing_here():
    assert set(public_flags()) == FLAGS.keys()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FLAGS)
def test_a_flag_is_true_or_false(name, folder):
    if name == "onnx.mirror":
        pytest.importorskip("onnx")
    if name == "fit.previous":
        hebbcore.fit(network(), X, run="run")
    message = rf"{name.rpartition('.')[2]} must be (?i:true or false), got"
    for value in ("no", "", 2, 0, [True]):
        with pytest.raises((TypeError, ValueError), match=message):
            FLAGS[name](value)
    for value in (True, False, np.True_, np.False_):
        FLAGS[name](value)


def test_flags_and_numbers_of_numpy_are_written_down_as_pythons(tmp_path):
    def made(yes, two):
        layers = [hebbcore.Whiten(3, centre=yes), hebbcore.Conv(4, 3, hebbcore.KWTA(k=two), normalize_patches=yes)]
        layers += [hebbcore.BatchNorm(modified=yes), hebbcore.Conv(4, 3, hebbcore.HPCA(scale_by_fan_in=yes))]
        return hebbcore.Network(layers, (8, 8, 3), device="cpu")

    networks, stream = [], loaders.ArrayStream(X, Y, 6)
    for number, (yes, one, two) in enumerate([(np.True_, np.int64(1), np.int8(2)), (True, 1, 2), (True, 1, 2)]):
        networks.append(made(yes, two))
        hebbcore.fit(networks[-1], X, run=tmp_path / f"run{number // 2}", shuffle=yes)  # the second goes on
        extract_features(networks[-1], stream, tmp_path / "f.h5", mirror=yes, pool=two, shifts=one)
        more = {"fractions": [1.0], "seeds": one, "baselines": [], "layers": ["conv2"]}
        evaluate(networks[-1], stream, stream, tmp_path / "report", mirror=yes, shifts=one, **more)
    files = [(tmp_path / f"run{number}" / "config.json").read_bytes() for number in (0, 1)]
    assert files[0] == files[1]


def test_a_stream_that_shuffles_is_refused_whatever_says_so():
    stream = loaders.ArrayStream(X, Y)
    stream.shuffle = np.True_
    with pytest.raises(ValueError, match="must be in its stored order"):
        extract_features(network(), stream, "features.h5")


@pytest.mark.parametrize(
    "call",
    [
        lambda value: hebbcore.fit(network(), X, callback=value),
        lambda value: hebbcore.train_layer(X, 4, 3, callback=value),
        lambda value: RidgeReadout(progress=value).fit(ROWS, Y),
        lambda value: FewLabelClassifier(progress=value).fit(ROWS, Y),
        lambda value: FewLabelClassifier().fit(ROWS, Y).relearn(Y, early=value),
        lambda value: extract_features(network(), loaders.ArrayStream(X, Y), "features.h5", progress=value),
        lambda value: evaluate(network(), *[loaders.ArrayStream(X, Y)] * 2, "report", progress=value),
        lambda value: loaders.build_shards("photos", "built", progress=value),
        lambda value: loaders.verify_shards("shards", value),
        lambda value: loaders.download_dataset("cifar10", "images", progress=value),
    ],
)
def test_what_is_called_can_be_called(call, folder):
    message = r": (progress|callback|early) must be a function that is called, or None, got"
    for value in (True, False, "yes"):
        with pytest.raises(TypeError, match=message):
            call(value)
    assert not any(map(Path.exists, map(Path, ("features.h5.partial", "report", "built", "images"))))
