"""Dataclasses from and to tables of plain values (TOML, JSON), with errors that name the key's path."""

import dataclasses
import difflib
import functools
import inspect
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from hebbcore import checks
from hebbcore.fields import as_meant, require_kept
from hebbcore.files import parse_json
from hebbcore.layers import LAYERS, Branches, Layer
from hebbcore.rules import RULES, Rule

T = TypeVar("T")

CONFIG = "config.json"  # of a run
_CONFIG = "config"  # what messages call it
OF_ONES_OWN = "(One of your own is known once its module is imported: --import MODULE.)"


def build(kind: type[T], table: Any, path: str, where: str = _CONFIG) -> T:
    """Return kind(**table), a dataclass that checks its own fields. path: of the table, such as "network.layers[2]".

    Raises ValueError or TypeError that name the path of the key: for tables that are none, keys unknown or missing, and
    what the dataclass says of its values. checks.about tells which key that is; of an error that was not made there,
    such as that of a user's own rule, the path of the table is named.
    """
    if not isinstance(table, Mapping):
        raise TypeError(f"{where}: {path or 'it'} must be a table, got {table!r}.")
    fields = {field.name: field for field in dataclasses.fields(kind) if field.init}  # type: ignore[arg-type]
    for key in table:
        if key not in fields:
            raise ValueError(f"{where}: {_join(path, key)} is unknown.{hint(str(key), list(fields))}")
    for name, field in fields.items():
        if field.default is field.default_factory is dataclasses.MISSING and name not in table:
            raise ValueError(f"{where}: {_join(path, name)} is missing.")
    try:
        return kind(**{key: as_meant(kind, fields[key], value, where == _CONFIG) for key, value in table.items()})
    except (TypeError, ValueError) as error:
        argument, problem, text = checks.about(error)
        if problem and argument is not None and argument.partition(".")[0] in fields:
            text = f"{_join(path, argument)} {problem}"
        elif path:
            text = f"{path}: {text}"
        raise checks.again(error, f"{where}: {text}") from None


def _join(path: str, key: Any) -> str:
    return f"{path}.{key}" if path else str(key)


def hint(key: str, known: list[str]) -> str:
    """Return the known name that is nearest to a key, or all of them, as the end of a message."""
    near = difflib.get_close_matches(key, known, n=1)
    return f" Did you mean {near[0]}?" if near else f" Known: {', '.join(known)}."


def _kind(table: Any, key: str, kinds: dict[str, type[T]], path: str, where: str) -> tuple[type[T], dict[str, Any]]:
    """Return the class that table[key] names, and the rest of the table."""
    if not isinstance(table, Mapping):
        raise TypeError(f"{where}: {path} must be a table with {key} = …, got {table!r}.")
    if key not in table:
        raise ValueError(f"{where}: {_join(path, key)} is missing; it is one of {', '.join(kinds)}.")
    name = table[key]
    if not isinstance(name, str) or name not in kinds:
        raise ValueError(
            f"{where}: {_join(path, key)} is {name!r}, which is unknown.{hint(str(name), list(kinds))} {OF_ONES_OWN}"
        )
    if not isinstance(kinds[name], type) or not hasattr(kinds[name], "__dataclass_fields__"):
        problem = f"is {name!r}, which must stand for a dataclass, not for {kinds[name]!r}."
        raise TypeError(f"{where}: {_join(path, key)} {problem}")
    return kinds[name], {k: v for k, v in table.items() if k != key}


def rule_of(table: Any, path: str, where: str = _CONFIG) -> Rule:
    """Return the rule that a name, or a table {name = …, parameters}, describes."""
    kind, rest = _kind({"name": table} if isinstance(table, str) else table, "name", RULES, path, where)
    return build(kind, rest, path, where)


def layer_of(table: Any, path: str, where: str = _CONFIG) -> Layer:
    """Return the layer that a table {type = …, parameters} describes."""
    kind, rest = _kind(table, "type", LAYERS, path, where)
    if "rule" in rest:
        rest["rule"] = rule_of(rest["rule"], _join(path, "rule"), where)
    if kind is Branches and isinstance(rest.get("branches"), list):
        lists = enumerate(rest["branches"])
        rest["branches"] = [layers_of(tables, f"{_join(path, 'branches')}[{i}]", where) for i, tables in lists]
    return build(kind, rest, path, where)


def layers_of(tables: Any, path: str, where: str = _CONFIG) -> list[Layer]:
    """Return the layers that a list of tables describes."""
    if not isinstance(tables, list):
        raise TypeError(f"{where}: {path} must be a list of tables of layers, got {tables!r}.")
    return [layer_of(table, f"{path}[{i}]", where) for i, table in enumerate(tables)]


