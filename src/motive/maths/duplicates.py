"""Which fingerprints are near each other, and which of them stay; for a million of them."""

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Float16, Int
from scipy.spatial import KDTree

MOTION = 2.0  # weight of how frames differ from the clip's mean: the same place with something else in it
AXES = 12  # numbers that the tree looks at
CHUNK = 10_000  # clips, or pairs, at a time


def distance(
    a: Float16[np.ndarray, "pairs frames size"], b: Float16[np.ndarray, "pairs frames size"]
) -> Float[np.ndarray, "pairs"]:
    """How different clips look, in grey levels: of their mean frame, and of what moves."""
    difference = a.astype(np.float32) - b
    mean = difference.mean(1)
    moving = ((difference - mean[:, None]) ** 2).sum((1, 2)) / a.shape[1]
    return np.sqrt((mean**2).sum(1) + MOTION**2 * moving)


def near_pairs(
    prints: Float16[np.ndarray, "clips frames size"], limit: float
) -> Iterator[tuple[Int[np.ndarray, "pairs 2"], Float[np.ndarray, "pairs"]]]:
    """Yield all pairs (i < j) within a distance, and their distances.

    A tree over a few numbers of the mean frames proposes them: no pair is further apart there than it is.
    """
    for pairs in _proposed_pairs(prints.mean(1, dtype=np.float32), limit):
        apart = distance(prints[pairs[:, 0]], prints[pairs[:, 1]])
        yield pairs[apart <= limit], apart[apart <= limit]


def _proposed_pairs(
    mean: Float[np.ndarray, "clips size"], limit: float
) -> Iterator[Int[np.ndarray, "pairs 2"]]:
    """Yield, `CHUNK` at a time, the pairs (i < j) that are near in the numbers that vary most."""
    axes = np.argsort(-mean.var(0))[:AXES]
    tree = KDTree(mean[:, axes])
    for start in range(0, len(mean), CHUNK):
        chunk = KDTree(mean[start : start + CHUNK, axes])
        near = chunk.sparse_distance_matrix(tree, limit * (1 + 1e-6), output_type="coo_matrix")
        pairs = np.stack([near.row + start, near.col], 1)
        pairs = pairs[pairs[:, 0] < pairs[:, 1]]
        yield from (pairs[at : at + CHUNK] for at in range(0, len(pairs), CHUNK))


def kept_for(
    prints: Float16[np.ndarray, "clips frames size"], files: Int[np.ndarray, "clips"], limit: float
) -> dict[int, tuple[int, float]]:
    """For each clip that has a kept one near: which, and how near. Clips come best first; the best are kept.

    Other seconds of the same file are no duplicates. Kept is who has no kept one near: in a chain a-b-c,
    where a and c are not near, only b goes.
    """
    gone: dict[int, tuple[int, float]] = {}
    for clip, neighbours in sorted(_better_neighbours(prints, files, limit).items()):
        staying = [neighbour for neighbour in neighbours if neighbour[1] not in gone]
        if staying:
            apart, kept = min(staying)
            gone[clip] = (kept, apart)
    return gone


def _better_neighbours(
    prints: Float16[np.ndarray, "clips frames size"], files: Int[np.ndarray, "clips"], limit: float
) -> dict[int, list[tuple[float, int]]]:
    """Clip -> (distance, clip) of each better clip of another file near it."""
    neighbours: dict[int, list[tuple[float, int]]] = defaultdict(list)
    for pairs, apart in near_pairs(prints, limit):
        other_file = files[pairs[:, 0]] != files[pairs[:, 1]]
        for (better, worse), far in zip(pairs[other_file].tolist(), apart[other_file].tolist(), strict=True):
            neighbours[worse].append((far, better))
    return neighbours
