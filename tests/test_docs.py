"""The Python of README.md and of the pages behind it runs as printed, page after page, on little data."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

import loaders

ROOT = Path(__file__).parent.parent


def blocks_of(name):
    """Return the Python blocks of a page."""
    return re.findall(r"^```python\n(.*?)^```", (ROOT / name).read_text("utf-8"), re.MULTILINE | re.DOTALL)


def test_the_blocks_run_in_order(tmp_path, monkeypatch, generator):
    monkeypatch.chdir(tmp_path)
    labels = np.arange(40) % 4
    large = generator.integers(0, 256, (4, 210, 210, 3), np.uint8)
    loaders.write_shards((large, labels[:4]), "shards/train")
    images = generator.integers(0, 256, (40, 32, 32, 3), np.uint8)
    given = {"images": images, "X_train": images, "y_train": labels, "X_test": images[:8], "y_test": labels[:8]}
    for page in ("README.md", "docs/howto/networks.md", "docs/howto/evaluate.md"):
        blocks = blocks_of(page)
        assert blocks
        names = dict(given)  # each page imports what it uses
        for number, block in enumerate(blocks, 1):
            if "import jax" in block and not importlib.util.find_spec("jax"):
                block = re.sub(r"^(import jax|jax\.).*", "", block, flags=re.MULTILINE)
            try:
                exec(compile(block, f"{page}, block {number}", "exec"), names)
            except Exception as error:
                pytest.fail(f"{page}, block {number}: {type(error).__name__}: {error}")
    assert names["features"].shape == (40, 12, 12, 128)
    assert names["pipe"].n_features_in_ == 32 * 32 * 3
