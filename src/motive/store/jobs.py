"""What is wanted under a recipe, and what of it is missing."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from motive.store.recipes import Recipe
from motive.store.shards import Tensors, read_clip_tensors
from motive.store.work import done, pending

log = logging.getLogger("motive")

Make = Callable[[list[Any]], int]


class Chunk(NamedTuple):
    """Some of what is missing; called, it is made."""

    inputs: list[Any]  # first: an error names what was being made
    make: Make

    def __call__(self) -> int:
        return self.make(self.inputs)


@dataclass(frozen=True)
class Job:
    """These ids, made up to `size` at a time by `make`, which keeps them in the work store of `recipe`.

    `make` is given the ids, or what `inputs` has for each, and returns their number.
    """

    label: str
    recipe: Recipe
    ids: list[str]
    size: int
    make: Make
    inputs: dict[str, Any] = field(default_factory=dict)

    def missing(self) -> list[Chunk]:
        """What is still to do, in chunks that never cross a row range."""
        chunks = pending(self.recipe, self.ids, self.size)
        count = sum(len(ids) for ids in chunks)
        log.info("%s: %d to make, %d done before", self.label, count, len(self.ids) - count)
        if not self.inputs:
            return [Chunk(ids, self.make) for ids in chunks]
        # A chunk carries its own inputs, not a million clips'.
        return [Chunk([self.inputs[clip_id] for clip_id in ids], self.make) for ids in chunks]

    def kept(self) -> list[Tensors]:
        """What the work store holds, in the order of the ids."""
        tensors = dict(read_clip_tensors(done(self.recipe), self.ids))
        return [tensors[clip_id] for clip_id in self.ids]
