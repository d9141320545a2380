"""The pages say what is so: their Python runs, their commands are commands, and the tutorial prints what it shows."""

import contextlib
import importlib.util
import io
import re
import shlex
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

import hebbcore
import loaders
from hebbcore.cli import _parser, main
from hebbcore.engine.kernels.rows import PROGRAMS

ROOT = Path(__file__).parent.parent
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS]
# Their Python runs in this order in one folder: later pages read files that earlier ones write
WITH_PYTHON = (
    "README", "docs/howto/train", "docs/howto/networks", "docs/howto/evaluate", "docs/howto/few-labels",
    "docs/howto/features", "docs/howto/imagenet", "docs/howto/images", "docs/howto/resume", "docs/howto/gpu",
    "docs/formats/shards", "docs/formats/runs", "docs/formats/features", "docs/extending",
)  # fmt: skip
BLOCK = re.compile(r"^```(\w*)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks_of(page):
    """Return the (language, title, text) of each block of a page."""
    return BLOCK.findall(Path(page).read_text("utf-8"))


def commands_of(text):
    """Return the command lines in a block of a shell, comments cut off."""
    lines = text.replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.strip() and not line.startswith("#")]


def run_blocks(page, names):
    """Run the Python of a page block by block."""
    blocks = [text for language, _, text in blocks_of(page) if language == "python"]
    assert blocks, page
    for number, block in enumerate(blocks, 1):
        if "import jax" in block and not importlib.util.find_spec("jax"):
            block = re.sub(r"^(import jax|jax\.).*", "", block, flags=re.MULTILINE)
        try:
            exec(compile(block, f"{page}, block {number}", "exec"), names)
        except Exception as error:
            pytest.fail(f"{page}, block {number}: {type(error).__name__}: {error}")
    return names


def test_python_runs_in_order(tmp_path, monkeypatch, generator):
    monkeypatch.chdir(tmp_path)
    labels = np.arange(40) % 4
    large = generator.integers(0, 256, (4, 210, 210, 3), np.uint8)
    loaders.write_shards((large, labels[:4]), "shards/train")
    images = generator.integers(0, 256, (40, 32, 32, 3), np.uint8)
    given = {"images": images, "X_train": images, "y_train": labels, "X_test": images[:8], "y_test": labels[:8]}
    given["labels"] = labels
    with patch.dict(hebbcore.RULES), patch.dict(hebbcore.LAYERS), patch.dict(PROGRAMS):  # pages add to them
        found = {page: run_blocks(ROOT / f"{page}.md", {**given, "__name__": "__main__"}) for page in WITH_PYTHON}
    assert found["docs/howto/networks"]["features"].shape == (40, 12, 12, 128)
    assert found["docs/howto/features"]["pipe"].n_features_in_ == 32 * 32 * 3
    assert found["docs/howto/images"]["index"].class_counts == (2, 2)
    assert found["docs/formats/runs"]["weights"].shape == (8, 3, 3, 3)


def test_every_page_with_python_is_run():
    pages = {page for page in PAGES if any(language == "python" for language, *_ in blocks_of(page))}
    assert pages == {ROOT / f"{page}.md" for page in WITH_PYTHON} | {ROOT / "docs/tutorial.md"}


def test_the_tutorial_prints_what_it_shows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    printed = ""
    for language, title, text in blocks_of(ROOT / "docs/tutorial.md"):
        if language == "text":
            assert_alike(printed, text)
        elif language == "sh":
            printed = "".join(printed_by(command) for command in commands_of(text))
        else:
            Path(title).write_text(text)
    assert Path("report/report.html").exists()


def printed_by(command):
    """Run a command of the tutorial, and return what it prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        if command[0] == "hebbcore":
            assert main(command[1:]) == 0, command
        elif command[:3] != ["python", "-m", "pip"]:
            assert command[0] == "python", command
            exec(compile(Path(command[1]).read_text(), command[1], "exec"), {"__name__": "__main__"})
    return out.getvalue()


def assert_alike(printed, shown):
    """Compare text word for word, and figures as far as two machines agree."""
    figure = re.compile(r"\d+\.\d+")
    assert figure.sub("#", printed).split() == figure.sub("#", shown).split()
    figures = np.array([figure.findall(text) for text in (printed, shown)], float)
    assert np.abs(figures[0] - figures[1]).max(initial=0) < 5


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_are_commands(page):
    for language, _, text in blocks_of(page):
        for command in commands_of(text) if language in ("", "sh") else ():
            if command[0] == "hebbcore" and "…" not in command and "COMMAND" not in command:
                arguments = command[1 : command.index(">")] if ">" in command else command[1:]
                if "--help" not in arguments:
                    _parser(arguments[0]).parse_args(arguments)  # argparse exits on what it does not know
            elif command[0] == "python" and command[1].endswith(".py") and "/" in command[1]:
                assert (ROOT / command[1]).exists(), command
