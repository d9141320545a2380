"""What rules of one's own answer: other dtypes than the scores', and what is not an answer at all."""

import numpy as np
import pytest

import hebbcore

WORKSPACES = ["16 KiB", "256 MiB"]  # for several chunks, for one


class Mine(hebbcore.Rule):
    """Oja's rule, of which a test replaces something."""

    def gate(self, scores, norms):
        return hebbcore.Gate(scores, decay=(scores * scores).sum(axis=0))


def rule(pairs=False, winners=None, **methods):
    """Return a rule with these methods in the place of Mine's."""
    attributes = {name: lambda self, *given, answer=answer: answer(*given) for name, answer in methods.items()}
    if winners is not None:
        attributes["expected_winners"] = lambda self: winners
    return type("Mine", (Mine,), {**attributes, "pairs": pairs})()


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("workspace", WORKSPACES)
@pytest.mark.parametrize(
    "dtype", [bool, np.int8, np.uint8, np.int64, np.float16, np.float32, np.float64, np.longdouble]
)
@pytest.mark.parametrize("kind", ["gram", "decay", "pair", "winners"])
def test_a_gate_may_be_of_any_real_dtype(kind, dtype, workspace, precision, generator):
    """A product of two arrays of bool is no sum, one of int8 overflows, and minus an unsigned decay is huge."""
    patches, weights = generator.normal(size=(700, 12)), generator.normal(size=(5, 12))
    positive = (patches @ weights.T > 0).astype(float)
    winner = np.eye(5)[(patches @ weights.T).argmax(axis=1)]

    def gate(scores, norms):
        values = (scores > 0).astype(dtype)
        if kind == "gram":
            return hebbcore.Gate(values)
        if kind == "decay":
            return hebbcore.Gate(values, decay=values.sum(axis=0))
        if kind == "pair":
            return hebbcore.Gate(values, pair=hebbcore.Pair(values, values, lower=True))
        who = scores.argmax(axis=1)
        values = np.eye(5)[who].astype(dtype)
        return hebbcore.Gate(values, decay=values.sum(axis=0), winners=who.astype(np.uint16))

    if kind in ("gram", "pair"):
        decay = np.tril(positive.T @ positive)
        wanted = positive.T @ patches - decay @ weights
    else:
        chosen = winner if kind == "winners" else positive
        wanted = chosen.T @ patches - chosen.sum(axis=0)[:, None] * weights
    mine = rule(pairs=kind == "pair", winners=1 if kind == "winners" else None, gate=gate)
    found = hebbcore.weight_update(patches, weights, mine, workspace=workspace, precision=precision)
    assert found.dtype == precision
    np.testing.assert_allclose(found, wanted / 700, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rows", [200, 70_000])  # of one chunk, and of many, whose sum float16 does not hold
@pytest.mark.parametrize("dtype", [np.int16, np.float16, np.longdouble])
def test_sums_may_be_of_any_real_dtype(dtype, rows, generator):
    class Mean(hebbcore.SWTA):
        def gate(self, scores, norms):
            sums = np.full(5, len(scores)).astype(dtype)
            return hebbcore.Gate(np.ones_like(scores), sums, sums)

    patches, weights = generator.normal(size=(rows, 3)), generator.normal(size=(5, 3))
    found = hebbcore.weight_update(patches, weights, Mean(), workspace="16 KiB")
    np.testing.assert_allclose(found, patches.mean(axis=0) - weights, atol=1e-9)


OUTPUTS = {
    "int8": lambda scores, norms: np.sign(scores).astype(np.int8),
    "bool": lambda scores, norms: scores > 0,
    "float64": lambda scores, norms: scores * np.ones(6),
    "other order": lambda scores, norms: np.asfortranarray(scores),
    "reversed": lambda scores, norms: scores[:, ::-1],
    "read-only": lambda scores, norms: np.broadcast_to(scores[:, :1], scores.shape),
}
BEHIND = {
    "in place": lambda: [hebbcore.Triangle(0.5), hebbcore.Pool(2)],
    "pool": lambda: [hebbcore.Pool(2, kind="average")],
    "split": lambda: [hebbcore.Split(), hebbcore.GridPool(2)],
    "gaussian": lambda: [hebbcore.GaussianPool(2)],
}


@pytest.mark.parametrize("behind", BEHIND)
@pytest.mark.parametrize("output", OUTPUTS)
def test_outputs_of_any_dtype_and_order_go_through_the_layers_behind(output, behind, generator):
    """int8 was kept from layer to layer, in memory that was laid out for float32."""
    images, mine = generator.normal(size=(20, 9, 9, 2)), rule(activate=OUTPUTS[output])
    whole = hebbcore.Network([hebbcore.Conv(6, 3, rule=mine), *BEHIND[behind]()], (9, 9, 2), device="cpu")
    alone = hebbcore.Network([hebbcore.Conv(6, 3, rule=mine)], (9, 9, 2), device="cpu")
    alone.layers[0].weights = whole.layers[0].weights
    maps = alone.transform(images)
    assert maps.dtype == np.float32
    rest = hebbcore.Network(BEHIND[behind](), maps.shape[1:], device="cpu")
    np.testing.assert_allclose(whole.transform(images), rest.transform(maps), atol=1e-6)


@pytest.mark.parametrize(
    ("methods", "error", "message"),
    [
        ({"gate": lambda s, n: hebbcore.Gate(s, pair=hebbcore.Pair(s, s, lower=False))}, TypeError, "a pair, so that"),
        ({"gate": lambda s, n: hebbcore.Gate(None, decay=s[0])}, TypeError, "must return values"),
        ({"gate": lambda s, n: hebbcore.Gate(s * 1j)}, TypeError, "values of real numbers, got complex64"),
        ({"gate": lambda s, n: hebbcore.Gate(s.tolist())}, ValueError, r"values of the shape .*, got list"),
        ({"gate": lambda s, n: hebbcore.Gate(s, winners=s)}, ValueError, r"winners of the shape"),
        ({"adjust": lambda delta, weights: 0 * delta}, TypeError, "adjust must change delta in place"),
        ({"rate": lambda weights, rate: None}, ValueError, r"rate must return a number, .* got NoneType"),
        ({"rate": lambda weights, rate: 1j * np.ones((6, 1))}, TypeError, "rate must return .* real numbers, got comp"),
        ({"scale": lambda delta, rows, mass: None}, ValueError, r"scale must return a number, .* got NoneType"),
        ({"projection": lambda weights: weights.tolist()}, ValueError, r"projection must return an array .* got list"),
        ({"activate": lambda scores, norms: None}, ValueError, r"activate must return outputs .* got NoneType"),
        ({"activate": lambda scores, norms: scores * 1j}, TypeError, "activate must return outputs of real numbers"),
        ({"initial_weights": lambda *a: [[0.0] * 9] * 6}, ValueError, "initial_weights must return .* got list"),
        ({"initial_weights": lambda *a: np.full((6, 9), np.nan)}, ValueError, "must return finite numbers, got NaN"),
        ({"initial_weights": lambda *a: np.full((6, 9), 1e99)}, ValueError, r"finite numbers, got 1\.0e\+99, which fl"),
    ],
)
def test_what_is_no_answer_is_told(methods, error, message, generator):
    """A method that forgets its return, or returns what it should change in place, would have no effect."""
    data = generator.random((40, 9))
    for learn in (
        lambda: hebbcore.fit(hebbcore.Network([hebbcore.Dense(6, rule(**methods))], (9,), device="cpu"), data),
        lambda: hebbcore.train_layer(data, 6, rule=rule(**methods), device="cpu").transform(data),
    ):
        with pytest.raises(error, match=rf"^Mine\.\w+ .*{message}|^Mine\.{message}"):
            learn()


@pytest.mark.parametrize("start", ["patches", "k-means++"])
def test_lengths_and_first_weights_of_a_start_must_have_their_shapes(start, generator):
    """(units,) of as many units as numbers of a patch was stretched over the numbers."""
    data = generator.random((40, 9))
    for methods, message in (
        ({"lengths": lambda weights: np.linalg.norm(weights, axis=1)}, r"lengths must return .* \(9, 1\), got \(9,\)"),
        ({"from_patches": lambda patches, lengths: patches[0]}, r"from_patches must return .* \(9, 9\), got \(9,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            hebbcore.train_layer(data, 9, rule=rule(**methods), initial_weights=start, device="cpu")


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (lambda state, scores: None, TypeError, "must return a dict of mean, got NoneType"),
        (lambda state, scores: {}, ValueError, "must return mean, got nothing"),
        (lambda state, scores: {**state, "more": scores.mean}, ValueError, "must return mean, got mean, more"),
        (lambda state, scores: {"mean": 0.5}, ValueError, r"mean of the shape \(6,\), got float"),
        (lambda state, scores: {"mean": scores.mean.mean(keepdims=True)}, ValueError, r"\(6,\), got \(1,\)"),
        (lambda state, scores: {"mean": 1j * scores.mean}, TypeError, "mean of real numbers, got complex128"),
    ],
)
def test_a_state_after_a_batch_has_the_shape_of_that_before(answer, error, message, generator):
    """One number was one for all units in the step, and an array in the next."""
    mine = rule(initial_state=lambda: {"mean": 0.0}, next_state=answer)
    with pytest.raises(error, match=rf"^Mine\.next_state must return .*{message}|{message}"):
        hebbcore.train_layer(generator.random((40, 9)), 6, rule=mine, device="cpu")


def test_a_gate_sees_a_state_of_float64_arrays(generator):
    seen = []

    class Mean(Mine):
        def initial_state(self):
            return {"mean": 0}

        def next_state(self, state, scores):
            return {"mean": np.ones(6, np.int32)}

        def gate(self, scores, norms):
            seen.append(self.state["mean"])
            return super().gate(scores, norms)

    hebbcore.train_layer(generator.random((40, 9)), 6, rule=Mean(), batch_size=20, device="cpu")
    assert {(array.shape, array.dtype.name) for array in seen} == {((6,), "float64")}


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (None, TypeError, "must return a dict of numbers by name, got NoneType"),
        (["mean"], TypeError, "must return a dict of numbers by name, got list"),
        ({"mean": None}, TypeError, "must return numbers by name, one for all units, got 'mean': None"),
        ({"mean": 1j}, TypeError, "must return numbers by name, one for all units, got 'mean': 1j"),
        ({"mean": np.zeros(6)}, TypeError, "must return numbers by name, one for all units, got 'mean': array"),
        ({0: 0.0}, TypeError, "must return numbers by name, one for all units, got 0: 0.0"),
    ],
)
def test_a_state_begins_with_numbers_by_name(answer, error, message, generator):
    """None was NaN, and of complex numbers a half was left."""
    mine = rule(initial_state=lambda: answer, next_state=lambda state, scores: dict(state))
    data = generator.random((40, 9))
    for learn in (
        lambda: hebbcore.fit(hebbcore.Network([hebbcore.Dense(6, mine)], (9,), device="cpu"), data),
        lambda: hebbcore.train_layer(data, 6, rule=mine, device="cpu"),
    ):
        with pytest.raises(error, match=rf"Mine\.initial_state {message}"):
            learn()


