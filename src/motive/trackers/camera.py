"""What of a frame's optical flow is the camera's: a global model, chosen by what it explains of the frame.

Candidates come from the small images (registration.py) and, by RANSAC, from the vectors on the coarse grid.
A richer model replaces a simpler one where it fits better in clearly more blocks of the frame.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32

from motive.trackers.registration import Base, Grey, Matrix, Misfit, Seen, Small, Warp, shrunk, small

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
FEWEST = 12  # moving vectors that RANSAC needs ...
MOST = 500  # ... and about how many it takes

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
    def wins(self) -> float:
        return float(self.won.mean())

    @property
    def losses(self) -> float:
        return float(self.lost.mean())

    @property
    def lead(self) -> float:
        return self.wins - self.losses

    @property
    def inliers(self) -> float:
        return float((self.misfit.values[self.misfit.overlap] < 0.5).mean())


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
            self._base = Base(image)
            self._look = look
        return view

    def _compare(
        self, base: Base, before: Grey, after: Grey, image: Small, flow: Vectors, size: tuple[int, ...]
    ) -> View:
        scale = size[0] / image.shape[0]
        best, judged = _choose(Overlay(base, image), self._seeds(base, flow, scale))
        self._last = best.warp.matrix
        matrix = base.to_pixels(best.warp.matrix, scale)
        view = View(matrix, judged.wins, judged.losses, _edges(best.won), best.inliers, flow)
        if best.model is None:
            return view

        # What the camera explains of the vectors goes, and where it explains what is seen, all of them.
        before_to_after = base.to_pixels(best.warp.matrix, before.shape[0] / image.shape[0])
        unlike = _unlike(before, after, Warp(before_to_after, best.warp.light), flow.shape[1:])
        return view._replace(residual=(flow - _vectors(matrix, size, flow.shape[1:])) * unlike)

    def _seeds(self, base: Base, flow: Vectors, scale: float) -> Iterator[Matrix]:
        """First guesses: as before, and as most vectors say."""
        if self._last is not None:
            yield self._last
        affine = _most_vectors(flow, base.image.shape, scale)
        if affine is not None:
            yield base.from_pixels(np.vstack([affine, [0, 0, 1]]), scale)


# ---- the choice of a model


class Overlay:
    """Two small images, and candidates that lay the second over the first."""

    def __init__(self, base: Base, after: Small) -> None:
        self.base = base
        self.after = after
        warp = base.still(after)
        no_block = np.zeros((BLOCKS, BLOCKS), bool)
        self.still = Candidate(None, warp, base.misfit(after, warp), no_block, no_block)

    def judged(self, model: str | None, warp: Warp) -> Candidate:
        misfit = self.base.misfit(self.after, warp)
        return Candidate(model, warp, misfit, *_compared(self.still.misfit, misfit))

    def grown(self, model: str, start: Matrix, keep: np.ndarray | float = 1.0) -> list[Candidate]:
        """A model fitted from a first guess; none if it runs away."""
        warp = self.base.fit(self.after, model, Warp(start, self.still.warp.light), keep)
        return [self.judged(model, warp)] if warp else []

    def unfitted(self, start: Matrix) -> Candidate:
        """A first guess as it is."""
        return self.judged(None, Warp(start, self.still.warp.light))

    def best_of(self, candidates: Iterable[Candidate]) -> Candidate:
        return max(candidates, key=lambda candidate: candidate.lead, default=self.still)

    def unexplained_by(self, candidate: Candidate) -> Seen:
        """0 in and around the places that fit better with the candidate than with a still camera, else 1."""
        gain = self.still.misfit.values - candidate.misfit.values
        explained = cv2.dilate((gain > 0.1).astype(np.uint8), np.ones((5, 5), np.uint8))
        return 1 - explained.astype(np.float32)


def _choose(overlay: Overlay, seeds: Iterator[Matrix]) -> tuple[Candidate, Candidate]:
    """The model chosen (none: a still camera), and the one that speaks for and against a moving camera."""
    still = overlay.still
    perfect = Misfit(0 * still.misfit.values, still.misfit.overlap)
    if not _edges(_compared(still.misfit, perfect)[0]):  # two opposite edges stand: so does the camera
        return still, still

    # the simplest model that will do
    likely = _similarity(overlay, seeds)
    shift = np.eye(3)
    shift[:2, 2] = likely.warp.matrix[:2, 2]
    best = _richer(_richer(still, overlay.best_of(overlay.grown("translation", shift))), likely)
    if best is not still and _lead(best.misfit, perfect) >= RICHER:
        best = _richer(best, overlay.best_of(overlay.grown("homography", best.warp.matrix)))
    return best, likely if best is still else best


def _similarity(overlay: Overlay, seeds: Iterator[Matrix]) -> Candidate:
    """Grown from the first guess; if that may be an object, from the others too, and from what it leaves."""
    first = next(seeds, None)
    choices = [] if first is None else overlay.grown("similarity", first)
    if overlay.best_of(choices).lead < SETTLED:
        other = overlay.best_of(map(overlay.unfitted, [*seeds, overlay.base.shift(overlay.after)]))
        choices += overlay.grown("similarity", other.warp.matrix)
        choices += overlay.grown("similarity", np.eye(3), overlay.unexplained_by(overlay.best_of(choices)))
    return overlay.best_of(choices)


def _richer(simple: Candidate, rich: Candidate) -> Candidate:
    least = RICHER if simple.model else STARTS
    return rich if _lead(simple.misfit, rich.misfit) >= least else simple


def _lead(one: Misfit, other: Misfit) -> float:
    """The share of blocks that the other wins more than it loses."""
    won, lost = _compared(one, other)
    return float(won.mean() - lost.mean())


def _compared(one: Misfit, other: Misfit) -> tuple[Blocks, Blocks]:
    """The blocks that fit clearly better with the other, and those that fit clearly worse."""
    overlap = one.overlap & other.overlap
    before = _block_means(one.values * overlap)
    after = _block_means(other.values * overlap)
    won = before - after > np.maximum(CLEAR, NOTABLE * before)
    lost = after - before > np.maximum(CLEAR, NOTABLE * after)
    return won, lost


def _block_means(values: np.ndarray) -> Float32[np.ndarray, "blocks blocks"]:
    return cv2.resize(values, (BLOCKS, BLOCKS), interpolation=cv2.INTER_AREA)


def _edges(won: Blocks) -> float:
    """The share won of two opposite edges, the lesser of both."""
    rows = min(won[0].mean(), won[-1].mean())
    columns = min(won[:, 0].mean(), won[:, -1].mean())
    return float(max(rows, columns))


# ---- frames and vectors


def _unlike(
    before: Grey, after: Grey, warp: Warp, grid: tuple[int, ...]
) -> Float32[np.ndarray, "rows columns"]:
    """The share of each cell where `after`, laid over `before`, shows something else."""
    first = before.astype(np.float32)
    second = after.astype(np.float32)
    second -= warp.light
    inverse = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    # Where `after` does not reach, nothing differs.
    options = {"flags": inverse, "borderMode": cv2.BORDER_TRANSPARENT, "dst": first.copy()}
    laid = cv2.warpPerspective(second, warp.matrix, before.shape[::-1], **options)
    gap = cv2.blur(cv2.absdiff(laid, first, laid), (PATCH, PATCH), first)
    return cv2.resize((gap > _least_gap(before)).astype(np.float32), grid[::-1], interpolation=cv2.INTER_AREA)


def _least_gap(image: Grey) -> Float32[np.ndarray, "H W"]:
    """Grey levels by which a place must differ: what its contrast makes of ALIGNED pixels, and a CHANGE more.

    Results take the place of what is used up, here and in `_unlike`: new memory costs more than the sums.
    """
    dx = cv2.Scharr(image, cv2.CV_32F, 1, 0, scale=1 / 32)
    dy = cv2.Scharr(image, cv2.CV_32F, 0, 1, scale=1 / 32)
    least = cv2.blur(cv2.magnitude(dx, dy, dx), (PATCH, PATCH), dy)
    least *= ALIGNED
    least += CHANGE
    return least


def _most_vectors(flow: Vectors, size: tuple[int, ...], scale: float) -> Float[np.ndarray, "2 3"] | None:
    """The similarity, in pixels of the frame, that most moving vectors follow; None if too few move."""
    speed = np.hypot(*flow).ravel()
    moving = np.flatnonzero((speed > 0) & (speed < np.inf))
    moving = moving[:: 1 + len(moving) // MOST]
    if len(moving) < FEWEST:
        return None
    places = _centres(size, scale, flow.shape[1:])[moving]
    ends = places + flow.reshape(2, -1).T[moving]
    options = {"method": cv2.RANSAC, "ransacReprojThreshold": max(AGREES, scale / 4), "maxIters": 100}
    return cv2.estimateAffinePartial2D(places.astype(np.float32), ends.astype(np.float32), **options)[0]


def _centres(size: tuple[int, ...], scale: float, grid: tuple[int, ...]) -> Float[np.ndarray, "n 2"]:
    """(x, y) of each cell's centre in pixels of the frame, which is `scale` times `size`."""
    rows, columns = np.indices(grid)
    x = (columns + 0.5) * (scale * size[1] / grid[1]) - 0.5
    y = (rows + 0.5) * (scale * size[0] / grid[0]) - 0.5
    return np.stack([x, y], -1).reshape(-1, 2)


def _vectors(matrix: Matrix, size: tuple[int, ...], grid: tuple[int, ...]) -> Vectors:
    """The optical flow that the camera alone would make."""
    places = _centres(size, 1.0, grid)
    moved = np.c_[places, np.ones(len(places))] @ matrix.T
    return (moved[:, :2] / moved[:, 2:] - places).T.reshape(2, *grid).astype(np.float32)
