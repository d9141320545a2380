"""Rules and layers of a user's own on the command line: --import, imports = […], and files that need them."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from cli_helpers import CONV, config_text

import hebbcore
from hebbcore.runs import imports

pytest_plugins = "cli_helpers"

MODULE = """
from dataclasses import dataclass

import hebbcore


@dataclass(frozen=True)
class Oja(hebbcore.Rule):
    factor: float = 1.0

    def gate(self, scores, norms):
        return hebbcore.Gate(self.factor * scores, decay=self.factor * (scores * scores).sum(axis=0))


@dataclass(eq=False)
class Double(hebbcore.Layer):
    in_place = True
    name: str = ""

    def forward(self, x, out, training):
        out *= 2


hebbcore.RULES["oja"] = Oja
hebbcore.LAYERS["double"] = Double
"""
CONFIG = config_text({**CONV, "units": 4, "rule": {"name": "oja", "factor": 0.5}}, {"type": "double"})


@pytest.fixture
def place(images, monkeypatch):
    """A working folder with images, a module and a configuration that needs it; it is forgotten at the end."""
    Path("mine_for_tests.py").write_text(MODULE)
    Path("run.toml").write_text(CONFIG)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for kinds in (hebbcore.RULES, hebbcore.LAYERS, hebbcore.PRESETS):
        for key in ("oja", "double"):
            monkeypatch.setitem(kinds, key, None)
            monkeypatch.delitem(kinds, key)
    before = set(sys.modules)
    yield images
    for name in set(sys.modules) - before:
        if str(images) in str(getattr(sys.modules[name], "__file__", None)):
            del sys.modules[name]


def forget():
    """Forget the module, as another process has it."""
    sys.modules.pop("mine_for_tests", None)
    hebbcore.RULES.pop("oja", None)
    hebbcore.LAYERS.pop("double", None)


@pytest.mark.parametrize(
    ("how", "module"),
    [
        ("--import mine_for_tests", "mine_for_tests"),
        ("--import ./mine_for_tests.py", "./mine_for_tests.py"),
        ("--set imports=['mine_for_tests']", "mine_for_tests"),
    ],
)
def test_a_run_with_a_rule_and_a_layer_of_ones_own(place, call, fails, how, module):
    message = fails("train run.toml --out a")
    assert message == (
        f"config: network.layers[0].rule.name is 'oja', which is unknown. Known: {', '.join(hebbcore.RULES)}. "
        "(One of your own is known once its module is imported: --import MODULE.)"
    )
    call(f"train run.toml --out a {how}")
    assert json.loads(Path("a/config.json").read_text())["imports"] == [module]
    forget()
    for line in ("extract a images.h5 f.h5", "plot a", "evaluate a --train images.h5 --test images.h5 --out e"):
        message = fails(line)
        assert re.fullmatch(
            r"load: a/checkpoints/step-\d+.h5 needs the rule 'oja' and the layer 'double', which no imported module "
            r"has registered; import theirs first \(on the command line: --import MODULE\)\. Its run was trained with "
            + re.escape(f"imports = {[module]!r}."),
            message,
        )
        assert "mine_for_tests" not in sys.modules  # a file must not say what is run
    call("extract a images.h5 f.h5 --import mine_for_tests")
    call("plot a --import mine_for_tests")
    with h5py.File("f.h5") as f, h5py.File("images.h5") as data:
        network = hebbcore.load("a", device="cpu")
        np.testing.assert_array_equal(f["features"], network.transform(data["test/images"][...]))
        np.testing.assert_array_equal(f["features"], 2 * network.transform(data["test/images"][...], "conv1"))
    forget()
    before = Path("a/config.json").read_bytes()
    call("train a/config.json --out a")  # its own configuration
    assert Path("a/config.json").read_bytes() == before
    forget()
    call("train run.toml --import ./mine_for_tests.py --out a")


def test_evaluate_with_a_rule_of_ones_own(place, call):
    call("train run.toml --out a --import mine_for_tests")
    forget()
    call(
        "evaluate a --train images.h5 --test images.h5 --out e --labels 100 --baselines none --queries 0 --import "
        "mine_for_tests"
    )


def test_a_process_finds_modules_in_its_folder(place):
    """The script of an installation has no such folder on sys.path, which python -m hebbcore has."""
    code = "import sys; sys.path.remove(''); from hebbcore.cli import main; sys.exit(main(sys.argv[1:]))"
    line = ["train", "run.toml", "--out", "a", "--import", "mine_for_tests"]
    root = str(Path(hebbcore.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", code, *line], env={**os.environ, "PYTHONPATH": root}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_an_installed_module_comes_before_a_file_of_its_name(place):
    Path("colorsys.py").write_text("raise AssertionError")
    sys.modules.pop("colorsys", None)
    with pytest.raises(ImportError, match=r"import: colorsys registers nothing; let it say hebbcore.RULES"):
        imports.import_modules(["colorsys"])
    with pytest.raises(ImportError, match=r"import: ./colorsys.py: there is another module named 'colorsys'; rename"):
        imports.import_modules(["./colorsys.py"])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("gone", None, r"import: there is no module 'gone' in \S+ or among the installed ones; give a name such as"),
        ("gone.py", None, r"import: gone.py does not exist; give a .py file, or a module's name."),
        ("broken_for_tests", "1 / 0", r"import: broken_for_tests failed with ZeroDivisionError: division by zero"),
        (
            "broken_for_tests.py",
            "1 / 0",
            r"import: broken_for_tests.py failed with ZeroDivisionError: division by zero",
        ),
        (
            "broken_for_tests",
            "import gone",
            r"import: broken_for_tests failed with ModuleNotFoundError: No module named",
        ),
        ("broken_for_tests.py", "x = (", r"import: broken_for_tests.py failed with SyntaxError: '\(' was never closed"),
        ("empty_for_tests.py", "", r"import: empty_for_tests.py registers nothing; let it say hebbcore.RULES"),
    ],
)
def test_modules_that_cannot_be_imported(place, fails, name, text, message):
    if text is not None:
        Path(f"{name.removesuffix('.py')}.py").write_text(text)
    assert re.match(message, fails(f"train run.toml --out a --import {name}"))
    assert not Path("a").exists()
    if "failed" in message:
        with pytest.raises(ImportError) as caught:
            imports.import_modules([name])
        assert caught.value.__cause__ is not None


def test_imports_of_a_configuration_must_be_names(place, fails):
    assert (
        fails("train run.toml --out a --set imports=mine") == "config: imports must be a list of modules, got 'mine'."
    )
    assert fails("train run.toml --out a --set imports=[3]") == "config: imports must be text, got 3."


def test_a_preset_of_ones_own(place, call):
    Path("preset_for_tests.py").write_text(
        "import hebbcore\nhebbcore.PRESETS['double'] = lambda: ([hebbcore.Conv(3, 3)], (8, 8, 3))\n"
    )
    out, _ = call("preset --import preset_for_tests")
    assert out.splitlines()[-1].split() == ["double", *"8×8×3", "1", "layers", "that", "learn", "by", "HPCA"]
    out, _ = call("preset double --import preset_for_tests")
    assert 'imports = ["preset_for_tests"]\n' in out


def test_a_layer_alone_with_a_rule_of_ones_own(place):
    imports.import_modules(["mine_for_tests"])
    images = np.random.default_rng(0).random((4, 6, 6, 1), np.float32)
    layer = hebbcore.train_layer(images, units=2, kernel_size=3, rule=hebbcore.RULES["oja"](0.5), device="cpu")
    hebbcore.save("layer.h5", layer)
    forget()
    with pytest.raises(ValueError, match=r"load: layer.h5 needs the rule 'oja', which no .*--import MODULE\)\.$"):
        hebbcore.load("layer.h5")
    imports.import_modules(["mine_for_tests"])
    assert hebbcore.load("layer.h5").rule.factor == 0.5
