"""Rules with a state: it lies with the layer, follows the whole batch, and goes wherever the weights go."""

import copy
import dataclasses
import pickle
import tracemalloc
from dataclasses import dataclass

import numpy as np
import pytest
import reference
from fit_helpers import arrays, assert_same
from resume_helpers import Stopped, stop_at
from sklearn.base import clone

import hebbcore
from hebbcore import HPCA, ICA, Conv, Dense, HebbianLayer, Network
from hebbcore.bridges.torch import from_module, to_module
from hebbcore.engine import parallel, tuning
from hebbcore.engine.patches import Geometry
from hebbcore.engine.soundness import largest_stable_rate
from hebbcore.estimators import HebbianTransformer

STATEFUL = [HPCA("adaptive_tanh"), ICA(normalized=True), ICA(True, True)]
RULES = pytest.mark.parametrize("rule", STATEFUL, ids=repr)


@pytest.fixture
def images():
    """Return float64 images whose mean and scale change from one to the next."""
    generator = np.random.default_rng(1)
    return generator.normal(size=(24, 6, 5, 2)) * np.linspace(0.3, 1, 24)[:, None, None, None] + 0.4


def network(rule, **options):
    return Network([Conv(6, 3, rule), Dense(4, rule)], (6, 5, 2), seed=2, device="cpu", **options)


def states(net):
    return [dict(layer.state) for layer in net.layers]


def learn(rule, images, **options):
    """Return a layer alone after three steps."""
    return hebbcore.train_layer(
        images, 6, 3, rule=rule, batch_size=8, learning_rate=0.05, precision="float64", device="cpu", **options
    )


@RULES
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("workspace", ["24 KiB", "64 MiB"])
def test_statistics_are_those_of_the_whole_batch_however_it_is_cut(rule, threads, workspace, images, monkeypatch, tune):
    expected = learn(rule, images)
    monkeypatch.setattr(parallel, "threads", lambda: threads)
    tune(thread_patches=16, thread_products=1, split_products=1, cache_patches=12, chunk_bytes=1)
    found = learn(rule, images, workspace=workspace)
    np.testing.assert_allclose(found.weights, expected.weights, rtol=1e-10, atol=1e-12)
    for name, array in expected.state.items():
        np.testing.assert_allclose(found.state[name], array, rtol=1e-12, atol=1e-14)


