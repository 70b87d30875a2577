"""Laws of trackers made of pairs: steps add up, what is lost stays lost, the check doubts what hides."""

import numpy as np
import pytest

from motive.trackers.interface import load_tracker
from motive.trackers.pairs import FlowStep, adjacent, chained
from testing.moving_textures import disc, shifted

SIZE = (32, 48)
FRAMES = [np.full(SIZE, f, np.uint8) for f in range(5)]  # each knows which frame it is


def followed(frames: np.ndarray, **settings: object) -> list[FlowStep]:
    defaults = {"tracker": "dis", "preset": "medium", "reference": "adjacent", "check": False}
    return list(load_tracker(defaults | settings)(iter(frames)))


def moving(step: tuple[float, float], before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What a perfect tracker says if all moves by `step` a frame."""
    frames = int(after[0, 0]) - int(before[0, 0])
    flow = np.broadcast_to(np.reshape(step, (2, 1, 1)) * np.float32(frames), (2, *SIZE))
    return flow.astype(np.float32), np.ones(SIZE, bool)


@pytest.mark.parametrize("step", [(2.0, 0.0), (-1.5, 1.0), (0.0, 0.0)])
def test_perfect_steps_add_up_until_a_point_leaves(step):
    def pair(before, after):
        return moving(step, before, after)

    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    stayed = np.zeros(SIZE, int)  # frames, of each point
    for f, (flow, sure) in enumerate(chained(pair, FRAMES)):
        inside = (abs(x + f * step[0] - (SIZE[1] - 1) / 2) <= SIZE[1] / 2) & (
            abs(y + f * step[1] - (SIZE[0] - 1) / 2) <= SIZE[0] / 2
        )
        stayed = np.where(inside, f, stayed)
        np.testing.assert_array_equal(sure, inside)
        np.testing.assert_allclose(flow, stayed * np.reshape(step, (2, 1, 1)), atol=1e-4)


def test_a_chain_follows_the_things_not_the_places():
    """Steps are read where the point has come to: of x' = 1.1 x four steps are 1.1^4 x."""
    x = np.indices(SIZE, np.float32)[1]

    def pair(before, after):
        factor = 1.1 ** (int(after[0, 0]) - int(before[0, 0])) - 1
        return np.stack([x * np.float32(factor), np.zeros_like(x)]), np.ones(SIZE, bool)

    *_, (flow, sure) = chained(pair, FRAMES)
    there = x * 1.1**4 <= SIZE[1] - 1
    np.testing.assert_allclose(flow[0][there], (x * (1.1**4 - 1))[there], atol=1e-3)
    assert (sure[there] == 1).all()


def test_what_does_not_return_is_lost_for_good():
    """Between frames 1 and 2 the way back leads nowhere for the left half."""

    def pair(before, after):
        flow, seen = moving((1.0, 0.0), before, after)
        if (before[0, 0], after[0, 0]) == (2, 1):
            flow[:, :, :24] = 5
        return flow, seen

    flows, sures = zip(*chained(pair, FRAMES), strict=True)
    assert [sure[:, :20].mean() for sure in sures] == [1, 1, 0, 0, 0]
    assert [flow[0, :, :20].mean() for flow in flows] == [0, 1, 1, 1, 1]
    assert [flow[0, :, 30:40].mean() for flow in flows] == pytest.approx([0, 1, 2, 3, 4])


def test_a_chain_is_as_sure_as_its_weakest_step():
    def pair(before, after):
        flow, _ = moving((0.0, 0.0), before, after)
        return flow, np.full(SIZE, 0.5 if after[0, 0] == 2 else 0.9, np.float32)

    assert [sure[9, 9] for _, sure in chained(pair, FRAMES)] == pytest.approx([1, 0.9, 0.5, 0.5, 0.5])


def test_without_the_check_confidence_is_the_trackers():
    def pair(before, after):
        return np.full((2, *SIZE), 3, np.float32), np.full(SIZE, 0.7, np.float32)  # never returns

    assert [sure.mean() for _, sure in adjacent(pair, FRAMES[:2], False)] == pytest.approx([1, 0.7])
    assert [sure.mean() for _, sure in adjacent(pair, FRAMES[:2], True)] == pytest.approx([1, 0])


# ---- by DIS


@pytest.mark.parametrize("step", [(1.0, 0.0), (-2.5, 1.5), (0.0, 3.0)])
def test_a_translation_is_f_steps_from_frame_0(step):
    flows, sures = zip(*followed(shifted(step, 6), reference="first"), strict=True)
    for f, (flow, sure) in enumerate(zip(flows, sures, strict=True)):
        inner = np.s_[20:44, 20:44]  # never leaves
        assert np.hypot(*(flow[:, *inner] - f * np.reshape(step, (2, 1, 1)))).mean() < 0.1 * max(f, 1)
        assert sure[inner].mean() > 0.95


def test_from_frame_0_the_first_step_is_the_adjacent_one():
    frames = shifted((2, 1), 2)
    first, near = followed(frames, reference="first")[1], followed(frames)[1]
    kept = first.confidence > 0
    np.testing.assert_allclose(first.flow[:, kept], near.flow[:, kept], atol=1e-4)


def test_what_leaves_the_frame_is_lost():
    sures = [sure for _, sure in followed(shifted((4.0, 0.0), 6), reference="first")]
    assert [sure[:, 46:].mean() > 0.9 for sure in sures][:2] == [True, False]
    assert not sures[5][:, 46:].any()
    assert sures[5][16:48, 4:40].mean() > 0.9


def test_the_check_believes_a_translation_and_doubts_what_gets_covered():
    assert followed(shifted((3.0, 1.0)), check=True)[2].confidence[12:52, 12:52].mean() > 0.98
    believed = {True: [], False: []}
    for seed in range(4):
        frames, place = disc(np.array([7.0, 0.0]), seed)
        covered = np.roll(place, 7, 1) & ~place
        sure = followed(frames, check=True)[1].confidence
        for hidden, where in ((True, covered), (False, ~place & ~np.roll(place, 7, 1))):
            believed[hidden].append(sure[where].mean())
    assert np.mean(believed[True]) < 0.35
    assert np.mean(believed[False]) > 0.75


def test_the_check_changes_no_vector():
    frames = shifted((2, 1))
    for plain, checked in zip(followed(frames), followed(frames, check=True), strict=True):
        np.testing.assert_array_equal(plain.flow, checked.flow)
        assert (checked.confidence <= plain.confidence).all()


@pytest.mark.parametrize("settings", [{}, {"check": True}, {"reference": "first"}])
def test_frames_stream_by(settings):
    """Each frame's answer comes before the next frame is asked for."""
    requests = []

    def frames():
        for f, frame in enumerate(shifted((1, 0), 4)):
            requests.append(f)
            yield frame

    chosen = {"tracker": "dis", "preset": "fast", "reference": "adjacent", "check": False} | settings
    for f, _ in enumerate(load_tracker(chosen)(frames())):
        assert requests == list(range(f + 1))