@pytest.mark.parametrize(
    ("method", "value"),
    [(method, value) for method in ("winners_in_turn", "winners_at_once") for value in (0, -1, 1.5, None, "2")]
    + [("winners_at_once", 7)],
)
def test_at_least_one_unit_wins_and_no_more_than_there_are(method, value, generator):
    mine, data = rule(**{method: lambda: value}), generator.random((40, 9))
    for use in (
        lambda: hebbcore.Dense(6, mine),
        lambda: hebbcore.train_layer(data, 6, rule=mine, device="cpu"),
        lambda: hebbcore.weight_update(data, data[:6], mine),
    ):
        with pytest.raises(
            (ValueError, TypeError), match=rf"Mine\.{method} must return an integer from 1 (on|to the 6 units)"
        ):
            use()


@pytest.mark.parametrize("value", [0, -1.0, np.inf, np.nan, "1", np.ones(1)])
def test_a_stable_rate_is_a_number_above_0(value, generator):
    """At 0 nothing was learned, and below it the weights went the other way."""
    with pytest.raises(
        (ValueError, TypeError), match=r"Mine\.stable_rate must return a finite number above 0, or None"
    ):
        hebbcore.train_layer(
            generator.random((40, 9)), 6, rule=rule(stable_rate=lambda eigenvalue: value), learning_rate="auto"
        )


