"""RidgeReadout of many rows and features: either form, in memory and in files, agrees with scikit-learn."""

import io
import re
import tracemalloc
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from ridge_helpers import ALPHAS, cut, problem, same_scores, slow_choice
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hebbcore.evaluation import RidgeReadout
from hebbcore.evaluation.ridge import holdout, linear_system, meter, room, tiled
from hebbcore.evaluation.ridge import rows as ridge_rows

pytest_plugins = "ridge_helpers"

FORMS = [(60, 12), (12, 60), (20, 20)]  # rows, features
SMALL = 640  # bytes, in which no matrix of these has room: tiles of 2 × 2 are read and written


@pytest.fixture
def files(monkeypatch):
    """Count the matrices and the rows that go to files."""
    made = []
    real = room.tempfile.TemporaryFile
    monkeypatch.setattr(room.tempfile, "TemporaryFile", lambda **options: made.append(options) or real(**options))
    return made


@pytest.mark.usefixtures("tiny_pieces")
@pytest.mark.parametrize(("rows", "features"), FORMS)
@pytest.mark.parametrize("memory", [SMALL, "4 GiB"])
@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-4), (np.float64, 1e-9)])
def test_both_forms_agree_with_scikit_learn(
    rows, features, memory, standardize, classes, dtype, tolerance, generator, files
):
    x, labels = problem(generator, rows, features, classes, dtype, offset=2)
    x[:, 4], x[:, 5] = 0.1, x[:, 6]  # scikit-learn leaves a constant feature unscaled
    x[3], labels[3] = x[0], labels[0]
    weights = generator.uniform(0.1, 4, rows)
    expected = make_pipeline(StandardScaler() if standardize else "passthrough", RidgeClassifier(2.0))
    for some in (None, weights):
        given = {"ridgeclassifier__sample_weight": some}
        if standardize:
            given["standardscaler__sample_weight"] = some
        with np.errstate(invalid="ignore"):  # the variance of the constant is below 0 by rounding there
            expected.fit(x.astype(np.float64), labels, **given)
        model = RidgeReadout(2.0, standardize=standardize, memory=memory)
        same_scores(model.fit(x, labels, some), expected, x, tolerance)
        assert (len(files) > 0) == (memory == SMALL)
        batches = [(x[i:j], labels[i:j], None if some is None else some[i:j]) for i, j in [(0, 1), (1, 9), (9, rows)]]
        same_scores(model.fit_stream(batches), expected, x, tolerance)


@pytest.mark.usefixtures("tiny_pieces")
@pytest.mark.parametrize(("rows", "features"), FORMS)
def test_the_penalty_is_the_same_wherever_the_matrix_lies(rows, features, generator, files):
    x, labels = problem(generator, 3 * rows, 3 * features, 3, np.float64, noise=0.4)
    options = {"standardize": True, "validation_fraction": 0.3, "random_state": 5}
    here, there = (RidgeReadout(ALPHAS, memory=memory, **options).fit(x, labels) for memory in ("4 GiB", SMALL))
    assert len(files) == (1 if rows >= features else 2)  # sums grow, the other matrix is made anew for all rows
    held = holdout.validation_rows(labels, 0.3, np.random.RandomState(5))
    rest = StandardScaler().fit(x[~held])
    np.testing.assert_allclose(here.validation_scores_, slow_choice(rest.transform(x), labels, held, ALPHAS))
    np.testing.assert_array_equal(here.validation_scores_, there.validation_scores_)
    assert here.alpha_ == there.alpha_
    np.testing.assert_allclose(here.coef_, there.coef_, atol=1e-9)
    np.testing.assert_allclose(here.predict_proba(x), there.predict_proba(x), atol=1e-9)


@pytest.mark.parametrize("class_weight", [None, {"b": 3.0}])
def test_a_wide_stream_is_kept_in_a_file_and_gives_what_its_rows_give(class_weight, generator, files, monkeypatch):
    x, codes = problem(generator, 60, 80, 3, np.float64)
    labels = np.array(["c", "a", "b"])[codes]
    held = np.zeros(60, bool)
    split = holdout.StreamHoldout.split

    def noted(self, features, *rest):
        kept = split(self, features, *rest)
        held[~(x[:, None, 0] == kept[0][:, 0]).any(axis=1) & np.isin(x[:, 0], features[:, 0])] = True
        return kept

    monkeypatch.setattr(holdout.StreamHoldout, "split", noted)
    options = {"standardize": True, "class_weight": class_weight, "validation_fraction": 0.1}
    model = RidgeReadout(ALPHAS, memory=8 * 80 * 80, **options).fit_stream(cut(x, labels, 7, 31))
    assert len(files) == 1  # the rows; the matrix of fewer rows fits
    monkeypatch.setattr(ridge_rows, "validation_rows", lambda *arguments: held)
    expected = RidgeReadout(ALPHAS, **options).fit(x, labels)
    np.testing.assert_allclose(model.validation_scores_, expected.validation_scores_)
    np.testing.assert_allclose(model.coef_, expected.coef_, atol=1e-9)


