"""What rules learn with a teacher, on the CPU and through CUDA's kernels, against their slow oracles."""

from dataclasses import asdict

import numpy as np
import pytest
import reference
from test_rules import CONVOLUTIONS, assert_close, batch

import hebbcore
from hebbcore import HPCA, ICA, KWTA, SWTA, Supervised
from hebbcore.engine import parallel

TAUGHT = [
    ("hpca", HPCA()), ("hpca", HPCA("tanh")), ("hpca", HPCA("adaptive_tanh")), ("ica", ICA()), ("ica", ICA(True)),
    ("ica", ICA(True, True)), ("swta", SWTA(0.05)), ("swta", SWTA(0.05, "power")), ("kwta", KWTA()),
    ("kwta", KWTA(3)), ("supervised", Supervised()),
]  # fmt: skip
RULES = pytest.mark.parametrize(("name", "rule"), TAUGHT, ids=[repr(rule) for _, rule in TAUGHT])


def masks_of(generator, images, units):
    """Masks of which the first lets nobody learn, and the last everybody; and a unit that never learns."""
    masks = generator.integers(0, 2, (images, units))
    masks[0], masks[-1], masks[: images - 1, -1] = 0, images == 1, 0
    return masks


def test_the_rules_that_take_a_teacher_are_those_of_the_tests():
    assert {name for name, kind in hebbcore.RULES.items() if kind().takes_teacher} == {name for name, _ in TAUGHT}


@RULES
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("shape", "kernel", "options"), CONVOLUTIONS)
def test_convolution(name, rule, shape, kernel, options, dtype, generator):
    images, weights = batch(generator, shape, dtype), batch(generator, (5, *kernel, shape[3]), dtype)
    masks = masks_of(generator, shape[0], 5)
    expected = reference.weight_update(images, weights, name, **options, **asdict(rule), teacher=masks)
    assert_close(hebbcore.weight_update(images, weights, rule, **options, teacher=masks), expected, dtype)


@RULES
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dense_and_convolution_on_both_kernels(name, rule, dtype, backend_module, generator):
    vectors, matrix, masks = batch(generator, (6, 4), dtype), batch(generator, (5, 4), dtype), masks_of(generator, 6, 5)
    expected = reference.weight_update(vectors, matrix, name, **asdict(rule), teacher=masks)
    assert_close(hebbcore.weight_update(vectors, matrix, rule, teacher=masks > 0), expected, dtype)
    images, weights = batch(generator, (3, 3, 3, 2), dtype), batch(generator, (4, 2, 2, 2), dtype)
    masks = masks_of(generator, 3, 4).astype(np.float32)
    expected = reference.weight_update(images, weights, name, padding=(0, 1), **asdict(rule), teacher=masks)
    assert_close(hebbcore.weight_update(images, weights, rule, padding=(0, 1), teacher=masks), expected, dtype)


@RULES
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("size", ["12 kB", "64 MiB"])
def test_chunks_and_threads_cut_the_masks_where_they_cut_the_images(name, rule, size, threads, monkeypatch, generator):
    monkeypatch.setattr(parallel, "threads", lambda: threads)
    images, weights = batch(generator, (7, 9, 8, 2), np.float64), batch(generator, (6, 3, 3, 2), np.float64)
    masks = masks_of(generator, 7, 6)
    expected = reference.weight_update(images, weights, name, **asdict(rule), teacher=masks)
    found = hebbcore.weight_update(images, weights, rule, teacher=masks, workspace=size)
    assert_close(found, expected, np.float64)


@pytest.mark.parametrize(("rows", "units"), [(20, 6), (3, 40)])  # the Gram order of HPCA, and the blocked one
def test_hpca_in_both_orders(rows, units, generator):
    vectors, matrix = batch(generator, (rows, 30), np.float64), batch(generator, (units, 30), np.float64)
    masks = masks_of(generator, rows, units)
    expected = reference.weight_update(vectors, matrix, "hpca", teacher=masks)
    assert_close(hebbcore.weight_update(vectors, matrix, "hpca", teacher=masks), expected, np.float64)


@RULES
def test_a_teacher_of_ones_is_none(name, rule, generator):
    vectors, matrix = batch(generator, (6, 4), np.float64), batch(generator, (5, 4), np.float64)
    found = hebbcore.weight_update(vectors, matrix, rule, teacher=np.ones((6, 5)))
    of_every_class = vectors.mean(axis=0) - matrix
    expected = of_every_class if name == "supervised" else hebbcore.weight_update(vectors, matrix, rule)
    assert_close(found, expected, np.float64)


@RULES
def test_units_that_may_not_learn_do_not_change(name, rule, generator):
    vectors, matrix = batch(generator, (6, 4), np.float32), batch(generator, (5, 4), np.float32)
    masks = np.ones((6, 5))
    masks[:, 1] = 0
    delta = hebbcore.weight_update(vectors, matrix, rule, teacher=masks)
    assert not delta[1].any()
    assert delta.any()


