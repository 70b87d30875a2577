"""The attributions that are compared, each a row of the table: influence of clips on queries."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from motive.formats.shards import read_stacked
from motive.maths.influence import Method, influence, measure
from motive.params import Params
from motive.validation.baselines import BASELINES, Subject
from motive.validation.variants import FOUR, ONE, VARIANTS, folder_of


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
    """By gradients: whose sketches, at which of their noise levels, and how they are compared."""

    variant: str
    sigmas: tuple[float, ...]
    method: Method
    damping: float = 1.0


BY_GRADIENTS = {
    "no_mask": Row("no_mask", ONE, "cosine"),
    "no_mask_preconditioned": Row("no_mask", ONE, "preconditioned"),
    "paper": Row("paper", ONE, "cosine"),
    "paper_preconditioned": Row("paper", ONE, "preconditioned"),
    "no_camera": Row("no_camera", ONE, "cosine"),
    "our_mask": Row("ours", ONE, "cosine"),
    "four_sigmas": Row("ours", FOUR, "cosine"),
    "centred": Row("ours", FOUR, "centred"),
    "preconditioned": Row("ours", FOUR, "preconditioned"),
    "preconditioned_less": Row("ours", FOUR, "preconditioned", damping=10.0),
    "preconditioned_more": Row("ours", FOUR, "preconditioned", damping=0.1),
}
MEANINGS = {
    "random": "a random number",
    "motion_magnitude": "mean speed of all pixels",
    "pixels": "likeness of frames",
    "features": "likeness of latents and captions",
    "no_mask": "gradients of the plain loss",
    "no_mask_preconditioned": "... preconditioned",
    "paper": "gradients of the motion-weighted loss, one noise level",
    "paper_preconditioned": "... preconditioned",
    "no_camera": "the paper, without the camera's motion",
    "our_mask": "... with floor, percentile and confidence",
    "four_sigmas": "... at four noise levels",
    "centred": "... less the pool's mean",
    "preconditioned": "... and preconditioned: all together",
    "preconditioned_less": "... with ten times the damping",
    "preconditioned_more": "... with a tenth of the damping",
    "default": "params.yaml as it is",
}


def attributions(
    subject: Subject, root: str, params: Params
) -> Iterator[tuple[str, Attribution, Attribution]]:
    """Yield of each row its name, and the influence of the pool and of the corrupted copies."""
    for name, scores in BASELINES.items():
        pool, copies = (Attribution(each, np.ones(len(each), bool)) for each in scores(subject, root, params))
        yield name, pool, copies
    how = params.attribution
    default = Row("default", params.sketches.sigmas, how.method, how.damping)
    for name, row in (BY_GRADIENTS | {"default": default}).items():
        sigmas = VARIANTS[row.variant].sketches.get("sigmas", params.sketches.sigmas)
        levels = [sigmas.index(sigma) for sigma in row.sigmas]
        yield name, *by_gradients(row, levels, subject, root)


def by_gradients(row: Row, levels: list[int], subject: Subject, root: str) -> tuple[Attribution, Attribution]:
    """Mean and second moment are of the pool alone: a copy changes nothing for what it is compared with."""
    (pool, ok), (copies, copies_ok), (queries, _) = (
        read_sketches(folder_of(root, row.variant, part) / "sketches", ids, levels)
        for part, ids in subject._asdict().items()
    )
    measured = measure(pool, ok, row.method, row.damping)
    return (
        Attribution(influence(pool, queries, ok, measured).numpy(), ok.numpy()),
        Attribution(influence(copies, queries, copies_ok, measured).numpy(), copies_ok.numpy()),
    )


def read_sketches(
    folder: Path, clip_ids: list[str], levels: list[int]
) -> tuple[Shaped[Tensor, "n K D"], Bool[Tensor, "n"]]:
    """The sketches of these clips at some noise levels, and which are ok; a clip without one is not."""
    known, sketches = read_stacked(folder, "sketch")
    fine = read_stacked(folder, "ok")[1]
    row_of = {clip_id: row for row, clip_id in enumerate(known)}
    rows = torch.tensor([row_of.get(clip_id, -1) for clip_id in clip_ids])
    return sketches[rows][:, levels], fine[rows] & (rows >= 0)