@pytest.mark.parametrize("value", [0, -1.0, np.inf, np.nan, None, "1", np.ones(1)])
def test_a_divisor_is_a_number_above_0(value, generator):
    """By NaN the weights became NaN, and by infinity nothing was learned; both rates were blamed."""
    mine, data = rule(divisor=lambda size: value, stable_rate=lambda eigenvalue: 1.0), generator.random((40, 9))
    for learn in (
        lambda: hebbcore.weight_update(data, data[:6], mine),
        lambda: hebbcore.train_layer(data, 6, rule=mine, learning_rate="auto", device="cpu"),
    ):
        with pytest.raises((ValueError, TypeError), match=r"Mine\.divisor must return a finite number above 0, got"):
            learn()


def spoilt(array):
    array = array.astype(float)
    array[-1] = np.inf
    return array


def learned(mine, **options):
    """Return functions that train units by a rule, in four steps."""
    data = np.random.default_rng(0).random((40, 9)).astype(np.float32)
    net = hebbcore.Network([hebbcore.Dense(6, mine, **options)], (9,), device="cpu")
    return (
        lambda: hebbcore.fit(net, data, batch_size=10),
        lambda: hebbcore.train_layer(data, 6, rule=mine, batch_size=10, device="cpu", **options),
    )


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ({"scale": lambda delta, rows, mass: np.nan}, "scale must return finite numbers"),
        ({"scale": lambda delta, rows, mass: spoilt(np.ones((6, 1)))}, "scale must return finite numbers"),
        ({"rate": lambda weights, rate: np.float32("inf")}, "rate must return finite numbers"),
        ({"gate": lambda s, n: hebbcore.Gate(spoilt(s), decay=s[0])}, "gate must return finite values"),
        ({"gate": lambda s, n: hebbcore.Gate(s, decay=spoilt(s[0]))}, "gate must return finite decay"),
        ({"gate": lambda s, n: hebbcore.Gate(s, decay=s[0], mass=spoilt(s[0]))}, "gate must return finite mass"),
        ({"lengths": lambda weights: spoilt(weights[:, :1])}, "lengths must return finite numbers"),
        ({"from_patches": lambda patches, lengths: spoilt(patches)}, "from_patches must return finite numbers"),
    ],
)
def test_nan_and_infinity_are_told_of_the_method_that_made_them(methods, message):
    """The learning rate was blamed."""
    start = {"initial_weights": "patches"} if message.startswith(("lengths", "from")) else {}
    for learn in learned(rule(**methods), **start):
        with pytest.raises(ValueError, match=rf"^Mine\.{message}, got NaN or infinity"):
            learn()