def kinds_of(tables: Any, path: str, where: str = _CONFIG) -> list[type[Layer]]:
    """Return the class of each layer of a list of tables, in the order of Network.layers; the other keys may be wrong.

    Raises ValueError or TypeError as layers_of does for tables of which none can be told.
    """
    if not isinstance(tables, list):
        raise TypeError(f"{where}: {path} must be a list of tables of layers, got {tables!r}.")
    found: list[type[Layer]] = []
    for i, table in enumerate(tables):
        kind, rest = _kind(table, "type", LAYERS, f"{path}[{i}]", where)
        if kind is Branches:
            inner = _join(f"{path}[{i}]", "branches")
            if not isinstance(rest.get("branches"), list):
                raise TypeError(f"{where}: {inner} must be lists of tables of layers, got {rest.get('branches')!r}.")
            for j, branch in enumerate(rest["branches"]):
                found += kinds_of(branch, f"{inner}[{j}]", where)
        found.append(kind)
    return found


def places_of(tables: list[Any]) -> list[tuple[list[Any], int]]:
    """Return where each layer's table stands, as (list, index), in the order of Network.layers."""
    found = []
    for i, table in enumerate(tables):
        for branch in table.get("branches", ()) if table.get("type") == "branches" else ():
            found += places_of(branch)
        found.append((tables, i))
    return found


def flat(tables: list[Any]) -> list[Any]:
    """Return tables of layers with those inside of branches, in the order of Network.layers."""
    return [there[i] for there, i in places_of(tables)]


def without(key: str, table: Any) -> Any:
    """Return a table or list of tables without a key, in those inside of it too."""
    if isinstance(table, Mapping):
        return {name: without(key, value) for name, value in table.items() if name != key}
    return [without(key, value) for value in table] if isinstance(table, list) else table


def require_known(function: str, header: dict[str, Any], path: Path) -> None:
    """Raise ValueError if a file's layers or rules are none of LAYERS and RULES, with the way to make them known.

    header: of a network or a layer. path: of the file; what its run's configuration says of imports is told and
    not followed.
    """
    if not (unknown := unknown_kinds(header)):
        return
    recorded = _recorded_imports(path)
    raise ValueError(
        f"{function}: {path} needs the {unknown}, which no imported module has registered; import theirs first (on the "
        "command line: --import MODULE)." + (f" Its run was trained with imports = {recorded!r}." if recorded else "")
    )


def unknown_kinds(header: dict[str, Any]) -> str:
    """Return the layers and rules of a file that are none of LAYERS and RULES, in words; "" if there are none.

    header: of a network or a layer.
    """
    unknown = []
    for table in flat(header.get("layers", [header])):
        if "type" in table and table["type"] not in LAYERS:
            unknown.append(f"layer {table['type']!r}")
        elif "rule" in table and table["rule"]["name"] not in RULES:
            unknown.append(f"rule {table['rule']['name']!r}")
    return " and the ".join(dict.fromkeys(unknown))


def _recorded_imports(path: Path) -> list[str]:
    """Return the imports in the configuration of a checkpoint's run; none if it has none that can be read."""
    try:
        table = parse_json((path.parent.parent / CONFIG).read_text("utf-8"))
    except (OSError, ValueError):
        return []
    imports = table.get("imports") if isinstance(table, dict) else None
    return [name for name in imports if isinstance(name, str)] if isinstance(imports, list) else []


def rule_table(function: str, rule: Rule) -> dict[str, Any]:
    """Return the table of a rule. Raises ValueError for rules that RULES does not know, or that have a `name`."""
    name = _known(function, "RULES", RULES, rule)
    values = {field: getattr(rule, field.name) for field in dataclasses.fields(rule) if field.init}
    written = {field.name: value for field, value in values.items() if not _as_before(field, value)}
    require_kept(function, rule, written, written)
    _require_free(function, rule, "name", written)
    return {"name": name, **written}


def layer_table(function: str, layer: Layer) -> dict[str, Any]:
    """Return the table of a layer. Raises ValueError for rules and layers that RULES and LAYERS do not know."""
    kind = _known(function, "LAYERS", LAYERS, layer)
    fields = dataclasses.fields(layer)  # type: ignore[arg-type]
    values = {field: getattr(layer, field.name) for field in fields if field.init}
    written = {field.name: value for field, value in values.items() if not _as_before(field, value)}
    _require_free(function, layer, "type", written)
    plain = {name: _plain(function, value) for name, value in written.items()}
    require_kept(function, layer, written, plain)
    return {"type": kind, **plain}


