"""Files of networks and layers: what was saved comes back, and damage is noticed."""

import hashlib
import json
from dataclasses import dataclass, fields

import h5py
import numpy as np
import pytest
from fit_helpers import IMAGES, arrays, assert_same, images, layers, network
from test_rules import VARIANTS

import hebbcore
from hebbcore import checkpoint, hdf5
from hebbcore.files import write_atomically


@dataclass(frozen=True)
class Mine(hebbcore.Rule):
    """A rule of one's own: everybody wins."""

    strength: float = 1.0

    def gate(self, scores, norms):
        scores[...] = self.strength
        return hebbcore.Gate(scores, scores.sum(axis=0))


def every_layer():
    return [
        hebbcore.Whiten(2, stride=(1, 2), padding=1, padding_mode="reflect", epsilon=0.2, contrast=None),
        hebbcore.BatchNorm(modified=True, momentum=0.25, epsilon=0.001),
        hebbcore.Conv(3, (2, 1), "krotov", stride=(2, 1), padding=(1, 0), padding_mode="reflect", learning_rate=0.3),
        hebbcore.Triangle(0.7, name="my-triangle"),
        hebbcore.Pool(2, stride=1, padding=1, kind="average"),
        hebbcore.Split(0.01),
        hebbcore.Relu(1.5),
        hebbcore.GridPool((2, 1), kind="max"),
        hebbcore.Power(0.75),
        hebbcore.Flatten(),
        hebbcore.Dense(4, hebbcore.SWTA(0.05, competition="power")),
    ]


def parameters_of(layer):
    return {key.name: getattr(layer, key.name) for key in fields(layer) if key.init}


@pytest.fixture
def saved(tmp_path):
    """Return a trained network and its file."""
    net = hebbcore.fit(network(True, seed=4), images())
    hebbcore.save(tmp_path / "net.h5", net)
    return net, tmp_path / "net.h5"


# What was saved comes back


@pytest.mark.parametrize("rule", VARIANTS, ids=repr)
@pytest.mark.parametrize("kernel", [None, (2, 3)])
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_a_layer_of_every_rule(rule, kernel, precision, tmp_path):
    options = {"stride": (1, 2), "padding": (1, 0), "padding_mode": "reflect"} if kernel else {}
    layer = hebbcore.train_layer(images(), 4, kernel, rule=rule, precision=precision, device="cpu", **options)
    hebbcore.save(tmp_path / "layer.h5", layer)
    back = hebbcore.load(tmp_path / "layer.h5", device="cpu")
    arrays_apart = {"weights": 0, "state": 0}
    assert vars(back) | arrays_apart == vars(layer) | arrays_apart
    assert_same(checkpoint.arrays_of(back), checkpoint.arrays_of(layer))
    np.testing.assert_array_equal(back.transform(images()), layer.transform(images()))


@pytest.mark.parametrize("rule", VARIANTS, ids=repr)
def test_a_network_of_every_rule(rule, tmp_path):
    net = hebbcore.Network([hebbcore.Conv(4, 3, rule), hebbcore.Dense(4, rule)], IMAGES[1:], device="cpu")
    hebbcore.fit(net, images())
    hebbcore.save(str(tmp_path / "net.h5"), net)
    back = hebbcore.load(str(tmp_path / "net.h5"), device="cpu")
    assert [layer.rule for layer in back.layers] == [rule, rule]
    assert_same(arrays(back), arrays(net))


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_a_network_of_every_layer(precision, tmp_path):
    net = hebbcore.Network(every_layer(), IMAGES[1:], seed=7, precision=precision, device="cpu")
    momentum, net["bn1"].momentum = net["bn1"].momentum, 0.1  # layer by layer it has no effect
    hebbcore.fit(net, images(), mode="layerwise")
    net["bn1"].momentum = momentum
    hebbcore.save(tmp_path / "net.h5", net)
    back = hebbcore.load(tmp_path / "net.h5", device="cpu", workspace="64 KiB")
    assert (back.names, back.image_shape, back.shapes, back.seed) == (net.names, net.image_shape, net.shapes, 7)
    assert (back.site.precision, back.site.device, back.site.workspace) == (precision, "cpu", 65536)
    assert [parameters_of(layer) for layer in back.layers] == [parameters_of(layer) for layer in net.layers]
    assert_same(arrays(back), arrays(net))
    np.testing.assert_allclose(back.transform(images()), net.transform(images()), rtol=1e-5, atol=1e-5)


def test_a_loaded_network_learns_on_as_the_saved_one(saved):
    net, path = saved
    back = hebbcore.load(path, device="cpu")
    assert_same(
        arrays(hebbcore.fit(back, images(seed=8), mode="layerwise")),
        arrays(hebbcore.fit(net, images(seed=8), mode="layerwise")),
    )


