"""Laws of the motion mask."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from motive.maths.motion_mask import (
    is_still,
    magnitude,
    mean_speed,
    min_max,
    motion_mask,
    to_grid,
    to_latent_frames,
)

FPS = 12.0


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def moving(num_frames: int = 17, size: int = 16, seed: int = 0) -> Tensor:
    flow = noise(num_frames, 2, size, size, seed=seed)
    flow[0] = 0
    return flow


def mask_of(flow: Tensor, fps: float, floor: float, stride: int, size: tuple[int, int]) -> Tensor:
    return motion_mask(magnitude(flow), floor / fps, 100.0, stride, size)


def still_of(flow: Tensor, fps: float, floor: float) -> bool:
    return is_still(magnitude(flow), floor / fps)


def test_min_max_is_the_papers_formula() -> None:
    displacement = noise(5, 4, 4).abs()
    low, high = displacement.min(), displacement.max()
    assert torch.equal(min_max(displacement), (displacement - low) / (high - low + 1e-6))


def test_floor_zero_is_the_paper() -> None:
    """The whole way by hand, from the displacement to the latent grid."""
    flow = moving()
    length = (flow[:, 0] ** 2 + flow[:, 1] ** 2).sqrt()
    weights = (length - length.min()) / (length.max() - length.min() + 1e-6)
    halved = weights.unflatten(1, (8, 2)).unflatten(3, (8, 2)).mean((2, 4))
    groups = [halved[0:1], halved[1:5], halved[5:9], halved[9:13], halved[13:17]]
    expected = torch.stack([group.mean(0) for group in groups])
    torch.testing.assert_close(mask_of(flow, FPS, 0.0, 4, (8, 8)), expected)


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 1000),
    scale=st.floats(1e-3, 100),
    floor=st.sampled_from([0.0, 3.0, 30.0]),
    stride=st.sampled_from([1, 2, 4, 8]),
    size=st.sampled_from([(4, 4), (8, 6), (16, 16), (20, 20)]),
)
def test_weights_lie_within_zero_and_one(
    seed: int, scale: float, floor: float, stride: int, size: tuple[int, int]
) -> None:
    mask = mask_of(moving(seed=seed) * scale, FPS, floor, stride, size)
    assert mask.shape == (1 + 16 // stride, *size)
    assert mask.min() >= 0
    assert mask.max() <= 1


@pytest.mark.parametrize("floor", [0.0, 3.0])
def test_a_still_clip_has_an_empty_mask(floor: float) -> None:
    flow = torch.zeros(17, 2, 16, 16)
    assert mask_of(flow, FPS, floor, 4, (8, 8)).count_nonzero() == 0
    assert still_of(flow, FPS, floor)


def test_jitter_below_the_floor_is_still_and_without_a_floor_is_not() -> None:
    jitter = moving().clamp(-1, 1) * 0.1  # at most 0.14 px a frame: 1.7 px/s
    assert mask_of(jitter, FPS, 3.0, 4, (8, 8)).count_nonzero() == 0
    assert still_of(jitter, FPS, 3.0)
    assert mask_of(jitter, FPS, 0.0, 4, (8, 8)).max() > 0.3
    assert not still_of(jitter, FPS, 0.0)


def test_jitter_beside_motion_counts_nothing() -> None:
    flow = moving().clamp(-1, 1) * 0.1
    flow[1:, :, 4:8, 4:8] = 2.0
    mask = mask_of(flow, FPS, 3.0, 4, (8, 8))
    assert (mask[1:, 2:4, 2:4] > 0.99).all()
    assert mask.count_nonzero() == 4 * 4


def test_the_floor_is_pixels_per_second() -> None:
    flow = torch.zeros(5, 2, 2, 2)
    flow[1:, 0] = 0.5
    assert still_of(flow, 12.0, 6.1)
    assert not still_of(flow, 12.0, 6.0)
    assert not still_of(flow, 24.0, 6.1)


def test_mask_and_still_agree() -> None:
    for floor in (0.0, 10.0, 40.0, 60.0):
        flow = moving(seed=3)
        assert still_of(flow, FPS, floor) == (mask_of(flow, FPS, floor, 4, (8, 8)).count_nonzero() == 0)


def test_the_scale_of_the_motion_does_not_matter_without_a_floor() -> None:
    flow = moving() * 10
    torch.testing.assert_close(mask_of(flow, FPS, 0.0, 4, (8, 8)), mask_of(3 * flow, FPS, 0.0, 4, (8, 8)))


def test_the_direction_of_the_motion_does_not_matter() -> None:
    flow = moving()
    turned = torch.stack([-flow[:, 1], flow[:, 0]], 1)
    torch.testing.assert_close(mask_of(flow, FPS, 3.0, 4, (8, 8)), mask_of(turned, FPS, 3.0, 4, (8, 8)))


@pytest.mark.parametrize("stride", [1, 2, 4, 8])
def test_a_latent_frame_sees_its_own_frames_only(stride: int) -> None:
    """The causal grouping: moving frame f alone gives weight to latent frame ceil(f / stride) alone."""
    for frame in range(17):
        weights = torch.zeros(17, 2, 2)
        weights[frame] = 1
        latent = to_latent_frames(weights, stride)
        assert latent.shape == (1 + 16 // stride, 2, 2)
        seen = -(-frame // stride)
        assert latent[:, 0, 0].nonzero().flatten().tolist() == [seen]
        assert latent[seen, 0, 0] == (1 if frame == 0 else 1 / stride)


def test_the_first_latent_frame_weighs_nothing() -> None:
    """Frame 0 has no displacement, by contract."""
    assert mask_of(moving(), FPS, 0.0, 4, (8, 8))[0].count_nonzero() == 0


@pytest.mark.parametrize(("num_frames", "allowed"), [(16, "13 or 17"), (18, "17 or 21"), (2, "1 or 5")])
def test_left_over_frames_are_refused(num_frames: int, allowed: str) -> None:
    with pytest.raises(
        ValueError, match=rf"clips.num_frames is {num_frames}, .* one and then 4 at once: use {allowed}"
    ):
        to_latent_frames(torch.zeros(num_frames, 2, 2), 4)


def test_a_constant_stays_constant_on_any_grid() -> None:
    for size in ((3, 5), (8, 8), (40, 2)):
        torch.testing.assert_close(to_grid(torch.full((2, 8, 8), 0.7), size), torch.full((2, *size), 0.7))


def test_speed_is_per_second_and_leaves_frame_0_out() -> None:
    flow = torch.zeros(5, 2, 4, 4)
    flow[1:, 0], flow[1:, 1] = 3.0, 4.0
    assert magnitude(flow)[1:].unique().tolist() == [5.0]
    assert mean_speed(flow, 12.0) == 60.0
    assert mean_speed(flow[:3], 12.0) == 60.0


def test_speed_from_frame_0_is_that_of_the_steps() -> None:
    steps = torch.zeros(5, 2, 4, 4)
    steps[1:, 0] = 2.0
    assert mean_speed(steps.cumsum(0), 12.0, from_first=True) == mean_speed(steps, 12.0)


def test_one_wild_vector_does_not_dim_the_others() -> None:
    """Of 64 places that move, one is wild: at the 98th percentile and below it counts no more than they."""
    displacement = torch.zeros(3, 16, 16)
    displacement[1:, 4:8, 4:12] = 2.0
    displacement[1, 4, 4] = 200.0
    assert min_max(displacement)[2].max() < 0.02
    scaled = min_max(displacement, 98.0)
    assert scaled.max() == scaled[1, 4, 4] == 1
    torch.testing.assert_close(scaled[2].max(), torch.tensor(1.0))
    assert scaled.count_nonzero() == displacement.count_nonzero()


@pytest.mark.parametrize("percentile", [0.1, 50.0, 99.0, 100.0])
def test_a_percentile_is_of_what_moves(percentile: float) -> None:
    """However small the part that moves is, it keeps its order and its largest weight is 1."""
    displacement = torch.zeros(5, 64, 64)
    displacement[2, 3, 3:7] = torch.tensor([1.0, 2.0, 3.0, 4.0])
    scaled = min_max(displacement, percentile)
    assert (scaled[2, 3, 3:7].diff() >= 0).all()
    assert scaled[2, 3, 6] == pytest.approx(1, abs=1e-5)


def test_half_precision_flow_is_measured_in_full() -> None:
    flow = torch.full((5, 2, 2, 2), 300.0, dtype=torch.float16)  # its square is no float16
    assert magnitude(flow).isfinite().all()
