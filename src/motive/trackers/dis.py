"""Dense inverse search, OpenCV's optical flow: no weights, milliseconds a pair."""

from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8

PRESETS = ("ultrafast", "fast", "medium")
PATCH = 9  # pixels: about what DIS matches at once
UNSEEN = 1  # grey levels of 255: a patch that changes less on average changed by its codec alone
SMALL = 256  # shorter sides below this many pixels are matched at full resolution

Grey = UInt8[np.ndarray, "H W"]


class Dis:
    """Optical flow of a pair of grey frames."""

    def __init__(self, preset: str) -> None:
        if preset not in PRESETS:
            raise ValueError(f"optical_flow.preset is {preset!r}; it is one of {', '.join(PRESETS)}")
        self._preset = PRESETS.index(preset)  # OpenCV numbers them in this order
        self._tracker: Any = None

    def __call__(
        self, before: Grey, after: Grey
    ) -> tuple[Float32[np.ndarray, "2 H W"], Float32[np.ndarray, "H W"]]:
        """(dx, dy) in pixels, lying where things were in `before`; and how sure it is: it does not say, so 1.

        H.264 refines still, smooth places from frame to frame, and DIS takes that for motion: most static
        clips would not be still. So a vector is zero where the frame changed no more than a codec changes it.
        The price is a camera that goes unseen over a smooth wall. Both: benchmarks/codec_noise.py.
        """
        changed = _changed(before, after)
        confidence = np.broadcast_to(np.float32(1), before.shape)
        if not changed.any():
            return np.zeros((2, *before.shape), np.float32), confidence
        self._tracker = self._tracker or self._tuned(min(before.shape))
        flow = self._tracker.calc(before, after, None)
        vectors = flow.view(np.uint64)  # both numbers of a vector as one; times 0 or 1 that is still exact
        np.multiply(vectors, changed[..., None], out=vectors)
        return flow.transpose(2, 0, 1), confidence

    def _tuned(self, short_side: int) -> Any:
        """OpenCV's preset; on small frames its halved resolution and sparse patches would lose the objects.

        Measured on textured discs of 7-14 px radius in 64x64: at 3 px a frame `medium` unchanged errs by
        1.01, so tuned by 0.29; at 5 px 1.92 and 0.51; a pair takes 2.7 ms instead of 0.6.
        """
        tracker = cv2.DISOpticalFlow.create(self._preset)
        if short_side < SMALL:
            tracker.setFinestScale(0)
            tracker.setPatchStride(2)
        return tracker


def _changed(before: Grey, after: Grey) -> Bool[np.ndarray, "H W"]:
    """Where the patch around changed by more than UNSEEN on average."""
    total = cv2.boxFilter(cv2.absdiff(before, after), cv2.CV_16U, (PATCH, PATCH), normalize=False)
    return total > UNSEEN * PATCH**2
