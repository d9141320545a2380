"""Modules of the user's, which give rules and layers of their own a name in RULES and LAYERS."""

import importlib
import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hebbcore.layers import LAYERS
from hebbcore.presets import PRESETS
from hebbcore.rules import RULES


def import_modules(names: Iterable[str]) -> None:
    """Import modules by name, those in the current folder too, or by the path of a .py file.

    Raises ImportError for a module that is not there, fails, or registers nothing; FileNotFoundError for such a path.
    """
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # at the end: a file here must not take the place of an installed module
    for name in names:
        before = _registered()
        if not (_from_file(name) if name.endswith(".py") else _by_name(name)):
            continue
        if _registered() == before:
            raise ImportError(
                f'import: {name} registers nothing; let it say hebbcore.RULES["myrule"] = MyRule, or LAYERS or PRESETS.'
            )


def _registered() -> list[dict[str, Any]]:
    return [dict(kinds) for kinds in (RULES, LAYERS, PRESETS)]


def _by_name(name: str) -> bool:
    """Import a module by its name; False if it had been."""
    if name in sys.modules:
        return False
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise _failed(name, error) from error
        raise ModuleNotFoundError(
            f"import: there is no module {name!r} in {Path.cwd()} or among the installed ones; give a name such as "
            "mymodule, or the path of a .py file."
        ) from None
    except Exception as error:
        raise _failed(name, error) from error
    return True


def _from_file(name: str) -> bool:
    """Import a .py file as the module of its name; False if it had been."""
    path = Path(name).resolve()
    if not path.is_file():
        raise FileNotFoundError(f"import: {name} does not exist; give a .py file, or a module's name.")
    module_name = path.stem
    loaded = sys.modules.get(module_name)
    if loaded is not None and _is(path, getattr(loaded, "__file__", None)):
        return False
    taken = loaded is not None
    if not taken and module_name.isidentifier():
        other = importlib.util.find_spec(module_name)
        taken = other is not None and not _is(path, other.origin)
    if taken:
        raise ImportError(f"import: {name}: there is another module named {module_name!r}; rename the file.")
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses look there
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[module_name]
        raise _failed(name, error) from error
    return True


def _is(path: Path, file: str | None) -> bool:
    return file is not None and Path(file).resolve() == path


def _failed(name: str, error: Exception) -> ImportError:
    return ImportError(f"import: {name} failed with {type(error).__name__}: {error} (--debug shows where)")
