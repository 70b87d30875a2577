"""What a field of a pydantic model takes, in words: for the table of `motive params` and for errors."""

import difflib
from collections.abc import Callable, Iterator
from types import NoneType
from typing import Any, Literal, NamedTuple, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

TYPES = {bool: "true | false", int: "whole number", float: "number", str: "text"}
RENAMED = {"track": "record"}  # keys of earlier versions
SIGNS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}


class Words(NamedTuple):
    """Beside a field's pattern: the same for people."""

    text: str


class OneOf(NamedTuple):
    """Beside a text's field: the names it may have, which other packages add to."""

    names: Callable[[], list[str]]


def allowed(field: FieldInfo) -> str:
    """A number and its limits, names to choose from, a list of them."""
    kind = field.annotation
    for each in field.metadata:
        if isinstance(each, OneOf):
            return " | ".join(each.names())
        if isinstance(each, Words):
            return each.text
    if get_origin(kind) is Literal:
        return " | ".join(map(str, get_args(kind)))
    if get_origin(kind) is dict:
        key, value = (allowed(FieldInfo.from_annotation(item)) for item in get_args(kind))
        return f"{key}: {value}, ..."
    if get_origin(kind) is tuple:
        return f"list of {allowed(FieldInfo.from_annotation(get_args(kind)[0]))}"
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return f"keys {', '.join(kind.model_fields)}"
    return " ".join([TYPES[kind or NoneType], *_limits(field.metadata)])


def _limits(metadata: list[Any]) -> list[str]:
    bounds = [
        f"{sign} {getattr(limit, name):g}"
        for limit in metadata
        for name, sign in SIGNS.items()
        if hasattr(limit, name)
    ]
    limits = [" and ".join(bounds)] if bounds else []
    if any(getattr(limit, "min_length", None) for limit in metadata):
        limits.append("(not empty)")
    return limits


# ---- the table of `motive params`


class Row(NamedTuple):
    """One key of params.yaml, explained."""

    key: str
    allowed: str
    value: Any
    meaning: str


def explain(params: BaseModel, prefix: str = "") -> Iterator[Row]:
    """Yield a row for each key, in the order of params.yaml."""
    for name, field in type(params).model_fields.items():
        value = getattr(params, name)
        if isinstance(value, BaseModel):
            yield from explain(value, f"{prefix}{name}.")
        else:
            yield Row(f"{prefix}{name}", allowed(field), value, field.description or "")


# ---- errors


def wrong_key(error: ErrorDetails, model: type[BaseModel]) -> str:
    """One error of pydantic's, as `key is value: what is allowed`."""
    keys = [str(key) for key in error["loc"] if key != "[key]"]
    where = ".".join(keys)
    if where in RENAMED:
        return f"{where} is called {RENAMED[where]} now: rename it"
    if error["type"] == "extra_forbidden":
        return f"{where} is unknown: {_hint(keys, model)}"
    if error["type"] == "missing":
        return f"{where} is missing: {allowed(_field(keys, model))}"
    if not keys:
        ours = error["type"] == "value_error"  # of _agree
        return (
            error["msg"].removeprefix("Value error, ") if ours else "has no keys: see params.yaml as it ships"
        )
    wanted = allowed(_field(keys, model))
    near = difflib.get_close_matches(str(error["input"]), wanted.split(" | "), n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return f"{where} is {error['input']!r}: allowed: {wanted}{hint}"


def _hint(keys: list[str], model: type[BaseModel]) -> str:
    """What may have been meant by a key that there is not."""
    names = list(_section(keys[:-1], model).model_fields)
    near = difflib.get_close_matches(keys[-1], names, n=1, cutoff=0.5)
    return f"did you mean {'.'.join([*keys[:-1], near[0]])}?" if near else f"known: {', '.join(names)}"


def _section(keys: list[str], model: type[BaseModel]) -> type[BaseModel]:
    section: Any = model
    for key in keys:
        section = section.model_fields[key].annotation
    return section


def _field(keys: list[str], model: type[BaseModel]) -> FieldInfo:
    """The field at or above a key path (an item of a list has its list's)."""
    section: Any = model
    for key in keys:
        field = section.model_fields[key]
        section = field.annotation
        if not (isinstance(section, type) and issubclass(section, BaseModel)):
            break
    return field
