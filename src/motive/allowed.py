"""What a field of a pydantic model takes, in words: for the table of `motive params` and for errors."""

from collections.abc import Iterator
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo


def allowed(field: FieldInfo) -> str:
    """A number and its limits, names to choose from, a list of them."""
    kind, limits = field.annotation, field.metadata
    if get_origin(kind) is Literal:
        return " | ".join(map(str, get_args(kind)))
    if get_origin(kind) in (tuple, dict):
        *keys, item = [FieldInfo.from_annotation(arg) for arg in get_args(kind) if arg is not Ellipsis]
        return f"name ({allowed(keys[0])}): {allowed(item)}, ..." if keys else f"list of {allowed(item)}"
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return f"keys {', '.join(kind.model_fields)}"
    names = {bool: "true | false", int: "whole number", float: "number", str: "text"}
    return " ".join([names[kind or NoneType], *_limits(limits)])


def _limits(limits: list[Any]) -> Iterator[str]:
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    named = [(name, limit) for limit in limits for name in signs if hasattr(limit, name)]
    bounds = [f"{signs[name]} {getattr(limit, name):g}" for name, limit in named]
    if bounds:
        yield " and ".join(bounds)
    for limit in limits:
        if pattern := getattr(limit, "pattern", None):
            yield f"like {pattern}"
        if getattr(limit, "min_length", None):
            yield "(not empty)"
