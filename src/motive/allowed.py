"""What a field of a pydantic model takes, in words: for the table of `motive params` and for errors."""

from types import NoneType
from typing import Any, Literal, NamedTuple, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

TYPES = {bool: "true | false", int: "whole number", float: "number", str: "text"}
SIGNS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}


class Words(NamedTuple):
    """Beside a field's pattern: the same for people."""

    text: str


def allowed(field: FieldInfo) -> str:
    """A number and its limits, names to choose from, a list of them."""
    kind = field.annotation
    for each in field.metadata:
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
