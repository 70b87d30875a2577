"""A recipe with the ids it is wanted for and the function that makes some of them."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from motive.store.shards import Recipe, Tensors, done, pending, read_clip_tensors

log = logging.getLogger("motive")


@dataclass(frozen=True)
class Job:
    """`make` makes up to `size` ids and keeps them in the work store of `recipe`; it returns their number."""

    label: str
    recipe: Recipe
    ids: list[str]
    size: int
    make: Callable[[list[str]], int]

    def missing(self) -> list[partial[int]]:
        """What is still to do, as calls that make one chunk each."""
        chunks = pending(self.recipe, self.ids, self.size)
        count = sum(map(len, chunks))
        log.info("%s: %d to make, %d known", self.label, count, len(self.ids) - count)
        return [partial(self.make, ids) for ids in chunks]

    def kept(self) -> list[Tensors]:
        """What the work store holds, in the order of the ids."""
        found = dict(read_clip_tensors(done(self.recipe), self.ids))
        return [found[one] for one in self.ids]
