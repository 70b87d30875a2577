"""The attributions that are compared, each a row of the table: influence of clips on queries."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from motive.maths.influence import Method, influence, measure
from motive.params import Params
from motive.store.shards import read_aligned
from motive.validation.baselines import BASELINES, Subject
from motive.validation.variants import folder_of


class Attribution(NamedTuple):
    """Influence of clips on queries; a clip that is not ok has none, and ranks below all others."""

    influence: Float[np.ndarray, "N Q"]
    ok: Bool[np.ndarray, "N"]

    def ranked(self) -> Float[np.ndarray, "N Q"]:
        """What to order by."""
        return np.where(self.ok[:, None], self.influence, -np.inf)

    def order(self) -> Int[np.ndarray, "N"]:
        """Rows by their mean over the queries, the best first."""
        return np.argsort(-self.ranked().mean(1, dtype=np.float64), kind="stable")


class Row(NamedTuple):
    """By gradients: whose sketches, and how they are compared."""

    variant: str
    method: Method
    damping: float = 1.0


BY_GRADIENTS = {
    "no_mask": Row("no_mask", "cosine"),
    "no_mask_preconditioned": Row("no_mask", "preconditioned"),
    "paper": Row("paper", "cosine"),
    "paper_preconditioned": Row("paper", "preconditioned"),
    "our_sketch": Row("our_sketch", "cosine"),
    "our_mask": Row("our_mask", "cosine"),
    "our_mask_preconditioned": Row("our_mask", "preconditioned"),
    "four_sigmas": Row("four_sigmas", "cosine"),
    "centred": Row("four_sigmas", "centred"),
    "preconditioned": Row("four_sigmas", "preconditioned"),
    "more_damping": Row("four_sigmas", "preconditioned", damping=10.0),
    "less_damping": Row("four_sigmas", "preconditioned", damping=0.1),
}
REFERENCE = "paper"  # the row that each other is compared with
ROWS = (*BASELINES, *BY_GRADIENTS, "default")  # docs/validation.md says what each is


def attributions(
    subject: Subject, root: str, params: Params
) -> tuple[dict[str, Attribution], dict[str, Attribution]]:
    """Of each row, by its name, the influence of the pool; and that of the corrupted copies."""
    pool: dict[str, Attribution] = {}
    copies: dict[str, Attribution] = {}
    for name, baseline in BASELINES.items():
        pool[name], copies[name] = map(all_ok, baseline(subject, root, params))
    for name, row in BY_GRADIENTS.items():
        pool[name], copies[name] = by_gradients(row, subject, root)
    default = Row("default", params.attribution.method, params.attribution.damping)
    pool["default"], copies["default"] = by_gradients(default, subject, root)
    return pool, copies


def all_ok(influence: Float[np.ndarray, "N Q"]) -> Attribution:
    """Of a row that says something about every clip."""
    return Attribution(influence, np.ones(len(influence), bool))


def by_gradients(row: Row, subject: Subject, root: str) -> tuple[Attribution, Attribution]:
    """Mean and second moment are of the pool alone: a copy changes nothing for what it is compared with."""
    pool, ok = read_sketches(folder_of(root, row.variant, "pool"), subject.pool)
    copies, copies_ok = read_sketches(folder_of(root, row.variant, "corrupted"), subject.corrupted)
    queries, _ = read_sketches(folder_of(root, row.variant, "queries"), subject.queries)
    measured = measure(pool, ok, row.method, row.damping)
    return (
        Attribution(influence(pool, queries, ok, measured).numpy(), ok.numpy()),
        Attribution(influence(copies, queries, copies_ok, measured).numpy(), copies_ok.numpy()),
    )


def read_sketches(
    folder: Path, clip_ids: list[str]
) -> tuple[Shaped[Tensor, "n K D_stored"], Bool[Tensor, "n"]]:
    """The sketches of these clips as stored, and which are ok; a clip without one is not."""
    sketches, ok = read_aligned(folder / "sketches", clip_ids, "sketch", "ok")
    return sketches, ok.bool()
