"""The sizes of the CPU's caches, read where Linux tells them."""

import pytest

from hebbcore.engine import caches, tuning


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return a folder in the place of Linux's own."""
    monkeypatch.setattr(caches, "_FOLDER", tmp_path)
    caches.sizes.cache_clear()
    yield tmp_path
    caches.sizes.cache_clear()


def describe(folder, index, **texts):
    (folder / f"index{index}").mkdir()
    for name, text in texts.items():
        (folder / f"index{index}" / name).write_text(text + "\n")


def test_caches_for_data_are_read_and_others_are_not(folder):
    describe(folder, 0, level="1", type="Data", size="48K")
    describe(folder, 1, level="1", type="Instruction", size="32K")
    describe(folder, 2, level="2", type="Unified", size="2M")
    describe(folder, 3, level="3", type="Unified", size="33792K")
    assert caches.sizes() == {1: 48 * 2**10, 2: 2**21, 3: 33 * 2**20}


def test_what_a_system_does_not_tell_is_left_out(folder):
    assert caches.sizes() == {}
    caches.sizes.cache_clear()
    describe(folder, 0, level="2", type="Unified")
    describe(folder, 1, level="3", type="Unified", size="much")
    assert caches.sizes() == {}


def test_chunks_have_a_size_on_any_cpu():
    assert 2**21 <= tuning.MEASURED.chunk_bytes <= 2**24