def _require_free(function: str, thing: Any, key: str, parameters: Iterable[str]) -> None:
    """Raise ValueError if a parameter takes the place of the key by which tables tell what a thing is."""
    if key in parameters:
        raise ValueError(
            f"{function}: {type(thing).__name__} has a parameter {key}, which in tables says what it is; call it "
            "something else."
        )


def _as_before(field: "dataclasses.Field[Any]", value: Any) -> bool:
    """Return True for a later parameter at its default: files of before, and digests of them, do without it too."""
    return bool(field.metadata.get("later")) and value == field.default


def _plain(function: str, value: Any) -> Any:
    if isinstance(value, Rule):
        return rule_table(function, value)
    if isinstance(value, Layer):
        return layer_table(function, value)
    return [_plain(function, each) for each in value] if isinstance(value, tuple) else value


def _known(function: str, name: str, kinds: dict[str, Any], thing: Any) -> str:
    for key, kind in kinds.items():
        if kind is type(thing):
            _require_fields(function, kind)
            return key
    raise ValueError(
        f"{function}: {type(thing).__name__} has no name to be written down by; "
        f'give it one: hebbcore.{name}["myname"] = {type(thing).__name__}.'
    )


def _require_fields(function: str, kind: type) -> None:
    """Raise ValueError if an __init__ of one's own takes what no field holds: files would lose it without a word.

    Raises TypeError for what is no dataclass.
    """
    if not dataclasses.is_dataclass(kind):
        problem = f"{kind.__name__} must be a dataclass to be written down: put @dataclass(eq=False) before it."
        raise TypeError(f"{function}: {problem}")
    if lost := _not_in_fields(kind):
        listed = ", ".join(lost)
        raise ValueError(
            f"{function}: {kind.__name__}.__init__ takes {listed}, but no field of the dataclass is called so, and "
            f"files hold fields alone; leave __init__ out, put @dataclass before the class, and make {listed} a field."
        )


@functools.cache
def _not_in_fields(kind: type) -> list[str]:
    """Return the parameters of a class of layers or rules that are none of its fields."""
    fields = {field.name for field in dataclasses.fields(kind)}
    some = inspect.signature(kind).parameters.values()
    return [
        each.name
        for each in some
        if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD) and each.name not in fields
    ]


class _NotSet:
    """Stands for the value that a table lacks, which counts as None: files of before lack what came later."""

    def __eq__(self, other: object) -> bool:
        return other is None or isinstance(other, _NotSet)

    def __hash__(self) -> int:
        return hash(None)

    def __repr__(self) -> str:
        return "not set"


_NOT_SET = _NotSet()
_MOST_SHOWN = 100  # characters of a table or list in a message


def differences(ours: Any, theirs: Any, path: str = "") -> list[str]:
    """Return "path is ours here and theirs there" for all values in which two tables differ; see compared."""
    return [text for _, text in compared(ours, theirs, path)]


def compared(ours: Any, theirs: Any, path: str = "") -> list[tuple[str, str]]:
    """Return the path of each value in which two tables differ, and a text that says how.

    A key that one of them lacks counts as None, and is "not set" in the text. Of layers of two types nothing else is
    compared, and in lists of tables or lists, one longer than the other, only the first tables that differ.
    """
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        if ours.get("type") != theirs.get("type") and "type" in ours and "type" in theirs:
            ours, theirs = {"type": ours["type"]}, {"type": theirs["type"]}
        keys = [*ours, *(key for key in theirs if key not in ours)]
        values = ((key, ours.get(key, _NOT_SET), theirs.get(key, _NOT_SET)) for key in keys)
        return [found for key, our, their in values for found in compared(our, their, _join(path, key))]
    if isinstance(ours, list) and isinstance(theirs, list):
        pairs = [compared(a, b, f"{path}[{i}]") for i, (a, b) in enumerate(zip(ours, theirs, strict=False))]
        if len(ours) == len(theirs):
            return [found for pair in pairs for found in pair]
        if any(isinstance(part, Mapping | list) for part in ours + theirs):
            longer = (path, f"{path} is {len(ours)} long here and {len(theirs)} there")
            return [longer, *next(filter(None, pairs), [])]
    alike = ours == theirs or (ours != ours and theirs != theirs)  # NaN is not even like itself
    return [] if alike else [(path, f"{path} is {_shown(ours)} here and {_shown(theirs)} there")]


def _shown(value: Any) -> str:
    """Return a value as messages show it: a large table, or a list of such, would fill the terminal."""
    text = repr(value)
    if len(text) <= _MOST_SHOWN or not isinstance(value, Mapping | list):
        return text
    return "a table" if isinstance(value, Mapping) else f"a list of {len(value)}"