@pytest.mark.parametrize("method", ["adjust", "projection", "activate", "response", "gate"])
def test_methods_that_may_have_made_nan_are_named_beside_the_rate(method):
    steps = []
    methods = {
        "adjust": lambda delta, weights: delta.fill(np.nan),
        "gate": lambda s, n: hebbcore.Gate(s * (np.nan if len(steps) > 1 else 1), decay=s[0] * (steps.append(1) or 1)),
    }
    made = methods.get(method, lambda array, *rest: array * np.nan)
    for learn in learned(rule(**{method: made})):
        steps.clear()
        with pytest.raises(
            FloatingPointError, match=rf"or mend .*Mine\.{method} if NaN or infinity comes from there\."
        ):
            learn()


def test_a_rule_that_is_given_nan_is_not_to_blame():
    data, nothing = np.full((40, 9), np.nan), {"check_finite": False, "device": "cpu"}
    mine = rule(scale=lambda delta, rows, mass: 1 / np.abs(delta).max())
    assert np.isnan(hebbcore.train_layer(data, 6, rule=mine, **nothing).weights).all()


def doubled(weights, *rest):
    weights *= 2
    return weights if not rest else rest[-1]


@pytest.mark.parametrize(
    "methods",
    [
        {"projection": doubled},
        {"rate": doubled},
        {"lengths": lambda weights: np.sqrt(np.square(weights, out=weights).sum(axis=1, keepdims=True))},
        {"adjust": lambda delta, weights: None if doubled(weights) is weights else 0},
    ],
)
def test_methods_that_write_into_the_weights_are_refused(methods, generator):
    """Weights changed with each output, and with each look at who wins."""
    mine, data = rule(**methods), generator.random((40, 9))
    weights = data[:6].copy()
    for use in (
        lambda: hebbcore.Network([hebbcore.Dense(6, mine)], (9,), device="cpu"),
        lambda: hebbcore.train_layer(data, 6, rule=mine, device="cpu"),
        lambda: hebbcore.weight_update(data, weights, mine),
        lambda: hebbcore.HebbianLayer(weights, mine),
    ):
        with pytest.raises(ValueError, match=rf"Mine\.{next(iter(methods))} must not write into the weights"):
            use()
    np.testing.assert_array_equal(weights, data[:6])


