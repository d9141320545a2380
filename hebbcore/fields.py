"""Fields of rules and layers in tables, files and configurations: which values come back as they were."""

import dataclasses
import functools
import json
import re
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from hebbcore.layers import Layer
from hebbcore.ours import is_ours
from hebbcore.rules import Rule

Field = dataclasses.Field[Any]

_TUPLE = re.compile(r"(None\s*\|\s*)?(\w+\.)*(Optional\[\s*)?(\w+\.)*[tT]uple\b")  # in annotations that stay texts
_PLAIN = (type(None), bool, int, float, str, list, tuple, dict)  # what tables hold, and none of their subclasses


def as_meant(kind: type, field: Field, value: Any, in_words: bool) -> Any:
    """Return a value of a table as a field of a dataclass has it, where tables have no word for that: tuples, and None.

    in_words: whether the table is of TOML, in which "none" stands for None.
    """
    if in_words and value == "none" and _optional(field):
        return None
    return _as_tuple(value) if isinstance(value, list) and _is_tuple(kind, field) else value


def _is_tuple(kind: type, field: Field) -> bool:
    """Return True for a field whose lists are tuples, those inside of them too."""
    if isinstance(field.default, tuple):
        return True
    members = _members(kind, field)
    if isinstance(members, str):
        return bool(_TUPLE.match(members))
    return issubclass(next((each for each in members if issubclass(each, list | tuple)), list), tuple)


def _members(kind: type, field: Field) -> str | list[type]:
    """Return the classes that an annotation names side by side; itself if it is a text of what cannot be found."""
    hint = _hints(kind).get(field.name, field.type)
    if isinstance(hint, str):
        return hint
    hint = getattr(hint, "__value__", hint)  # of a type statement
    members = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    origins = (typing.get_origin(member) or member for member in members)
    return [each for each in origins if isinstance(each, type)]


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    """Return the annotations of a dataclass; none if one of them names what cannot be found."""
    try:
        return typing.get_type_hints(kind)
    except Exception:  # an annotation is any expression
        return {}


def _as_tuple(value: Any) -> Any:
    return tuple(map(_as_tuple, value)) if isinstance(value, list) else value


def _optional(field: Field) -> bool:
    """Return True for a field that may be None, which TOML has no word for; to others "none" is a word like any."""
    return field.default is None or "None" in str(field.type) or "Optional[" in str(field.type)


def require_kept(function: str, thing: Any, parameters: Mapping[str, Any], plain: Mapping[str, Any]) -> None:
    """Raise ValueError for what files would make something else of without a word.

    That are keys that are no texts; inside of lists, tuples and dicts the one of list and tuple that does not come
    back; and in classes of one's own members of enumerations, named tuples, layers and the like, of which something
    plain comes back, unless the class makes them of that. A parameter that is a list or tuple itself may come back as
    the other. plain: the parameters as they are written.
    """
    kind, fields = type(thing), {field.name: field for field in dataclasses.fields(thing)}
    for name, value in parameters.items():
        if others := [key for key in _keys_in(value) if not isinstance(key, str)]:
            raise ValueError(
                f"{function}: {kind.__name__}.{name} has the key {others[0]!r}, but keys are texts where "
                "parameters are written down; take texts, or a tuple of pairs in place of the dict."
            )
        back = tuple if _is_tuple(kind, fields[name]) else list
        if turned := list(_turned(value, back if isinstance(value, back | Mapping) else (list, tuple))):
            one, other = ("list", "tuple") if isinstance(turned[0], list) else ("tuple", "list")
            raise ValueError(
                f"{function}: {kind.__name__}.{name} has the {one} {turned[0]!r} inside, of which a {other} "
                f"comes back where parameters are written down; take a {other} there."
            )
        lost = next(_of_subclasses(value, isinstance(thing, Layer) and name != "rule"), None)
        if lost is None or is_ours(kind):
            continue
        meant = [each for each in _PLAIN if each in _members(kind, fields[name]) and isinstance(value, each)]
        if not (meant and lost is value) and not _comes_back(thing, name, value, plain):
            raise ValueError(
                f"{function}: {kind.__name__}.{name} has {lost!r}, of which something plain comes back where "
                "parameters are written down; take numbers, texts, lists or dicts, or let __post_init__ make it again."
            )


def _turned(value: Any, back: Any, outermost: bool = True) -> Iterator[Any]:
    """Yield the lists and tuples inside of a value that are not what comes back there; in dicts that are lists."""
    if isinstance(value, list | tuple) and not isinstance(value, back) and not outermost:
        yield value
    is_dict = isinstance(value, Mapping)
    for inner in value.values() if is_dict else value if isinstance(value, list | tuple) else ():
        yield from _turned(inner, list if is_dict else back, False)


def _keys_in(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        yield from value
    for inner in value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ():
        yield from _keys_in(inner)


def _of_subclasses(value: Any, or_parts: bool) -> Iterator[Any]:
    """Yield what is of a subclass of what tables hold, in a value. or_parts: rules and layers too."""
    if type(value) not in _PLAIN and isinstance(value, _PLAIN) and not isinstance(value, np.generic):
        yield value
    if or_parts and isinstance(value, Rule | Layer):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ():
        yield from _of_subclasses(inner, or_parts)


def _comes_back(thing: Any, name: str, value: Any, plain: Mapping[str, Any]) -> bool:
    """Return whether a thing's class makes a parameter of what is written."""
    kind, fields = type(thing), {field.name: field for field in dataclasses.fields(thing)}
    try:
        written = json.loads(json.dumps(plain, default=lambda each: each.item()))
        given = {key: as_meant(kind, fields[key], each, False) for key, each in written.items()}
        if isinstance(thing, Layer) and "rule" in given:
            given["rule"] = vars(thing)["rule"]
        again = kind(**given)
    except (TypeError, ValueError, LookupError, AttributeError):
        return False
    return _alike(getattr(again, name), value)


def _alike(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_alike, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_alike(one[key], other[key]) for key in one)
    return isinstance(one, Rule | Layer) or one == other or (one != one and other != other)
