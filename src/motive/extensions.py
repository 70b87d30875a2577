"""Backbones and pixel trackers that other packages bring, by name.

A package names them as entry points; Python code registers them for its own process. Neither is imported
before it is used.
"""

from collections.abc import Callable
from functools import cache
from importlib.metadata import entry_points
from typing import Any, Literal, NamedTuple

Group = Literal["motive.backbones", "motive.trackers"]  # of entry points


class Extension(NamedTuple):
    """`origin`, package and version, stands in recipes: what another version makes is not mixed in."""

    origin: str
    load: Callable[[], Any]


_registered: dict[tuple[Group, str], Extension] = {}


def register(group: Group, name: str, thing: Any, version: str, ours: tuple[str, ...]) -> None:
    """Make a thing known in this process; again under the same name: in place of the one before.

    Raises:
        ValueError: the name is one of ours.
    """
    if name in ours:
        raise ValueError(f"{name} is the name of one of ours: register another")
    _registered[group, name] = Extension(f"{name} {version}", lambda: thing)


def extension_names(group: Group) -> list[str]:
    """All that are known, in the order of the alphabet."""
    registered = [name for kind, name in _registered if kind == group]
    return sorted({*registered, *(entry.name for entry in _entries(group))})


def extension(group: Group, name: str) -> Extension | None:
    """The one of this name, registered or of an installed package.

    Raises:
        ValueError: two packages have one of this name.
    """
    if (group, name) in _registered:
        return _registered[group, name]
    entries = [entry for entry in _entries(group) if entry.name == name]
    if len(entries) > 1:
        packages = " and ".join(sorted(map(_origin, entries)))
        raise ValueError(f"{name} is in {packages} (entry points {group}): uninstall one of them")
    return Extension(_origin(entries[0]), entries[0].load) if entries else None


# Of packages that a finder of the backport importlib_metadata finds, these are its own class, not EntryPoint.
@cache  # reading what is installed takes milliseconds
def _entries(group: Group) -> tuple[Any, ...]:
    return tuple(entry_points(group=group))


def _origin(entry: Any) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value
