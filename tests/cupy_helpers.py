"""The stand-in for CuPy, in CuPy's place for a test."""

import importlib
import sys
from pathlib import Path

import pytest

from hebbcore.engine import devices

STAND_IN = Path(__file__).parent / "standin"


def _loaded():
    return [name for name in sys.modules if name.partition(".")[0] in ("cupy", "cupyx")]


@pytest.fixture
def cupy(monkeypatch):
    """Put the stand-in in CuPy's place."""
    for name in _loaded():
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(STAND_IN)
    monkeypatch.setattr(devices, "cuda_status", lambda: (True, "a stand-in"))
    yield importlib.import_module("cupy")
    for name in _loaded():
        del sys.modules[name]
