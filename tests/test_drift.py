"""Drift: seen where clips differ, not where chance alone does, at any size of a pool."""

import numpy as np
import pandas as pd
import pytest

from motive.checks import check
from motive.checks.suites import UNLIKELY
from motive.recording.drift import COLUMNS, distances

pytestmark = pytest.mark.slow

NUM_TRIALS = 100
THRESHOLD = 0.1  # as it ships


def profile(num_clips: int, seed: int, speed: float = 1.0) -> pd.DataFrame:
    """A pool as real ones are: lengths that repeat, speeds with a long tail, influences around zero."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "clip_id": [f"{seed:08x}{n:08x}" for n in range(num_clips)],
            "duration": rng.choice([2.0, 5.0, 5.0, 10.0], num_clips),
            "own_motion": speed * rng.lognormal(2, 1, num_clips),
            "influence": rng.normal(0, 0.1, num_clips),
        }
    )


def warned(now: pd.DataFrame, before: pd.DataFrame, caplog: pytest.LogCaptureFixture) -> set[str]:
    """The numbers that the shipped threshold warns of."""
    caplog.clear()
    check("drift", distances(now, before), threshold=THRESHOLD)
    warning = "".join(record.message for record in caplog.records if record.levelname == "WARNING")
    return {name for name in COLUMNS.values() if f"{name} (" in warning}


def by_name(drift: pd.DataFrame) -> dict[str, float]:
    return dict(zip(drift["metric"], drift["distance"], strict=True))


@pytest.mark.parametrize("num_clips", [50, 200, 1000])
def test_chance_alone_is_no_drift(num_clips: int) -> None:
    alarms = 0
    for seed in range(NUM_TRIALS):
        drift = distances(profile(num_clips, 2 * seed), profile(num_clips, 2 * seed + 1))
        alarms += len(drift.query(f"distance > {THRESHOLD} and chance < {UNLIKELY}"))
    assert alarms <= 0.02 * NUM_TRIALS * len(COLUMNS)


@pytest.mark.parametrize(("num_clips", "speed"), [(50, 4.0), (200, 2.0), (1000, 1.4)])
def test_faster_clips_are_seen_and_nothing_else(num_clips: int, speed: float, caplog) -> None:
    seen = [
        warned(profile(num_clips, 2 * n, speed), profile(num_clips, 2 * n + 1), caplog) for n in range(20)
    ]
    assert sum("own_motion" in names for names in seen) >= 19
    assert sum(len(names - {"own_motion"}) for names in seen) <= 1


def test_a_length_that_all_clips_had_and_none_has_now_is_the_largest_distance() -> None:
    now = profile(50, 0).assign(duration=2.0)
    before = profile(50, 1).assign(duration=1.3)
    assert by_name(distances(now, before))["duration"] == 1
    assert set(by_name(distances(before, before)).values()) == {0}


def test_a_tenth_of_the_pool_replaced_is_a_tenth_at_most() -> None:
    before = profile(1000, 0)
    now = before.copy()
    now.loc[:99, "own_motion"] = 1e9
    drift = by_name(distances(now, before))
    assert 0.08 < drift["own_motion"] <= 0.1
    assert drift["influence"] == 0


def test_clips_without_a_number_and_numbers_of_one_side_are_left_out() -> None:
    before = profile(50, 0).drop(columns="duration")
    now = profile(50, 0)
    now.loc[:9, "influence"] = np.nan
    drift = by_name(distances(now, before))
    assert list(drift) == ["own_motion", "influence"]
    assert drift["influence"] < 0.1
