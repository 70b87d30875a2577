"""A table for each gate that it lets through, and what spoils it."""

import numpy as np
import pandas as pd

IDS = [f"{n:016x}" for n in range(4)]
CLIPS = pd.DataFrame(
    {
        "clip_id": IDS,
        "video": [f"{n}.mp4" for n in range(4)],
        "source": "clips",
        "caption": ["a ball", "", "a box", "a star"],
        "motion": "",
        "num_frames": 17,
        "height": 64,
        "width": 64,
        "fps": 12.0,
        "duration": 17 / 12,
        "start": 0.0,
        "end": 17 / 12,
        "sha256": [f"{n:064x}" for n in range(4)],
        "file_size": 2000,
    }
)
BAD_FILES = pd.DataFrame({"file": ["cut.mp4"], "kind": "truncated", "reason": "truncated: 2 of 9 frames"})
FAILURES = pd.DataFrame({"clip_id": IDS[3:], "reason": ["no video stream"]})
SUMMARY = pd.DataFrame({"clip_id": IDS[:3], "finite": True, "min": 0.0, "max": 1.0, "norm": 1.0})
MASKS = SUMMARY.assign(
    coverage=[0.0, 0.5, 1.0],
    motion=[0.0, 3.0, 400.0],
    own_motion=[0.0, 0.0, 400.0],
    still=[True, False, False],
    camera=["static", "pan", "uncertain"],
    motion_kind=["still", "camera", "both"],
    inlier_ratio=[1.0, 0.9, 0.0],
    brightness=[0.5, 0.4, 0.6],
)
SKETCHES = SUMMARY.assign(ok=[True, True, False], norm=[1.0, 0.9999, np.nan], finite=[True, True, False])
RANKING = pd.DataFrame(
    {
        "clip_id": [IDS[2], IDS[0], IDS[1], IDS[3]],
        "rank": range(4),
        "votes": [5, 2, 0, 0],
        "influence": [0.4, 1.0002, -0.2, np.nan],
        "status": ["ok", "ok", "ok", "still"],
        "reason": "",
    }
)
SUBSET = pd.DataFrame({"clip_id": [IDS[2], IDS[0]], "rank": [0, 1], "why": "5 of 5 votes"})
LOSSES = pd.DataFrame({"step": range(3), "loss": [1.9, 1.2, 0.4], "learning_rate": 1e-3})
DISTANCES = pd.DataFrame({"metric": ["duration", "influence"], "distance": [0.05, 0.4], "chance": [0.0, 0.2]})
METRICS = pd.DataFrame({"metric": ["heldout_motion_loss_base", "num_pool"], "value": [0.5, 4]})

PER_CLIP = {"clips": CLIPS, "failures": FAILURES}
GOOD = {
    "clips": (CLIPS, {"failures": BAD_FILES}),
    "optical_flow": (SUMMARY, PER_CLIP),
    "masks": (MASKS, PER_CLIP),
    "latents": (SUMMARY, PER_CLIP),
    "sketches": (SKETCHES, PER_CLIP),
    "ranking": (RANKING, {"pool": CLIPS, "num_queries": 5}),
    "subset": (SUBSET, {"pool": CLIPS, "num_selected": 2}),
    "finetuning": (LOSSES, {"num_steps": 3}),
    "evaluation": (METRICS, {"required": ["num_pool"]}),
    "drift": (DISTANCES, {"threshold": 0.1}),
}


def spoilt(table: pd.DataFrame, row: int, column: str, value: object) -> pd.DataFrame:
    bad = table.copy()
    bad[column] = bad[column].astype(object)
    bad.loc[row, column] = value
    return bad.infer_objects()