@RULES
def test_statistics_by_the_kernels_of_cuda_too(rule, backend_module, generator):
    x, weights = generator.normal(size=(3, 4, 4, 2)) + 1, generator.normal(size=(5, 3, 3, 2)) / 4
    net = Network([Conv(5, 3, rule)], (4, 4, 2), precision="float64", device="cpu")
    (layer,) = net.layers
    layer.weights = weights
    out = np.empty((3, 2, 2, 5))
    layer.learn(x, out, 0.1, measure=False)
    (name,) = (key for key, kind in hebbcore.RULES.items() if kind is type(rule))
    params = dataclasses.asdict(rule)
    state = reference.state_after(x, weights, name, **params)
    for key, array in state.items():
        np.testing.assert_allclose(layer.state[key], array, rtol=1e-11)
    patches = reference.patches(x, 3)
    expected = reference.output(patches, weights.reshape(5, -1), name, **params, state=state)
    np.testing.assert_allclose(out.reshape(-1, 5), expected, rtol=1e-10, atol=1e-12)  # by this batch's statistics
    expected = reference.output(patches, layer.weights.reshape(5, -1), name, **params, state=state)
    np.testing.assert_allclose(net.transform(x).reshape(-1, 5), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("rule", [ICA(True), *STATEFUL], ids=repr)
def test_memory_does_not_grow_with_the_batch(rule):
    weights = np.ones((32, 3, 3, 8), np.float32)
    for images in (64, 64, 1024):  # the first run compiles
        tracemalloc.start()
        hebbcore.weight_update(np.ones((images, 12, 12, 8), np.uint8), weights, rule, workspace="2 MiB")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 2 * 2**20 + images * 12 * 12 * 8 + 3 * weights.nbytes + 2**17


@pytest.mark.parametrize("blocked", [False, True])
@pytest.mark.parametrize("block", [2, 64])
@pytest.mark.parametrize("rule", [ICA(), ICA(True), ICA(normalized=True), ICA(True, True)], ids=repr)
def test_both_orders_of_a_pair_agree(rule, block, blocked, backend_module, generator, monkeypatch, tune):
    monkeypatch.setattr("hebbcore.engine.update.blocked_is_cheaper", lambda *sizes: blocked)
    tune(block_units={"cpu": block, "cuda": block}, gram_rows={"cpu": block, "cuda": block})
    x, weights = generator.normal(size=(5, 4, 3, 2)), generator.normal(size=(7, 3, 2, 2)) / 3
    vectors, matrix, before = x.reshape(5, 24), generator.normal(size=(7, 24)) / 5, x.copy()
    params = dataclasses.asdict(rule)
    for data, units in ((x, weights), (vectors, matrix)):
        expected = reference.weight_update(data, units, "ica", **params)
        found = hebbcore.weight_update(data, units, rule)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * np.abs(expected).max())
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("rule", [ICA(), ICA(True)], ids=repr)
@pytest.mark.parametrize("units", [400, 16])
def test_a_pair_keeps_to_the_workspace_whatever_the_order(rule, units, generator):
    x, weights = (generator.normal(size=(rows, 64)).astype(np.float32) for rows in (2000, units))
    for _ in range(2):  # the first run compiles
        tracemalloc.start()
        hebbcore.weight_update(x, weights, rule, workspace="1 MiB")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    gram = 2 * 4 * units**2 if units < 64 else 0  # and its lower triangle; units above 2 N D / (N + D) make none
    scratch = parallel.threads() * min(weights.nbytes, tuning.MEASURED.scratch_bytes)
    assert peak < 2**20 + 2 * weights.nbytes + scratch + gram + 2**17


@RULES
def test_an_output_and_a_change_alone_leave_the_state(rule, images):
    layer = learn(rule, images)
    before = {name: array.copy() for name, array in layer.state.items()}
    first = hebbcore.weight_update(images, layer.weights, rule)
    layer.transform(images)
    np.testing.assert_array_equal(hebbcore.weight_update(images, layer.weights, rule), first)
    assert_same(layer.state, before)


@RULES
@pytest.mark.parametrize("mode", ["together", "layerwise"])
def test_a_stopped_training_goes_on_to_the_same_bits(rule, mode, images, tmp_path):
    options = {"epochs": 2, "batch_size": 8, "mode": mode, "learning_rate": 0.05}
    expected = network(rule)
    hebbcore.fit(expected, images, **options)
    for step in (1, 4, 5):
        run = tmp_path / str(step)
        saving = {"run": run, "checkpoint_minutes": 1e-9, "log_seconds": 0}
        with pytest.raises(Stopped):
            hebbcore.fit(network(rule), images, callback=stop_at(step), **saving, **options)
        found = network(rule)
        hebbcore.fit(found, images, run=run, **options)
        assert_same(arrays(found), arrays(expected))
    assert {key.partition("/")[2] for key in arrays(expected)} == {"weights", "state_mean", "state_variance"}


@RULES
def test_files_copies_and_pickles_hold_the_state(rule, images, tmp_path):
    net = network(rule)
    hebbcore.fit(net, images, batch_size=8, learning_rate=0.05)
    out = net.transform(images)
    hebbcore.save(tmp_path / "net.h5", net)
    twins = [hebbcore.load(tmp_path / "net.h5", device="cpu"), copy.deepcopy(net), pickle.loads(pickle.dumps(net))]
    for twin in twins:
        np.testing.assert_array_equal(twin.transform(images), out)
    after = arrays(hebbcore.fit(net, images, batch_size=8, learning_rate=0.05))
    for twin in twins:
        np.testing.assert_array_equal(twin.transform(images), out)  # its state is its own
        assert_same(arrays(hebbcore.fit(twin, images, batch_size=8, learning_rate=0.05)), after)