def test_numbers_of_numpy_and_text_of_every_alphabet(tmp_path):
    rule = hebbcore.SWTA(np.float32(0.1))
    net = hebbcore.Network([hebbcore.Conv(np.int64(2), 3, rule, name="größe")], IMAGES[1:])
    hebbcore.fit(net, images(), epochs=np.int64(2), learning_rate=np.float32(0.1), keep=np.int8(2), run=tmp_path / "ü")
    back = hebbcore.load(tmp_path / "ü")
    assert back["größe"].rule == rule
    again = hebbcore.Network([hebbcore.Conv(2, 3, rule, name="größe")], IMAGES[1:])
    hebbcore.fit(again, images(), epochs=2, learning_rate=float(np.float32(0.1)), keep=2, run=tmp_path / "ü")
    assert_same(arrays(again), arrays(net))


def test_a_file_holds_numbers_only_and_no_pickle(saved):
    kinds = []
    with h5py.File(saved[1], "r") as file:
        file.visititems(lambda name, item: kinds.append(item.dtype.kind) if isinstance(item, h5py.Dataset) else None)
        assert not file.attrs  # they could hold more
        assert json.loads(file["header"][...].tobytes())["kind"] == "network"
    assert set(kinds) == {"u", "f"}


def test_only_built_networks_and_layers_can_be_saved(tmp_path):
    with pytest.raises(TypeError, match=r"save: model must be a Network or a HebbianLayer, got Conv"):
        hebbcore.save(tmp_path / "x", hebbcore.Conv(2, 2))
    with pytest.raises(ValueError, match="save: the network has no weights yet"):
        hebbcore.save(tmp_path / "x", hebbcore.Network(layers()))
    with pytest.raises(FileNotFoundError, match=r"cannot write: No such file or directory: '[^']*missing/x'$"):
        hebbcore.save(tmp_path / "missing" / "x", network())
    assert not list(tmp_path.iterdir())


# Rules and layers of one's own


def test_a_rule_without_a_name_is_refused_before_any_work(tmp_path, monkeypatch):
    def made():
        return hebbcore.Network([hebbcore.Conv(2, 3, Mine(0.5))], IMAGES[1:], device="cpu")

    net = made()
    with pytest.raises(ValueError, match=r'fit: Mine has no name.*hebbcore\.RULES\["myname"\] = Mine'):
        hebbcore.fit(net, images(), run=tmp_path / "run")
    with pytest.raises(ValueError, match="save: Mine has no name"):
        hebbcore.save(tmp_path / "net.h5", net)
    with pytest.raises(ValueError, match="save: Mine has no name"):
        hebbcore.save(tmp_path / "layer.h5", net["conv1"].as_layer())
    assert_same(arrays(net), arrays(made()))
    with monkeypatch.context() as patch:
        patch.setitem(hebbcore.RULES, "mine", Mine)
        hebbcore.fit(net, images(), run=tmp_path / "run")
        assert hebbcore.load(tmp_path / "run", device="cpu")["conv1"].rule == Mine(0.5)
    with pytest.raises(
        ValueError, match=r"load: \S+ needs the rule 'mine', which no imported module has registered; import"
    ):
        hebbcore.load(tmp_path / "run")
    hebbcore.fit(made(), images())  # nothing is written, so it needs no name


# Earlier versions


