"""Where a video cuts, by PySceneDetect: it sees frames that we decoded, never a file."""

from collections.abc import Iterable, Iterator
from itertools import chain, repeat

import cv2
import numpy as np

LOOK = 256  # pixels of a frame's longer side that the detector wants
AROUND = 2  # frames before and after a cut that the detector compares it with


def find_cuts(frames: Iterable[np.ndarray], threshold: float) -> list[int]:
    """Which frames, RGB uint8 [H,W,3], begin a new shot: those that differ from the one before much more than
    their neighbours do (`threshold` times). The first frame is none. Frames stream by.
    """
    from scenedetect import AdaptiveDetector, FrameTimecode

    # no shortest shot: a cut that it leaves out would lie within a clip
    detector = AdaptiveDetector(threshold, min_scene_len=0, window_width=AROUND)
    cuts: list[FrameTimecode] = []
    for number, frame in enumerate(_held(frames)):
        image = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
        cuts += detector.process_frame(FrameTimecode(number, 1.0), image)
    return [cut.frame_num - AROUND for cut in cuts]


def _held(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The first and the last frame held still a while: else a cut right beside them is not found."""
    frame = None
    for number, frame in enumerate(frames):
        yield from repeat(frame, 1 if number else 1 + AROUND)
    yield from chain([] if frame is None else repeat(frame, AROUND))