@RULES
def test_safetensors_and_modules_hold_the_state(rule, images, tmp_path):
    net = network(rule)
    hebbcore.fit(net, images, batch_size=8, learning_rate=0.05)
    for model in (net, net.layers[0].as_layer()):
        hebbcore.save(tmp_path / "model.safetensors", model)
        twin = hebbcore.load(tmp_path / "model.safetensors", device="cpu")
        np.testing.assert_array_equal(twin.transform(images), model.transform(images))
    pytest.importorskip("torch", reason="needs PyTorch")
    back = from_module(to_module(net), device="cpu")
    for key, array in arrays(net).items():
        np.testing.assert_allclose(arrays(back)[key], array, rtol=1e-6, err_msg=key)  # a module is float32


@RULES
def test_estimators_hold_the_state(rule, images):
    rows = images.reshape(len(images), -1)
    first = HebbianTransformer(5, rule=rule, whiten=False, random_state=0, device="cpu").fit(rows)
    twin = pickle.loads(pickle.dumps(first))
    for estimator in (first, twin):
        estimator.partial_fit(rows[::2])
    np.testing.assert_array_equal(twin.transform(rows), first.transform(rows))
    anew = clone(first).fit(rows).partial_fit(rows[::2])  # from its parameters alone
    np.testing.assert_array_equal(anew.transform(rows), first.transform(rows))


@RULES
def test_a_layer_alone_holds_the_state_too(rule, images, tmp_path):
    layer = learn(rule, images)
    out = layer.transform(images)
    hebbcore.save(tmp_path / "layer.h5", layer)
    again = HebbianLayer(layer.weights, rule, precision="float64", state=layer.state)
    twins = [hebbcore.load(tmp_path / "layer.h5", device="cpu"), pickle.loads(pickle.dumps(layer)), again]
    for twin in [*twins, layer.to_device("cpu")]:
        np.testing.assert_array_equal(twin.transform(images), out)
    net = network(rule)
    alone = net.layers[0].as_layer()
    hebbcore.fit(net, images, batch_size=8, learning_rate=0.05)
    np.testing.assert_array_equal(alone.transform(images), net.transform(images, net.names[0]))  # both are shared


def test_a_file_that_lacks_the_state_is_refused(images, tmp_path):
    net = network(STATEFUL[0])
    net.layers[0].__dict__["_state"] = {}
    hebbcore.save(tmp_path / "net.h5", net)
    with pytest.raises(ValueError, match=r"conv1 lacks its state_mean\."):
        hebbcore.load(tmp_path / "net.h5")


def test_a_rule_that_is_set_begins_with_its_state(images):
    net = network("hpca")
    layer, alone = net.layers[0], net.layers[0].as_layer()
    assert not layer.state
    assert not alone.state
    layer.rule, alone.rule = STATEFUL[0], STATEFUL[0]
    for state in (layer.state, alone.state):
        np.testing.assert_array_equal(state["mean"], np.zeros(6))
        np.testing.assert_array_equal(state["variance"], np.ones(6))
    hebbcore.fit(net, images)
    assert np.abs(layer.state["mean"]).max() > 0
    kept = dict(layer.state)
    layer.rule = STATEFUL[1]
    assert_same(layer.state, kept)  # of the same names
    layer.rule = "swta"
    assert not layer.state
    alone.weights = np.ones((3, 3, 3, 2))
    assert alone.state["mean"].shape == (3,)