@pytest.mark.parametrize("ends", [[7], [29, 31], [1, 30, 50]])
def test_more_rows_than_features_are_summed_whatever_a_stream_is_cut_into(ends, generator, files):
    x, labels = problem(generator, 60, 30)
    model = RidgeReadout(ALPHAS, memory=8 * 30 * 30)
    found, whole = (model.fit_stream(cut(x, labels, *some)).coef_ for some in (ends, []))
    np.testing.assert_array_equal(found, whole)
    assert len(files) == 4  # rows, then sums, of each
    np.testing.assert_allclose(found, RidgeReadout(ALPHAS).fit_stream([(x, labels)]).coef_, atol=1e-4)


def test_sums_to_be_added_to_stay_in_memory(generator):
    x, labels = problem(generator, 30, 40)
    with pytest.raises(ValueError, match=r"partial_fit: the sums of 40 features take 12.5 KiB, .* or use fit_stream"):
        RidgeReadout(1.0, memory="12 KiB").partial_fit(x, labels)


# Files of features


@pytest.mark.parametrize("maps", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_features_in_a_file_are_read_in_parts(maps, dtype, generator, tmp_path):
    x, labels = problem(generator, 40, 48, 3, dtype)
    with h5py.File(tmp_path / "f.h5", "w", userblock_size=512) as file:
        file["features"] = x.reshape(40, 4, 3, 4) if maps else x
        file.create_dataset("packed", data=x, compression="gzip")
    mapped = np.memmap(tmp_path / "plain", dtype, "w+", shape=x.shape)
    mapped[...] = x
    expected = RidgeReadout(ALPHAS).fit(x, labels)
    with h5py.File(tmp_path / "f.h5") as file:
        for given in (file["features"], file["packed"], mapped):
            model = RidgeReadout(ALPHAS).fit(given, labels)
            np.testing.assert_array_equal(model.coef_, expected.coef_)
            np.testing.assert_array_equal(model.predict(given), expected.predict(x))
    with pytest.raises(ValueError, match="X has 47 features, but 48 are expected"):
        model.predict(np.memmap(tmp_path / "plain", dtype, "r", shape=(40, 47)))
    mapped[3, 2] = np.nan
    with pytest.raises(ValueError, match=r"features must be finite, but features\[3\] is not"):
        RidgeReadout(ALPHAS).fit(mapped, labels)


def _moved(path, x):
    with h5py.File(path, "w") as file:
        file["features"] = x
    file = h5py.File(path)
    path.rename(path.with_suffix(".old"))
    with h5py.File(path, "w") as other:
        other["features"] = -x
    return file["features"]


def _created(path, x, **options):
    made = h5py.File(path, "w", **options).create_dataset("features", x.shape, x.dtype)
    made[...] = x
    return made


MADE = {
    "just written": _created,
    "in memory": lambda path, x: _created(path, x, driver="core", backing_store=False),
    "in memory, stored when it is closed": lambda path, x: _created(path, x, driver="core"),
    "in an object": lambda path, x: _created(io.BytesIO(), x),
    "another file has its name": _moved,
}


@pytest.mark.parametrize("maps", [False, True])
@pytest.mark.parametrize("made", MADE)
def test_features_in_a_file_are_those_that_h5py_reads(made, maps, generator, tmp_path):
    x, labels = problem(generator, 40, 48, 3, np.float32)
    expected = RidgeReadout(ALPHAS).fit(x, labels)
    features = MADE[made](tmp_path / "f.h5", x.reshape(40, 4, 3, 4) if maps else x)
    with features.file:
        model = RidgeReadout(ALPHAS).fit(features, labels)
        np.testing.assert_array_equal(model.coef_, expected.coef_)
        np.testing.assert_array_equal(model.predict(features), expected.predict(x))


@pytest.mark.parametrize(("rows", "features"), [(700, 1500), (1500, 700)])
@pytest.mark.parametrize("streamed", [False, True])
def test_memory_is_kept(rows, features, streamed, generator, tmp_path):
    x = np.memmap(tmp_path / "x", np.float32, "w+", shape=(rows, features))
    for row in range(rows):
        x[row] = generator.normal(size=features)
    labels, memory = np.arange(rows) % 3, 2_000_000  # the matrix takes 3.9 MB, the features 4.2
    fraction = 0.1 if streamed else None  # held-out rows of a stream may take 32 MiB whatever the memory
    model = RidgeReadout(ALPHAS, standardize=True, memory=memory, validation_fraction=fraction)
    tracemalloc.start()
    if streamed:
        model.fit_stream((x[i : i + 50], labels[i : i + 50]) for i in range(0, rows, 50))
    else:
        model.fit(x, labels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < memory


def test_a_full_disk_says_how_much_is_needed(generator, monkeypatch, tmp_path):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    x, labels = problem(generator, 30, 40)
    monkeypatch.setattr("os.posix_fallocate", full, raising=False)
    with pytest.raises(
        OSError, match=r"a matrix of 30 × 30 takes 7.1 KiB on the disk, because memory=\"1 KiB\""
    ) as error:
        RidgeReadout(1.0, memory="1 KiB", folder=tmp_path).fit(x, labels)
    assert error.value.filename == str(tmp_path)
    assert error.value.errno == 28
    monkeypatch.setattr(room.tempfile, "TemporaryFile", lambda **options: SimpleNamespace(write=full, close=list))
    with pytest.raises(OSError, match=r"30 rows takes 4.7 KiB on the disk, because memory=\"1 KiB\" does not hold it"):
        RidgeReadout(1.0, memory="1 KiB", folder=tmp_path).fit_stream([(x, labels)])


# The factorisation in a file, and what is told of it


@pytest.mark.parametrize("tile", [1, 3, 4, 9])
@pytest.mark.parametrize("subtract", [False, True])
def test_a_matrix_in_a_file_is_solved_and_stays(tile, subtract, generator, tmp_path):
    rows, right = generator.normal(size=(8, 20)), generator.normal(size=(8, 2))
    matrix = np.memmap(tmp_path / "m", np.float64, "w+", shape=(8, 8))
    matrix[...] = np.tril(rows @ rows.T)
    matrix[np.triu_indices(8, 1)] = np.nan
    before, added = np.tril(matrix), generator.random(8)
    minus = 0.1 * generator.normal(size=8) if subtract else None
    whole = rows @ rows.T + np.diag(added) - (np.outer(minus, minus) if subtract else 0)
    columns = generator.normal(size=(8, 3))
    below = np.concatenate([np.zeros((2, 3)), columns[2:]])

    def of_inverse(some):
        return (some * np.linalg.solve(whole, some)).sum(axis=0)

    for _ in range(2):
        counted, some = meter.Meter(None, "solving", None), [(0, columns), (2, columns[2:])]
        found, forms = linear_system.solve_with_forms(matrix, added, right, minus, some, tile, counted)
        np.testing.assert_allclose(found, np.linalg.solve(whole, right))
        np.testing.assert_allclose(forms, np.concatenate([of_inverse(columns), of_inverse(below)]))
        np.testing.assert_array_equal(np.tril(matrix), before)
        assert counted._done == pytest.approx(tiled.operations(8) + 3 * (8**2 + 6**2))
    with pytest.raises(np.linalg.LinAlgError):
        linear_system.solve_with_forms(matrix, -100 * np.ones(8), right, minus, (), tile, counted)
    np.testing.assert_array_equal(np.tril(matrix), before)


def test_a_large_matrix_in_memory_is_solved_by_tiles_and_stays(generator, monkeypatch):
    rows, right = generator.normal(size=(30, 40)), generator.normal(size=(30, 3))
    matrix, added, minus = np.tril(rows @ rows.T), generator.random(30), 0.1 * generator.normal(size=30)
    before, rest = matrix.copy(), (added, right, minus, (), 1024, meter.SILENT)
    expected = linear_system.solve_with_forms(matrix.copy(), *rest)[0]
    monkeypatch.setattr(linear_system, "_WHOLE", 29)
    monkeypatch.setattr(linear_system, "_LARGE_TILE", 7)
    monkeypatch.setattr(linear_system, "_write_whole", None)  # as LAPACK would crash
    np.testing.assert_allclose(linear_system.solve_with_forms(matrix, *rest)[0], expected)
    np.testing.assert_array_equal(np.tril(matrix), before)


class Batches(list):
    """A list that may have attributes."""


def test_long_parts_tell_how_far_they_are(generator, monkeypatch):
    monkeypatch.setattr(meter, "_SECONDS", 0.0)
    lines = []
    for rows, features in FORMS[:2]:
        x, labels = problem(generator, rows, features)
        RidgeReadout(ALPHAS, memory=SMALL, progress=lines.append).fit(x, labels)
    RidgeReadout(ALPHAS, validation_fraction=0.1, progress=lines.append).fit_stream([problem(generator)])
    singly = ("leaving out 60 rows", "leaving out 12 rows")
    for name in ("sums of rows", "products of 12 rows of 60 features", *singly, "solving 12 equations"):
        mine = [line for line in lines if line.startswith(name)]
        assert re.fullmatch(rf"{name}: 100 %, \S+ [kMGT]?(FLOP|rows)/s, 0:00:00 left", mine[-1])
    assert any(re.fullmatch(r"rows of the stream: 120 rows, \S+ k?rows/s", line) for line in lines)


@pytest.mark.parametrize(
    ("images", "told"),
    [(120, "100 %, .*, 0:00:00 left"), (1, "12000 %, .*, 0:00:00 left"), (np.ones(120), "120 rows, .*")],
)
def test_a_stream_may_say_how_many_rows_it_has(images, told, generator, monkeypatch):
    monkeypatch.setattr(meter, "_SECONDS", 0.0)
    monkeypatch.setattr(meter, "time", SimpleNamespace(monotonic=iter(range(0, 10_000, 100)).__next__))
    rows, labels = problem(generator)
    lines, batches = [], Batches([(rows, labels)])
    batches.images = images
    RidgeReadout(1.0, progress=lines.append).fit_stream(batches)
    assert re.fullmatch(f"rows of the stream: {told}", next(line for line in lines if line.startswith("rows")))
