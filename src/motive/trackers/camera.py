"""What of a frame's optical flow is the camera's: a global model, chosen by what it explains of the frame.

Candidates come from the small images (registration.py) and, by RANSAC, from the vectors on the coarse grid.
A richer model replaces a simpler one where it fits better in clearly more blocks of the frame.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32

from motive.trackers.registration import Base, Grey, Matrix, Misfit, Small, Warp, shrunk, small

BLOCKS = 8  # the frame is judged in BLOCKS x BLOCKS parts
CLEAR = 0.02  # mean misfit by which a block decides for one of two models ...
NOTABLE = 0.3  # ... and share of what it was: noise fits a little better with anything
RICHER = 0.15  # share of blocks that a richer model must win more than it loses ...
STARTS = 0.03  # ... any model, against a still camera ...
SETTLED = 0.3  # ... and with which no other candidate is looked for
CHANGE = 1.0  # grey levels of 255: less is the codec's
ALIGNED = 0.2  # pixels that two images laid over each other may be apart
PATCH = 7  # pixels over which that is judged, in a frame shrunk to about ...
LOOK = 240  # ... so many
AGREES = 0.75  # pixels, or a quarter of a small one: what RANSAC calls an inlier
FEWEST, MOST = 12, 500  # vectors that RANSAC takes

Blocks = Bool[np.ndarray, "blocks blocks"]
Vectors = Float32[np.ndarray, "2 rows columns"]


class View(NamedTuple):
    """How the camera moved from the reference frame to this one.

    `matrix`: pixels of the reference frame to pixels of this one. `wins`, `losses`: shares of the frame that
    fit clearly better, and worse, than with a still camera. `edges`: the share of two opposite edges of the
    frame that it wins, the lesser of both: what moves with the camera reaches them, an object rarely does.
    `inliers`: the share of the frame that it explains. `residual`: the optical flow that it does not.
    """

    matrix: Matrix
    wins: float
    losses: float
    edges: float
    inliers: float
    residual: Vectors


class Candidate(NamedTuple):
    """A model's warp, how it fits, and the blocks that fit clearly better, or worse, than with a still
    camera."""

    model: str | None
    warp: Warp
    misfit: Misfit
    won: Blocks
    lost: Blocks

    @property
    def lead(self) -> float:
        """The share of blocks won, less those lost."""
        return float(self.won.mean() - self.lost.mean())


class Camera:
    """Follows the camera through one clip, frame by frame, from adjacent frames or from the first."""

    def __init__(self, adjacent: bool) -> None:
        self._adjacent = adjacent
        self._look: Grey | None = None
        self._base: Base | None = None
        self._last: Matrix | None = None

    def view(self, grey: Grey, flow: Vectors) -> View:
        """The camera's motion to the next frame of the clip; `flow` as the tracker found it, on its grid."""
        look = shrunk(grey, LOOK)
        image = small(look)
        if self._base is None or self._look is None:
            view = View(np.eye(3), 0.0, 0.0, 0.0, 1.0, np.zeros_like(flow))
        elif np.abs(self._base.image - image).max() < CHANGE:
            view = View(np.eye(3), 0.0, 0.0, 0.0, 1.0, flow)
        else:
            view = self._compare(self._base, self._look, look, image, flow, grey.shape)
        if self._base is None or self._adjacent:
            self._base, self._look = Base(image), look
        return view

    def _compare(
        self, base: Base, before: Grey, after: Grey, image: Small, flow: Vectors, size: tuple[int, ...]
    ) -> View:
        scale, grid = size[0] / image.shape[0], flow.shape[1:]
        seeds = self._seeds(base, flow, scale)
        best, wins, losses = _choose(base, image, seeds)
        self._last = best.warp.matrix
        matrix = base.to_pixels(best.warp.matrix, scale)
        inliers = float((best.misfit.values[best.misfit.overlap] < 0.5).mean())
        if best.model is None:
            return View(matrix, wins, losses, 0.0, inliers, flow)
        seen = Warp(base.to_pixels(best.warp.matrix, before.shape[0] / image.shape[0]), best.warp.light)
        residual = (flow - _vectors(matrix, size, grid)) * _unlike(before, after, seen, grid)
        return View(matrix, wins, losses, _edges(best.won), inliers, residual)

    def _seeds(self, base: Base, flow: Vectors, scale: float) -> Iterator[Matrix]:
        """First guesses: as before, and as most vectors say."""
        if self._last is not None:
            yield self._last
        speed = np.hypot(*flow).ravel()
        moving = np.flatnonzero((speed > 0) & (speed < np.inf))
        moving = moving[:: 1 + len(moving) // MOST]
        if len(moving) >= FEWEST:
            places = _centres(base.image.shape, scale, flow.shape[1:])[moving]
            ends = places + flow.reshape(2, -1).T[moving]
            near = max(AGREES, scale / 4)
            options = {"method": cv2.RANSAC, "ransacReprojThreshold": near, "maxIters": 100}
            affine, _ = cv2.estimateAffinePartial2D(
                places.astype(np.float32), ends.astype(np.float32), **options
            )
            if affine is not None:
                yield base.from_pixels(np.vstack([affine, [0, 0, 1]]), scale)


def _choose(base: Base, after: Small, seeds: Iterator[Matrix]) -> tuple[Candidate, float, float]:
    """The model chosen (none: a still camera), and the shares of the frame that speak for and against a
    moving one."""
    warp = base.still(after)
    misfit, nobody = base.misfit(after, warp), np.zeros((BLOCKS, BLOCKS), bool)
    still, nothing = Candidate(None, warp, misfit, nobody, nobody), Misfit(0 * misfit.values, misfit.overlap)
    if not _edges(_compared(misfit, nothing)[0]):  # two opposite edges stand: so does the camera
        return still, 0.0, 0.0

    def tried(model: str | None, warp: Warp) -> Candidate:
        fits = base.misfit(after, warp)
        return Candidate(model, warp, fits, *_compared(misfit, fits))

    def grown(model: str, start: Matrix, keep: np.ndarray | float = 1.0) -> list[Candidate]:
        fitted = base.fit(after, model, Warp(start, warp.light), keep)
        return [tried(model, fitted)] if fitted else []

    def best_of(candidates: Iterable[Candidate]) -> Candidate:
        return max(candidates, key=lambda candidate: candidate.lead, default=still)

    # similarities: grown from the first guess; if that may be an object, from the others and from the rest
    choices = [candidate for seed in islice(seeds, 1) for candidate in grown("similarity", seed)]
    likely = best_of(choices)
    if likely.lead < SETTLED:
        other = best_of(tried(None, Warp(start, warp.light)) for start in [*seeds, base.shift(after)])
        choices += grown("similarity", other.warp.matrix)
        likely = best_of(choices)
        gained = (misfit.values - likely.misfit.values > 0.1).astype(np.uint8)
        rest = 1 - cv2.dilate(gained, np.ones((5, 5), np.uint8)).astype(np.float32)
        likely = best_of([*choices, *grown("similarity", np.eye(3), rest)])

    # the simplest model that will do
    shift = np.eye(3)
    shift[:2, 2] = likely.warp.matrix[:2, 2]
    best = _richer(_richer(still, best_of(grown("translation", shift))), likely)
    if best is not still and _lead(best.misfit, nothing) >= RICHER:
        best = _richer(best, best_of(grown("homography", best.warp.matrix)))

    judged = likely if best is still else best
    return best, float(judged.won.mean()), float(judged.lost.mean())


def _richer(simple: Candidate, rich: Candidate) -> Candidate:
    lead, least = (_lead(simple.misfit, rich.misfit), RICHER) if simple.model else (rich.lead, STARTS)
    return rich if lead >= least else simple


def _lead(one: Misfit, other: Misfit) -> float:
    """The share of blocks that the other wins more than it loses."""
    won, lost = _compared(one, other)
    return float(won.mean() - lost.mean())


def _compared(one: Misfit, other: Misfit) -> tuple[Blocks, Blocks]:
    """The blocks that fit clearly better with the other, and those that fit clearly worse."""
    overlap = one.overlap & other.overlap
    before, after = (
        cv2.resize(misfit.values * overlap, (BLOCKS, BLOCKS), interpolation=cv2.INTER_AREA)
        for misfit in (one, other)
    )
    return before - after > np.maximum(CLEAR, NOTABLE * before), after - before > np.maximum(
        CLEAR, NOTABLE * after
    )


def _edges(won: Blocks) -> float:
    top, bottom, left, right = (float(edge.mean()) for edge in (won[0], won[-1], won[:, 0], won[:, -1]))
    return max(min(top, bottom), min(left, right))


def _unlike(
    before: Grey, after: Grey, warp: Warp, grid: tuple[int, ...]
) -> Float32[np.ndarray, "rows columns"]:
    """The share of each cell where `after`, laid over `before`, shows something else."""
    first, second = before.astype(np.float32), after.astype(np.float32)
    second -= warp.light
    inverse = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    # Where `after` does not reach, nothing differs.
    options = {"flags": inverse, "borderMode": cv2.BORDER_TRANSPARENT, "dst": first.copy()}
    laid = cv2.warpPerspective(second, warp.matrix, before.shape[::-1], **options)
    dx, dy = (cv2.Scharr(before, cv2.CV_32F, *way, scale=1 / 32) for way in ((1, 0), (0, 1)))
    # Where they can, results take the place of what is used up: new memory costs more than the sums.
    least = cv2.blur(cv2.magnitude(dx, dy, dx), (PATCH, PATCH), dy)
    least *= ALIGNED
    least += CHANGE
    gap = cv2.blur(cv2.absdiff(laid, first, laid), (PATCH, PATCH), first)
    return cv2.resize((gap > least).astype(np.float32), grid[::-1], interpolation=cv2.INTER_AREA)


def _centres(size: tuple[int, ...], scale: float, grid: tuple[int, ...]) -> Float[np.ndarray, "n 2"]:
    """(x, y) of each cell's centre in pixels of the frame, which is `scale` times `size`."""
    down, right = (scale * side / count for side, count in zip(size, grid, strict=True))
    rows, columns = np.indices(grid)
    return np.stack([(columns + 0.5) * right - 0.5, (rows + 0.5) * down - 0.5], -1).reshape(-1, 2)


def _vectors(matrix: Matrix, size: tuple[int, ...], grid: tuple[int, ...]) -> Vectors:
    """The optical flow that the camera alone would make."""
    places = _centres(size, 1.0, grid)
    moved = np.c_[places, np.ones(len(places))] @ matrix.T
    return (moved[:, :2] / moved[:, 2:] - places).T.reshape(2, *grid).astype(np.float32)
