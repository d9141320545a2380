"""Numbers that stay computable: data too large or small, weights that diverge, rates that are measured."""

import dataclasses
import logging
import tracemalloc

import h5py
import numpy as np
import pytest
from conftest import SHARED
from fit_helpers import arrays, assert_same, images

import hebbcore
from hebbcore import HPCA, KWTA, SWTA, HardWTA, Krotov, SignedWTA, SoftHebb, train_layer
from hebbcore.engine import patches, soundness
from hebbcore.engine.patches import Geometry
from hebbcore.layers import Learner

VECTORS = np.random.default_rng(3).normal(size=(400, 20)).astype(np.float32) * np.linspace(0.5, 2, 20, dtype=np.float32)
ICA_VECTORS = np.random.default_rng(0).normal(size=(4000, 6))
RATES = {"hpca": 0.01, "swta": 0.5, "kwta": 0.5, "signedwta": 0.5, "softhebb": 0.05, "hardwta": 0.05, "krotov": 0.02}


def geometry_of(data, *arguments):
    return Geometry.of("test", data.shape, *arguments)


@pytest.mark.parametrize("mode", ["zeros", "reflect"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
def test_some_rows_of_the_patch_matrix_are_those_of_im2col(generator, mode, dtype):
    data = generator.integers(0, 256, (3, 7, 6, 2), np.uint8).astype(dtype)
    for kernel, stride, padding in ((3, 1, 0), ((2, 3), (2, 1), (1, 2)), ((7, 6), 1, 0), (1, 2, 0)):
        g = geometry_of(data, kernel, stride, padding, mode)
        whole = hebbcore.im2col(data, kernel, stride, padding, mode)
        rows = generator.permutation(len(whole))[:11]
        found = patches.patches_at(data, g, rows, whole.dtype)
        assert found.dtype == whole.dtype
        np.testing.assert_array_equal(found, whole[rows])


def test_the_largest_stable_rate_is_one_over_the_largest_eigenvalue():
    data = VECTORS.astype(np.float64)
    largest = np.linalg.eigvalsh(data.T @ data / len(data))[-1]
    x = data.reshape(-1, 1, 1, 20)
    found = soundness.largest_stable_rate(HPCA(), x, geometry_of(x, 1, 1, 0, "zeros"))
    assert found == pytest.approx(1 / largest, rel=1e-3)
    for scale in (1e-12, 1e11):
        scaled = soundness.largest_stable_rate(HPCA(), x * scale, geometry_of(x, 1, 1, 0, "zeros"))
        assert scaled == pytest.approx(1 / (largest * scale**2), rel=1e-3)
    assert soundness.largest_stable_rate(SWTA(), x, geometry_of(x, 1, 1, 0, "zeros")) is None
    assert soundness.largest_stable_rate(HPCA(), x * 0, geometry_of(x, 1, 1, 0, "zeros")) is None


def test_the_largest_eigenvalue_is_not_that_of_the_longest_patch_alone():
    """Vectors of topics share no features: the longest is orthogonal to what most of them have in common."""
    generator = np.random.default_rng(0)
    data = np.zeros((320, 20))
    data[:, 4:] = generator.random((320, 16))
    data[::32] = 0
    data[::32, :4] = 4 * generator.random((10, 4))
    x = data.reshape(-1, 1, 1, 20)
    largest = np.linalg.eigvalsh(data.T @ data / len(data))[-1]
    found = soundness.largest_stable_rate(HPCA(), x, geometry_of(x, 1, 1, 0, "zeros"))
    assert found == pytest.approx(1 / largest, rel=1e-3)
    layer = train_layer(data, 8, learning_rate="auto", epochs=20, device="cpu")  # it was said to diverge
    assert np.linalg.norm(layer.weights, axis=1).max() < 1.1


def test_the_rate_that_is_called_stable_is_where_stability_ends():
    """Oja's rule in its one unit: below the rate the norm tends to 1, at twice the rate nothing is left of it."""
    x = VECTORS.reshape(-1, 1, 1, 20)
    stable = soundness.largest_stable_rate(HPCA("identity"), x, geometry_of(x, 1, 1, 0, "zeros"))
    options = {"rule": HPCA("identity"), "batch_size": len(VECTORS), "epochs": 300, "device": "cpu"}
    layer = train_layer(VECTORS, 1, learning_rate=0.9 * stable, **options)
    assert np.linalg.norm(layer.weights) == pytest.approx(1, abs=1e-3)
    with pytest.raises(FloatingPointError, match="diverge"):
        train_layer(VECTORS, 1, learning_rate=2.2 * stable, **options)


@pytest.mark.parametrize("activation", ["relu", "identity", "tanh"])
def test_auto_is_half_of_the_largest_stable_rate_on_the_first_batch(activation):
    options = {"rule": HPCA(activation), "shuffle": False, "batch_size": 100, "device": "cpu"}
    first = VECTORS[:100].reshape(-1, 1, 1, 20)
    stable = soundness.largest_stable_rate(HPCA(activation), first, geometry_of(first, 1, 1, 0, "zeros"))
    expected = train_layer(VECTORS, 8, learning_rate=0.5 * stable, **options)
    layer = train_layer(VECTORS, 8, learning_rate="auto", **options)
    np.testing.assert_array_equal(layer.weights, expected.weights)
    for rule in (SWTA(), "kwta"):
        with pytest.raises(ValueError, match='learning_rate="auto" is for rules that say what is stable, such as hpca'):
            train_layer(VECTORS, 8, rule=rule, learning_rate="auto")


def networks():
    layers = [
        hebbcore.Conv(4, 3, HPCA(), learning_rate="auto"), hebbcore.BatchNorm(),
        hebbcore.Conv(3, 2, SWTA(0.1), learning_rate=0.5), hebbcore.Dense(3, "hpca"),
    ]  # fmt: skip
    return hebbcore.Network(layers, (7, 7, 2), precision="float64", device="cpu")


@pytest.mark.parametrize("mode", ["together", "layerwise"])
def test_measured_rates_survive_an_interruption(mode, tmp_path, caplog):
    options = {"learning_rate": "auto", "batch_size": 4, "epochs": 2, "mode": mode}
    with caplog.at_level(logging.INFO, "hebbcore"):
        expected = arrays(hebbcore.fit(networks(), images(), **options))
    said = [record.message for record in caplog.records]
    assert list(dict.fromkeys(text.split(" is ")[0] for text in said)) == [
        f"fit: the learning rate of {name}" for name in ("conv1", "fc3")
    ]

    def stop(record):
        if record["step"] == at:
            raise RuntimeError("stopped")

    for at in (1, 3, 4):
        run = tmp_path / str(at)
        saving = {"run": run, "log_seconds": 0, "checkpoint_minutes": 1e-9}
        with pytest.raises(RuntimeError, match="stopped"):
            hebbcore.fit(networks(), images(), callback=stop, **saving, **options)
        assert_same(arrays(hebbcore.fit(networks(), images(), run=run, **options)), expected)


@pytest.mark.parametrize("mode", ["together", "layerwise"])
def test_auto_follows_inputs_that_layers_before_change(mode, monkeypatch):
    """By the lowest of what is measured before a layer's first step and after 1, 2, 4, 8, … of the training."""
    measured, taken, learn = {}, {}, Learner.begin
    own = soundness.largest_stable_rate

    def noted(self, x, *arguments, rate, **more):
        measured.setdefault(self.name, []).append(0.5 * own(self.rule, self.as_input(x), self.geometry))
        taken.setdefault(self.name, []).append(rate)
        return learn(self, x, *arguments, rate=rate, **more)

    monkeypatch.setattr(Learner, "begin", noted)
    layers = [hebbcore.Dense(6, HPCA("identity"), learning_rate="auto"), hebbcore.Dense(5, HPCA("identity"))]
    net = hebbcore.Network(layers, (20,), precision="float64", device="cpu")
    hebbcore.fit(net, VECTORS, batch_size=20, learning_rate="auto", mode=mode, shuffle=False)
    each = len(VECTORS) // 20
    for i, name in enumerate(("fc1", "fc2")):
        before = i * each if mode == "layerwise" else 0  # steps of the layer before it
        due = [n for n in range(each) if n == 0 or (before + n) & (before + n - 1) == 0]
        expected = [min(measured[name][n] for n in due if n <= step) for step in range(each)]
        np.testing.assert_allclose(taken[name], expected, rtol=1e-12)
        assert len(taken[name]) == each > 8
    if mode == "together":  # the first layer's output grows as it learns
        assert taken["fc2"][-1] < 0.5 * taken["fc2"][0]


def test_auto_is_refused_where_a_rule_does_not_know_it():
    net = hebbcore.Network([hebbcore.Dense(3, "swta", name="first"), hebbcore.Dense(2)], (98,))
    with pytest.raises(ValueError, match=r'learning_rate="auto" is for rules .* give first \(SWTA\)'):
        hebbcore.fit(net, images().reshape(10, -1), learning_rate="auto")


# Divergence


@pytest.mark.parametrize(
    ("rule", "rate"),
    [(HPCA(), 30.0), (HPCA("identity"), 3.0), (SWTA(), 8.0), (KWTA(), 8.0), (SignedWTA(), 8.0),
     (SoftHebb(adaptive_power=1.0), 3.0)],
)  # fmt: skip
def test_weights_that_diverge_are_found_while_they_are_finite(rule, rate):
    options = {"rule": rule, "learning_rate": rate, "batch_size": 4, "epochs": 2, "device": "cpu"}
    with pytest.raises(FloatingPointError, match=r"weights of the layer (diverge|became NaN).* after step \d+; "):
        train_layer(VECTORS, 6, **options)
    with np.errstate(over="ignore", invalid="ignore"):
        unseen = train_layer(VECTORS, 6, check_finite=False, **options)
    assert not np.abs(unseen.weights).max() < 100  # it did


@pytest.mark.parametrize("mode", ["together", "layerwise"])
def test_what_overflows_in_a_step_ends_in_the_error_alone(mode):
    """Without a warning of NumPy's, which would be an error here."""
    for rate in (1e22, 1e38):
        net = hebbcore.Network([hebbcore.Dense(6, HPCA("identity")), hebbcore.Dense(3)], (20,), device="cpu")
        with pytest.raises(FloatingPointError, match=r"weights of fc1 (diverge: a unit's norm is inf|became NaN)"):
            hebbcore.fit(net, VECTORS, learning_rate=rate, mode=mode)
        with pytest.raises(FloatingPointError, match=r"of the layer (diverge: a unit's norm is inf|became NaN)"):
            train_layer(VECTORS, 6, rule="hpca", learning_rate=rate, device="cpu")


@pytest.mark.parametrize("rule", RATES)
def test_what_learns_does_not_diverge(rule):
    rate = RATES[rule]
    for scale in (1e-3, 1, 1e6):
        data = VECTORS * np.float32(scale)
        rate = "auto" if rule == "hpca" else RATES[rule]
        layer = train_layer(data, 12, rule=rule, learning_rate=rate, batch_size=20, epochs=3, device="cpu")
        assert np.isfinite(layer.transform(data)).all()


def test_the_message_names_layer_step_and_a_rate_that_works():
    def net():
        layers = [hebbcore.Dense(6, HPCA("identity"), name="first"), hebbcore.Dense(3, "kwta", learning_rate=0.1)]
        return hebbcore.Network(layers, (20,), device="cpu")

    with pytest.raises(FloatingPointError) as caught:
        hebbcore.fit(net(), VECTORS, learning_rate=5.0, batch_size=50)
    text = str(caught.value)
    assert text.startswith("fit: the weights of first diverge: a unit's norm is ")
    assert "after step " in text
    advised = float(text.split("start from ")[1].split(",")[0])
    trained = hebbcore.fit(net(), VECTORS, learning_rate=advised, batch_size=50, epochs=5)
    assert np.linalg.norm(trained["first"].weights, axis=1).max() < 1.5


@pytest.mark.parametrize("rule", [SoftHebb(p=100), HardWTA(p=100), Krotov(p=200)])
def test_powers_that_float32_does_not_hold_are_told_and_what_helps_does(rule):
    options = {"batch_size": 50, "device": "cpu", "learning_rate": 1e-6}  # no rate helps
    with pytest.raises(FloatingPointError, match=r"powers of the weights, up to \d\.\de\+\d+, which are") as caught:
        train_layer(VECTORS, 6, rule=rule, **options)
    assert str(caught.value).endswith('too large for float32: take precision="float64", or a smaller p.')
    assert "rate" not in str(caught.value)
    for helps in ({"precision": "float64", "rule": rule}, {"rule": dataclasses.replace(rule, p=25)}):
        assert np.isfinite(train_layer(VECTORS, 6, **helps, **options).weights).all()


def test_layer_by_layer_each_layer_is_looked_at_from_its_first_step():
    layers = [hebbcore.Dense(3, "kwta", learning_rate=0.1), hebbcore.Dense(6, HPCA("identity"), learning_rate=1e6)]
    net = hebbcore.Network(layers, (20,), device="cpu")
    steps = -(-len(VECTORS) // 8)
    assert not soundness.is_due(steps + 1)
    with pytest.raises(FloatingPointError, match=f"of fc2 diverge: .* after step {steps + 1}; .* start from "):
        hebbcore.fit(net, VECTORS, mode="layerwise", batch_size=8)


@pytest.mark.parametrize("whose", ["training", "layer"])
def test_who_learns_by_auto_is_not_told_to_take_it(whose):
    larger = [VECTORS[:50], 300 * VECTORS[50:100], 300 * VECTORS[100:150]]
    message = r'its learning rate, [\d.]+, is from "auto": give a lower one in its place; .*start from [\de.-]+$'
    with pytest.raises(FloatingPointError, match=message):
        train_layer(larger, 6, learning_rate="auto", device="cpu")
    own, given = ("auto", {}) if whose == "layer" else (None, {"learning_rate": "auto"})
    net = hebbcore.Network([hebbcore.Dense(6, learning_rate=own)], (20,), device="cpu")
    with pytest.raises(FloatingPointError, match=message[:60]):
        hebbcore.fit(net, VECTORS, epochs=99, rate_factor=9.0, **given)
    mixed = [VECTORS[:50], VECTORS[:50], 3e4 * VECTORS[50:100], VECTORS[100:150]]
    with pytest.raises(FloatingPointError, match="on this batch it is stable, so that others are larger: bring"):
        train_layer(mixed, 6, learning_rate=0.01, device="cpu")


def test_units_that_one_step_threw_off_are_told_of():
    """With relu a step that is too large can leave a unit that answers to no patch any more: finite, and lost."""
    x = np.abs(VECTORS)
    with pytest.warns(UserWarning, match=r"train_layer: \d of 6 units of the layer have norms up.*HPCA holds.*auto"):
        layer = train_layer(x, 6, rule="hpca", learning_rate=0.3, batch_size=100, epochs=3, device="cpu")
    norms = np.linalg.norm(layer.weights, axis=1)
    assert soundness.THROWN_OFF < norms.max() < soundness.UNIT_GROWTH
    assert (layer.transform(x)[:, norms > soundness.THROWN_OFF] == 0).all()
    net = hebbcore.Network([hebbcore.Dense(6)], (20,), device="cpu")
    with pytest.warns(UserWarning, match=r"fit: \d of 6 units of fc1 have norms up to"):
        hebbcore.fit(net, x, learning_rate=0.3, batch_size=100, epochs=3)
    train_layer(x, 6, rule="hpca", learning_rate="auto", batch_size=100, epochs=3, device="cpu")  # without a word
    first = x[:100].reshape(-1, 1, 1, 20)
    auto = 0.5 * soundness.largest_stable_rate(HPCA(), first, geometry_of(first, 1, 1, 0, "zeros"))
    net = hebbcore.Network([hebbcore.Dense(6)], (20,), device="cpu")
    with pytest.warns(UserWarning, match=r'fit: \d of 6 units of fc1 .* Give a lower rate in place of "auto"\.$'):
        hebbcore.fit(net, x, learning_rate="auto", rate_factor=0.3 / auto, batch_size=100, epochs=3)
    for rule in ("kwta", "signedwta"):  # a few steps of a growth that has not come far yet
        with pytest.warns(UserWarning, match="of the layer have norms up to .* times those that .* Lower the learning"):
            train_layer(x, 6, rule=rule, learning_rate=4.0, batch_size=40, initial_weights="patches", device="cpu")


def test_norms_of_hpca_with_tanh_follow_the_patches():
    """A unit settles at E[y x] / E[y²], |y| ≤ 1: as long as the patches are, which is not too long."""
    x = 20 * VECTORS.astype(np.float64)
    options = {"rule": HPCA("tanh"), "batch_size": len(x), "precision": "float64", "device": "cpu"}
    layer = train_layer(x, 1, learning_rate=0.1, epochs=400, **options)  # without a word
    y = np.tanh(x @ layer.weights[0])
    np.testing.assert_allclose(layer.weights[0], y @ x / (y @ y), rtol=1e-6)
    assert np.linalg.norm(layer.weights) > 2 * soundness.THROWN_OFF
    with pytest.raises(FloatingPointError, match="diverge: a unit's norm is"):
        train_layer(x, 1, learning_rate=3.0, epochs=400, **options)


def test_norms_without_a_limit_are_told_of_when_no_number_holds_them():
    rates = {"became NaN or infinite after step": 1.0, "diverge: a unit's norm is beyond all numbers after step": 5.0}
    for text, rate in rates.items():
        with pytest.raises(FloatingPointError, match=f"^train_layer: the weights of the layer {text}"):
            train_layer(3 * ICA_VECTORS, 6, rule="ica", learning_rate=rate, precision="float64", device="cpu")


@pytest.mark.parametrize("mode", ["together", "layerwise"])
def test_no_checkpoint_of_diverging_weights_replaces_a_sound_one(mode, tmp_path):
    net = hebbcore.Network([hebbcore.Dense(4, KWTA(), learning_rate=3.0)], (20,), device="cpu")
    with pytest.raises(FloatingPointError, match="the weights of fc1 diverge"):
        hebbcore.fit(
            net, VECTORS, batch_size=3, epochs=9, mode=mode, run=tmp_path, checkpoint_minutes=1e-9, keep=1,
        )  # fmt: skip
    (last,) = (tmp_path / "checkpoints").glob("*.h5")
    limit = soundness.GROWTH * np.abs(VECTORS).max() * 20**0.5
    assert np.linalg.norm(hebbcore.load(last)["fc1"].weights, axis=1).max() <= limit


@pytest.mark.filterwarnings("ignore:fit. .* won none of the:UserWarning")
@pytest.mark.parametrize(
    ("name", "rule"), [("fasthebb-6", "hpca"), ("fasthebb-6", "swta"), ("fasthebb-6", "kwta"), ("softhebb-cifar", None)]
)
def test_published_presets_learn_real_images_without_being_stopped(name, rule):
    path = SHARED / "data" / "cifar10.h5"
    if not path.exists():
        pytest.skip(f"needs CIFAR-10 as {path}")
    with h5py.File(path) as file:
        data = file["train/images"][:160]
    net = hebbcore.preset(name, rule=rule, preprocess="normalize", device="cpu")
    hebbcore.fit(net, data, batch_size=10 if rule is None else 32, epochs=1)


# Numbers near the limits


@pytest.mark.parametrize("rule", RATES)
@pytest.mark.parametrize("exponent", [-44, -30, -18, -14, -8, 8, 11, 13, 18, 25, 37, 38])
def test_training_that_passes_leaves_features_that_are_numbers(rule, exponent):
    """Float32 holds 1e-45 … 3e38, and squares of 1e19 are too large already."""
    with np.errstate(all="ignore"):
        data = (VECTORS[:60].astype(np.float64) * 10.0**exponent).astype(np.float32)
        data = np.clip(data, -3.4e38, 3.4e38)
    options = {"rule": rule, "learning_rate": RATES[rule], "batch_size": 20, "device": "cpu"}
    if rule == "hpca" and 1 < exponent < 12:
        options["learning_rate"] = "auto"
    net = hebbcore.Network([hebbcore.Dense(5, rule, options["learning_rate"]), hebbcore.BatchNorm()], (20,))
    if exponent in (-14, -8, 8, 11):
        assert np.isfinite(train_layer(data, 5, **options).transform(data)).all()
        assert np.isfinite(hebbcore.fit(net, data).transform(data)).all()
        return
    for train in (lambda: train_layer(data, 5, **options), lambda: hebbcore.fit(net, data)):
        with pytest.raises(ValueError, match=r"data .*[Ss]cale the data"):
            train()


def test_numbers_that_only_float64_holds_are_not_made_infinite():
    data = VECTORS.astype(np.float64) * 1e200
    with pytest.raises(ValueError, match=r"data must be at most 1e\+12 in magnitude"):
        train_layer(data, 4, rule="kwta", precision="float32")
    with pytest.raises(ValueError, match=r"data must be at most 1e\+12 in magnitude"):
        hebbcore.fit(hebbcore.Network([hebbcore.Dense(3)], (20,)), [data[:10], data[10:20]])
    with pytest.raises(ValueError, match=r"weights must be at most 1e\+12"):
        hebbcore.weight_update(VECTORS, np.full((3, 20), 1e30, np.float32), "kwta")


def test_layers_that_make_infinity_of_sound_numbers_are_named():
    net = hebbcore.Network([hebbcore.Dense(6, "kwta", 0.5), hebbcore.Power(40.0), hebbcore.Power(3.0)], (20,))
    with np.errstate(over="ignore"), pytest.raises(FloatingPointError, match="the output of power2 holds NaN or inf"):
        hebbcore.fit(net, VECTORS * 1e3)


def test_the_look_at_the_output_takes_no_memory_for_a_whole_batch():
    data = np.random.default_rng(0).integers(0, 256, (512, 24, 24, 1), np.uint8)  # the output would be 63 MB
    options = {"batch_size": 512, "workspace": "4 MiB", "device": "cpu"}
    train_layer(data[:9], 64, 3, **options)  # compiles
    tracemalloc.start()
    train_layer(data, 64, 3, **options)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 45 * 2**20