def test_ties_with_units_that_may_not_win_do_not_count(backend_module):
    matrix = np.array([[1.0, 0], [1, 0], [0, 1], [1, 0]])
    masks = [[0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    for k in (1, 2):
        vectors = np.array([[2.0, 1], [2, 1], [2, 1]])
        expected = reference.weight_update(vectors, matrix, "kwta", k=k, teacher=masks)
        np.testing.assert_allclose(hebbcore.weight_update(vectors, matrix, KWTA(k), teacher=masks), expected)


@pytest.mark.parametrize("competition", ["exp", "power"])
def test_a_far_more_similar_unit_that_may_not_learn_does_not_silence_the_others(competition, backend_module):
    vectors, matrix = np.array([[1.0, 0]], np.float32), np.array([[1, 0], [-1, 1e-3], [-1, 0.5]], np.float32)
    rule = SWTA(0.002, competition)
    delta = hebbcore.weight_update(vectors, matrix, rule, teacher=[[0, 1, 1]])
    expected = reference.weight_update(vectors, matrix, "swta", **asdict(rule), teacher=[[0, 1, 1]])
    np.testing.assert_allclose(delta, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("rule", "teacher", "error", "message"),
    [
        ("softhebb", np.ones((2, 3)), ValueError, r"teacher is for rules that define taught_gate \(.*\), and SoftHebb"),
        ("krotov", np.ones((2, 3)), ValueError, "Krotov does not"),
        ("supervised", None, ValueError, "teacher is needed: Supervised learns from labels alone"),
        ("kwta", np.ones((3, 2)), ValueError, r"must be a mask \(images, units\) = \(2, 3\), got shape \(3, 2\)"),
        ("kwta", np.full((2, 3), 2), ValueError, "must hold 0 and 1 alone"),
        ("kwta", np.full((2, 3), np.nan), ValueError, "must hold 0 and 1 alone"),
        ("kwta", np.full((2, 3), 1j), TypeError, "must be an array of numbers"),
    ],
)
def test_what_makes_no_sense_is_refused(rule, teacher, error, message):
    with pytest.raises(error, match=f"weight_update: .*{message}"):
        hebbcore.weight_update(np.ones((2, 4)), np.ones((3, 4)), rule, teacher=teacher)


@pytest.mark.parametrize(("first", "rows", "positions"), [(0, 6, 1), (0, 12, 4), (3, 9, 4), (2, 1, 4), (1, 6, 4)])
def test_the_totals_are_those_of_the_patches(first, rows, positions, generator):
    masks = generator.integers(0, 2, (-(-(first + rows) // positions), 5)).astype(np.uint8)
    of_patches = np.repeat(masks, positions, axis=0)[first : first + rows]
    found = hebbcore.Teacher(masks, first, positions).totals(np.empty((rows, 5), np.float32))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, of_patches.sum(axis=0))


@pytest.mark.parametrize("shape", [(5, 3), (4, 4), (4, 2), (4,)])
def test_a_teacher_is_for_its_units_and_patches(shape):
    teacher = hebbcore.Teacher(np.ones((2, 3), np.uint8), 4, 4)  # the second image's four patches
    assert teacher.mask(np.ones((4, 3))).tolist() == [4, 4, 4]
    with pytest.raises(ValueError, match=r"values must be \(n, 3\), n at most 4, the patches of the masks, got"):
        teacher.mask(np.ones(shape))


def test_a_rule_of_ones_own_can_take_a_teacher(generator):
    class Mean(hebbcore.Rule):
        def taught_gate(self, scores, norms, teacher):
            np.testing.assert_array_equal(teacher.totals(scores), np.repeat(masks, 4, axis=0).sum(axis=0))
            scores[...] = 1
            return hebbcore.Gate(scores, teacher.mask(scores))

    images, weights, masks = generator.normal(size=(3, 3, 3, 2)), np.zeros((5, 2, 2, 2)), masks_of(generator, 3, 5)
    patches = reference.patches(images, 2)
    expected = np.repeat(masks, 4, axis=0).T @ patches / len(patches)
    assert_close(hebbcore.weight_update(images, weights, Mean(), teacher=masks), expected.reshape(5, 2, 2, 2), float)


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint8])
def test_sums_of_whole_numbers_do_not_wrap(dtype, backend_module):
    """Such as those of scores > 0, by which a rule of one's own may decay."""
    teacher = hebbcore.Teacher(np.array([[1, 0], [1, 1]], np.uint8), 0, 100)
    values = np.full((200, 2), 100).astype(dtype)
    sums = teacher.mask(values)
    np.testing.assert_array_equal(sums, values.sum(axis=0, dtype=float))
    np.testing.assert_array_equal(values[:100, 1], 0)


@pytest.mark.parametrize("kind", [hebbcore.HPCA, hebbcore.ICA, hebbcore.SWTA, hebbcore.KWTA])
def test_a_gate_of_ones_own_needs_a_teacher_of_its_own(kind, generator):
    """The teacher's gate of the class that it was derived from was taken in its place."""

    class Still(kind):
        def gate(self, scores, norms):
            return hebbcore.Gate(0 * scores, 0 * scores[0], np.ones_like(scores[0]))

    class Taught(Still):
        def taught_gate(self, scores, norms, teacher):
            return self.gate(scores, norms)

    images, weights, masks = generator.normal(size=(4, 6)), generator.normal(size=(5, 6)), masks_of(generator, 4, 5)
    with pytest.raises(ValueError, match=r"teacher is for rules that define taught_gate \(.*\), and Still does not"):
        hebbcore.weight_update(images, weights, Still(), teacher=masks)
    np.testing.assert_array_equal(hebbcore.weight_update(images, weights, Taught(), teacher=masks), 0)
