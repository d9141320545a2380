"""Tables and columns of pandas, whatever their types, wherever arrays and labels are taken."""

import numpy as np
import pytest
from classify_helpers import blobs

import hebbcore
from hebbcore.classify import FewLabelClassifier
from hebbcore.evaluation import READOUTS, RidgeReadout, make_readout, retrieval_scores

pandas = pytest.importorskip("pandas")
KINDS = ["Float32", "Float64", "Int64", "UInt8", "boolean"]
ARROW = ["float[pyarrow]", "int64[pyarrow]", "bool[pyarrow]"]


@pytest.fixture(scope="module")
def few():
    """Return features (90, 20) in 0…255, true classes and labels of three a class."""
    features, true, y = blobs(90, 3)
    low, high = features.min(), features.max()
    return np.round((features - low) * (255 / (high - low))).astype(np.float32), true, y


def tables(features, kind):
    """Return a table of nullable numbers, and one of NumPy's."""
    if "pyarrow" in kind:
        pytest.importorskip("pyarrow")
    table = pandas.DataFrame(features > 128 if kind.startswith("bool") else features).astype(kind)
    return table, table.astype(table.dtypes.iloc[0].numpy_dtype)


@pytest.mark.parametrize("kind", [*KINDS, *ARROW])
def test_tables_of_any_numbers_are_read_as_those_of_numpy(few, kind):
    features, true, _ = few
    table, plain = tables(features, kind)
    assert retrieval_scores(table, true, table, true) == retrieval_scores(plain, true, plain, true)
    one, other = (RidgeReadout().fit_stream([(rows, true)]) for rows in (table, plain))
    np.testing.assert_array_equal(one.coef_, other.coef_)
    one, other = (RidgeReadout().fit(rows, true) for rows in (table, plain))
    np.testing.assert_allclose(one.coef_, other.coef_, rtol=1e-3, atol=1e-6)
    one, other = (hebbcore.to_device(rows, "cpu") for rows in (table, plain))
    assert one.dtype == other.dtype
    np.testing.assert_array_equal(one, other)


def test_a_layer_learns_from_a_table(few):
    table, plain = tables(few[0], "UInt8")
    layers = [hebbcore.train_layer(rows, units=4, rule="hpca", epochs=1, seed=0) for rows in (table, plain)]
    np.testing.assert_array_equal(layers[0].weights, layers[1].weights)
    table.iloc[3, 5] = table.iloc[4, 5] = pandas.NA
    with pytest.raises(TypeError, match="train_layer: data must be an array of numbers, but 2 are missing; fill them"):
        hebbcore.train_layer(table, units=4, rule="hpca")
    for model in (RidgeReadout(), FewLabelClassifier()):
        with pytest.raises(ValueError, match="X contains NaN"):
            model.fit(table, few[1])


@pytest.mark.parametrize("kind", ["Int64", "boolean", "int64[pyarrow]"])
def test_labels_of_nullable_numbers_keep_their_type(few, kind):
    features, true, _ = few
    if "pyarrow" in kind:
        pytest.importorskip("pyarrow")
    labels = pandas.Series(true > 0 if kind == "boolean" else true).astype(kind)
    wanted = np.bool_ if kind == "boolean" else np.int64
    for model in (RidgeReadout(), FewLabelClassifier()):
        for given in (labels, labels.array, labels.to_frame()[0].to_numpy(wanted)):
            assert model.fit(features, given).classes_.dtype == model.predict(features).dtype == wanted
    assert RidgeReadout().partial_fit(features, labels).classes_.dtype == wanted
    for name in READOUTS:
        assert make_readout(name).fit(features, labels).classes_.dtype == wanted


@pytest.mark.parametrize("kind", ["string", "object", "category", "str"])
def test_missing_labels_are_refused_in_words_where_all_rows_need_one(few, kind):
    features, true, y = few
    labels = pandas.Series(np.array(["ant", "bee", "cat"])[true]).mask(y < 0).astype(kind)
    told = r"labels must be a class for each row, but 81 are missing \(NaN, None or NA\); leave these rows out, or num"
    with pytest.raises(ValueError, match=f"RidgeReadout.fit: {told}"):
        RidgeReadout().fit(features, labels)
    with pytest.raises(ValueError, match=f"RidgeReadout.fit_stream: {told}"):
        RidgeReadout().fit_stream([(features, labels)])
    with pytest.raises(ValueError, match=r"make_readout: y must be a class for each row, but 81 are missing"):
        make_readout("svm").fit(features, labels)
    assert FewLabelClassifier().fit(features, labels).classes_.tolist() == ["ant", "bee", "cat"]


@pytest.mark.parametrize("kind", [str, object, bytes, "pandas"])
def test_an_empty_text_is_no_label(few, kind):
    features, _, y = few
    texts = np.where(y < 0, "", np.array(["ant", "bee", "cat"])[y])
    texts[-1] = " "
    given = pandas.Series(texts, dtype="string") if kind == "pandas" else texts.astype(kind)
    model = FewLabelClassifier().fit(features, given)
    assert len(model.classes_) == 3
    np.testing.assert_array_equal(
        model.predict_proba(features), FewLabelClassifier().fit(features, y).predict_proba(features)
    )
    assert FewLabelClassifier().fit(features, np.full(len(y), "")).suggest(2).shape == (2,)


@pytest.mark.parametrize(("gap", "is_told"), [("nan", True), ("-1", True), ("None", True), ("none", False)])
def test_texts_that_look_like_no_label_are_told_once(few, caplog, gap, is_told):
    features, true, y = few
    names = true.astype(str) if gap == "-1" else np.array(["ant", "bee", "cat"])[true]
    model = FewLabelClassifier().fit(features, np.where(y < 0, gap, names))
    assert len(model.classes_) == 4
    told = f"FewLabelClassifier.fit: y holds the texts {gap!r}, which are classes; where they mean that there is no"
    assert caplog.text.count(told) == is_told
    caplog.clear()
    model.relearn(y)
    assert not caplog.text