@pytest.mark.parametrize(
    "methods",
    [
        {"projection": doubled},
        {"initial_state": lambda: {"mean": None}},
        {"projection": lambda weights: weights.no_such_thing},
    ],
)
def test_a_rule_that_is_refused_when_it_is_set_leaves_the_one_before(methods, generator):
    """It was kept: the layer put out what it says, and learned by the one before."""
    data = generator.random((40, 9))
    network = hebbcore.Network([hebbcore.Dense(6, hebbcore.HPCA("adaptive_tanh"))], (9,), device="cpu")
    alone = network["fc1"].as_layer()
    for layer, of in ((network["fc1"], network), (alone, alone)):
        before, out = dict(vars(layer)), of.transform(data)
        with pytest.raises((ValueError, TypeError, AttributeError)):
            layer.rule = rule(**methods)
        assert vars(layer) == before
        np.testing.assert_array_equal(of.transform(data), out)
    hebbcore.fit(network, data)


def test_a_projection_sees_a_matrix(generator):
    """A look at how large its numbers are gave it the weights of a convolution as they are."""
    seen = set()
    mine = rule(projection=lambda weights: seen.add(weights.ndim) or weights)
    images = generator.random((8, 6, 6, 2))
    net = hebbcore.fit(hebbcore.Network([hebbcore.Conv(3, 3, rule=mine)], device="cpu"), images)
    net.transform(images)
    hebbcore.train_layer(images, 3, 3, rule=mine, device="cpu").transform(images)
    assert seen == {2}


WRONG_WINNERS = {
    "no unit": (lambda scores: np.full(len(scores), scores.shape[1]), "must return winners from 0 to 5, .* got 6 to 6"),
    "not the only one": (
        lambda scores: scores.argmin(axis=1),
        "returned the winner [0-5] for a patch, but values that",
    ),
}


@pytest.mark.parametrize("workspace", WORKSPACES)
@pytest.mark.parametrize("expected", [None, 1])
@pytest.mark.parametrize("winners", WRONG_WINNERS)
def test_winners_that_are_not_those_of_the_gate_are_told(winners, expected, workspace, generator):
    """What a unit learned depended on whether patches were multiplied or added up by their winners."""
    named, message = WRONG_WINNERS[winners]

    def gate(scores, norms):
        values = (scores == scores.max(axis=1, keepdims=True)).astype(scores.dtype)
        return hebbcore.Gate(values, decay=values.sum(axis=0), winners=named(scores))

    mine, images = rule(gate=gate, winners=expected), generator.random((40, 9, 9, 2))
    network = hebbcore.Network([hebbcore.Conv(6, 3, rule=mine)], (9, 9, 2), device="cpu", workspace=workspace)
    for learn in (
        lambda: hebbcore.train_layer(images, 6, 3, rule=mine, workspace=workspace, device="cpu"),
        lambda: hebbcore.fit(network, images),
        lambda: hebbcore.fit(network, images),  # the network of before is refused as well
        lambda: hebbcore.weight_update(images, generator.random((6, 3, 3, 2)), mine, workspace=workspace),
    ):
        with pytest.raises(ValueError, match=rf"Mine\.gate {message}"):
            learn()