@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        ([1.0], TypeError, "must be a dict of arrays, got list"),
        ({"mean": np.zeros(6)}, ValueError, "must hold mean, variance for HPCA, got mean"),
        ({"mean": np.zeros(6), "variance": np.ones(5)}, ValueError, r"variance must be \(6,\), got \(5,\)"),
        ({"mean": np.zeros(6, int), "variance": np.ones(6)}, TypeError, "mean must be floating, got int64"),
        ({"mean": np.full(6, np.nan), "variance": np.ones(6)}, ValueError, "mean must be finite, got NaN or infinity"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(state, error, message):
    with pytest.raises(error, match=f"HebbianLayer: state {message}"):
        HebbianLayer(np.ones((6, 4)), STATEFUL[0], state=state)


@pytest.mark.parametrize("kind", [Conv, Dense])
def test_patches_of_length_1_are_not_for_a_rule_with_a_state(kind):
    sizes = (4, 3) if kind is Conv else (4,)
    with pytest.raises(ValueError, match=f"{kind.__name__}: normalize_patches is not for a rule with a state"):
        kind(*sizes, rule=STATEFUL[0], normalize_patches=True)


@dataclass(frozen=True)
class Habituated(hebbcore.KWTA):
    """A rule of one's own: units compete with what exceeds their running mean."""

    def initial_state(self):
        return {"mean": 0.0}

    def next_state(self, state, scores):
        assert scores.rows == 8 * 12
        return {"mean": 0.5 * state["mean"] + 0.5 * scores.mean}

    def gate(self, scores, norms):
        scores -= self.state["mean"]
        return super().gate(scores, norms)

    def response(self, scores, unit_norms):
        return super().response(scores - self.state["mean"].astype(scores.dtype), unit_norms)


def test_a_state_of_ones_own_goes_with_conscience_and_revival_and_a_sample(images):
    net = Network([Conv(6, 3, Habituated(), conscience=0.05, revival=2)], (6, 5, 2), precision="float64", device="cpu")
    hebbcore.fit(net, images, batch_size=8, learning_rate=0.1)
    layer = net.layers[0]
    out = layer.as_layer().transform(images)
    np.testing.assert_array_equal(out, net.transform(images))
    patches = reference.patches(images, 3)
    flat = layer.weights.reshape(6, -1)
    expected = (patches @ flat.T - layer.state["mean"]) / np.linalg.norm(flat, axis=1)
    np.testing.assert_allclose(out.reshape(-1, 6), np.maximum(expected, 0), atol=1e-12)
    alone = hebbcore.train_layer(images, 6, 3, rule=Habituated(), batch_size=8, conscience=0.05, device="cpu")
    assert alone.state["mean"].any()


@pytest.mark.parametrize("method", ["gate", "adjust", "scale", "rate"])
def test_a_step_that_fails_leaves_state_and_weights(method, images, monkeypatch):
    layer = network(HPCA("adaptive_tanh")).layers[0]
    weights = layer.weights.copy()
    monkeypatch.setattr(HPCA, method, lambda *arguments: {}["on purpose"])
    with pytest.raises(KeyError, match="on purpose"):
        layer.learn(images, None, 0.1, measure=False)
    assert not layer.state["mean"].any()
    np.testing.assert_array_equal(layer.weights, weights)


@dataclass(frozen=True)
class Latest(HPCA):
    def initial_state(self):
        return {"mean": 0.0, "before": 0.0}

    def next_state(self, state, scores):
        return {"mean": scores.mean, "before": state["mean"]}


def test_one_number_of_a_state_may_become_another(images):
    layer = network(Latest()).layers[0]
    layer.learn(images[:8], None, 0.1, measure=False)
    first = layer.state["mean"].copy()
    layer.learn(images[8:16], None, 0.1, measure=False)
    np.testing.assert_array_equal(layer.state["before"], first)
    assert (layer.state["mean"] != first).all()


def test_a_state_that_begins_with_infinity_goes_with_the_layer(images, tmp_path, monkeypatch):
    """A file of such a layer could be written, not read."""

    @dataclass(frozen=True)
    class Least(HPCA):
        def initial_state(self):
            return {"least": np.inf}

        def next_state(self, state, scores):
            return {"least": np.where(np.arange(6) < 3, scores.mean, state["least"])}

    monkeypatch.setitem(hebbcore.RULES, "least", Least)
    layer = learn(Least(), images)
    hebbcore.save(tmp_path / "layer.h5", layer)
    for again in (hebbcore.load(tmp_path / "layer.h5", device="cpu"), layer.to_device("cpu")):
        assert np.isfinite(again.state["least"]).tolist() == [True] * 3 + [False] * 3
        np.testing.assert_array_equal(again.state["least"], layer.state["least"])


def test_a_rule_without_a_next_state_says_so(images):
    class Half(HPCA):
        def initial_state(self):
            return {"count": 0.0}

        next_state = hebbcore.Rule.next_state

    with pytest.raises(NotImplementedError, match=r"Half has a state: it must define next_state"):
        hebbcore.weight_update(images, np.ones((2, 3, 3, 2)), Half())


def test_auto_knows_of_the_fan_in(images):
    g = Geometry.of("test", images.shape, 3, 1, 0, "zeros")
    plain, scaled = (largest_stable_rate(HPCA(scale_by_fan_in=scale), images, g) for scale in (False, True))
    assert scaled == pytest.approx(plain * np.sqrt(18))
    for rule in (HPCA(scale_by_fan_in=True), HPCA("adaptive_tanh")):
        layer = hebbcore.train_layer(images, 6, 3, rule=rule, learning_rate="auto", epochs=30, device="cpu")
        assert np.linalg.norm(layer.weights.reshape(6, -1), axis=1).max() < 2
    with pytest.raises(ValueError, match=r'learning_rate="auto" is for rules that say what is stable'):
        hebbcore.train_layer(images, 6, 3, rule="ica", learning_rate="auto", device="cpu")


def test_ica_makes_weights_as_long_as_faint_patches_ask_for(images):
    faint = (images - images.mean(axis=(0, 1, 2))) * 2e-5  # norms beyond those at which other rules diverge
    layer = hebbcore.train_layer(faint, 3, 3, rule="ica", learning_rate=0.4, epochs=80, batch_size=24, device="cpu")
    assert np.linalg.norm(layer.weights.reshape(3, -1), axis=1).min() > 1e4
    scores = reference.patches(faint, 3) @ layer.weights.reshape(3, -1).T.astype(np.float64)
    np.testing.assert_allclose(np.tanh(scores).T @ scores / len(scores), np.eye(3), atol=0.02)


@dataclass(frozen=True)
class Counting(hebbcore.Rule):
    """A rule whose state has some names."""

    names: tuple[str, ...] = ("steps",)

    def gate(self, scores, norms):
        return hebbcore.Gate(scores, decay=(scores * scores).sum(axis=0))

    def initial_state(self):
        return dict.fromkeys(self.names, 0.0)

    def next_state(self, state, scores):
        return {name: value + 1 for name, value in state.items()}


@pytest.mark.parametrize("names", [(), ("steps", "more"), ("more",)])
def test_a_file_whose_state_has_other_names_than_the_rule_is_refused(names, images, tmp_path, monkeypatch):
    """The state was dropped, and that of a layer alone began anew."""
    monkeypatch.setitem(hebbcore.RULES, "counting", Counting)
    net = hebbcore.fit(Network([Conv(3, 3, Counting())], device="cpu"), images, run=tmp_path / "run")
    hebbcore.save(tmp_path / "network.h5", net)
    hebbcore.save(tmp_path / "layer.h5", learn(Counting(), images))
    monkeypatch.setattr(Counting, "initial_state", lambda self: dict.fromkeys(names, 0.0))
    told = "lacks its state_more|the state steps of the rule, and Counting has "
    for read in (
        lambda: hebbcore.load(tmp_path / "network.h5", device="cpu"),
        lambda: hebbcore.load(tmp_path / "layer.h5", device="cpu"),
        lambda: hebbcore.fit(Network([Conv(3, 3, Counting())], device="cpu"), images, epochs=2, run=tmp_path / "run"),
    ):
        with pytest.raises(ValueError, match=told):
            read()