def test_a_file_of_an_earlier_version(saved, tmp_path):
    header, expected = checkpoint.read("load", saved[1])
    path = tmp_path / "old.h5"
    with h5py.File(path, "w", userblock_size=hdf5.BLOCK) as file:
        file["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
        for key, array in expected.items():
            file[f"arrays/{key}"] = array
    with path.open("r+b") as raw:
        raw.seek(hdf5.BLOCK)
        digest = hashlib.blake2b(raw.read(), digest_size=16).hexdigest()
        raw.seek(0)
        raw.write(f"hebbcore checkpoint 1 {digest}\n".encode().ljust(hdf5.BLOCK))
    assert_same(arrays(hebbcore.load(path, device="cpu")), expected)


def test_the_digest_of_a_network_is_that_of_the_first_version():
    layers = [layer for layer in every_layer() if not isinstance(layer, hebbcore.Relu)]  # which came later
    net = hebbcore.Network(layers, IMAGES[1:], seed=7, device="cpu")
    for array in checkpoint.arrays_of(net).values():
        array[...] = 0
    assert checkpoint.digest_of(net) == "7a57ce62a7d1a6bdd924d75562395237"


def test_parameters_that_came_later_count_where_they_are_used(monkeypatch, tmp_path):
    def made(**options):
        return hebbcore.Network([hebbcore.Dense(3, hebbcore.SWTA(0.2), **options)], (4,), device="cpu")

    before, with_linear = checkpoint.digest_of(made()), checkpoint.digest_of(made(linear=True))
    monkeypatch.setattr(checkpoint, "_FIRST_FIELDS", checkpoint._FIRST_FIELDS - {"linear", "learning_rate"})
    assert checkpoint.digest_of(made()) != before  # left out, as if they were not there
    assert checkpoint.digest_of(made(linear=True)) not in (with_linear, checkpoint.digest_of(made()))


# Damage


def damaged_read(path):
    """Return the header and arrays, or None if the damage was noticed; anything else is a failure."""
    try:
        return checkpoint.read("load", path)
    except ValueError as error:
        if str(path) not in str(error):
            raise
        return None


def test_a_file_cut_off_anywhere_is_noticed(saved, tmp_path):
    content = saved[1].read_bytes()
    path = tmp_path / "cut.h5"
    generator = np.random.default_rng(0)
    for length in [0, 1, 8, 511, 512, len(content) - 1, *generator.integers(0, len(content), 60)]:
        path.write_bytes(content[:length])
        assert damaged_read(path) is None
    path.write_bytes(content + b"more")
    assert damaged_read(path) is None


def test_a_changed_byte_is_noticed_wherever_it_is(saved, tmp_path):
    content = saved[1].read_bytes()
    path, generator = tmp_path / "flipped.h5", np.random.default_rng(1)
    for place in [*range(600), *generator.integers(0, len(content), 1000).tolist()]:
        changed = bytearray(content)
        changed[place] ^= int(generator.integers(1, 256))
        path.write_bytes(changed)
        assert damaged_read(path) is None
    path.write_bytes(content)
    assert_same(damaged_read(path)[1], arrays(saved[0]))


@pytest.mark.parametrize("change", [lambda file: file["arrays"].pop("conv1"), lambda file: file.attrs.update({"a": 1})])
def test_a_file_changed_by_others_is_refused(saved, change):
    with h5py.File(saved[1], "r+") as file:
        change(file)
    with pytest.raises(ValueError, match=r"load: .*net\.h5 is damaged: its contents do not match its digest"):
        hebbcore.load(saved[1])


def test_other_files_are_refused(saved, tmp_path):
    for name, content in (("empty", b""), ("text", b"hello"), ("json", b"{}")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"load: .*{name} is damaged or no checkpoint of hebbcore"):
            hebbcore.load(tmp_path / name)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["header"] = np.arange(3)
    with pytest.raises(ValueError, match=r"other\.h5 is damaged or no checkpoint of hebbcore"):
        hebbcore.load(tmp_path / "other.h5")
    saved[1].write_bytes(saved[1].read_bytes().replace(b"checkpoint 1 ", b"checkpoint 2 ", 1))
    with pytest.raises(ValueError, match="has version 2 of the format; this hebbcore reads 1"):
        hebbcore.load(saved[1])
    with pytest.raises(FileNotFoundError, match=r"load: .*missing does not exist"):
        hebbcore.load(tmp_path / "missing")
    with pytest.raises(FileNotFoundError, match="holds no checkpoint; train into it first"):
        hebbcore.load(tmp_path)


def test_a_failed_write_leaves_the_old_file_and_no_other(saved, monkeypatch):
    net, path = saved
    before = path.read_bytes()
    for name in ("os.fsync", "os.replace"):
        with monkeypatch.context() as patch:
            patch.setattr(name, lambda *arguments: (_ for _ in ()).throw(OSError(28, "No space left on device")))
            with pytest.raises(OSError, match=r"cannot write: No space left on device.*net\.h5"):
                hebbcore.save(path, net)
        assert path.read_bytes() == before
        assert [file.name for file in path.parent.iterdir()] == ["net.h5"]

    def interrupted(temporary):
        temporary.write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, interrupted)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["net.h5"]


def test_a_file_that_another_process_saves_meanwhile_is_not_called_damaged(tmp_path, monkeypatch):
    path, later, seal_of = tmp_path / "net.h5", tmp_path / "later.h5", hdf5.seal_of
    for units, file in ((3, path), (4, later)):
        hebbcore.save(file, hebbcore.Network([hebbcore.Dense(units)], (2, 2, 3), device="cpu"))

    def seal_then_save(*arguments):
        found = seal_of(*arguments)
        if later.exists():
            later.replace(path)
        return found

    monkeypatch.setattr(hdf5, "seal_of", seal_then_save)
    assert hebbcore.load(path, device="cpu").shapes == [(4,)]
