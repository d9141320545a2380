"""Libraries that only a bridge needs, where they are not installed."""

import sys

import pytest

import hebbcore
from hebbcore import checks
from hebbcore.bridges.jax import to_function
from hebbcore.bridges.torch import from_module, to_module


@pytest.mark.parametrize(
    ("bridge", "package"), [(to_module, "torch"), (from_module, "torch"), (to_function, "jax")], ids=lambda value: value
)
def test_what_to_install_is_said(bridge, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    for module in ("hebbcore.bridges.torch_module", "hebbcore.bridges.jax_operations"):
        monkeypatch.delitem(sys.modules, module, raising=False)  # what other tests have imported
    network = hebbcore.Network([hebbcore.Dense(2)], (3,), device="cpu")
    with pytest.raises(ModuleNotFoundError) as caught:
        bridge(network)
    assert str(caught.value) == f"{bridge.__name__} needs the package {package}: pip install {package}."
    assert caught.value.name == package


def test_a_package_that_lacks_one_of_its_own_says_so(tmp_path, monkeypatch):
    (tmp_path / "broken_for_tests.py").write_text("import nothing_of_this_name")
    monkeypatch.syspath_prepend(tmp_path)
    with (
        pytest.raises(ModuleNotFoundError, match="No module named 'nothing_of_this_name'"),
        checks.needing("f", "broken_for_tests", "broken"),
    ):
        import broken_for_tests  # noqa: F401
