"""Segments cut a mask into ranges that add up to it, whatever their number."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from motive.maths.segments import segment_masks, segment_ranges, segment_seconds


@given(st.integers(1, 40), st.integers(1, 50))
def test_ranges_follow_each_other_and_are_equal_but_for_one_frame(num_frames, num_segments):
    ranges = segment_ranges(num_frames, num_segments)
    assert [f for r in ranges for f in r] == list(range(num_frames))
    assert len(ranges) == num_segments
    assert max(map(len, ranges)) - min(map(len, ranges)) <= 1


def test_seconds_are_those_of_the_frames_that_a_segments_latent_frames_are_made_of():
    """81 frames at 16 a second are latent frames of 1, 4, 4, ... frames: ten of them end after 37."""
    assert segment_seconds(81, 4, 2, 16.0) == [0, 37 / 16, 81 / 16]
    assert segment_seconds(13, 1, 2, 10.0) == [0, 0.6, 1.3]
    assert segment_seconds(5, 4, 4, 5.0) == [0, 0, 0.2, 1, 1]  # two latent frames: two segments are empty


@given(st.integers(1, 40), st.integers(1, 20), st.sampled_from([1, 4, 8]))
def test_seconds_begin_with_the_clip_and_end_with_it(num_latents, num_segments, stride):
    num_frames = 1 + (num_latents - 1) * stride
    seconds = segment_seconds(num_frames, stride, num_segments, 8.0)
    ranges = segment_ranges(num_latents, num_segments)
    assert (seconds[0], seconds[-1]) == (0, num_frames / 8)
    assert [a == b for a, b in pairwise(seconds)] == [not len(r) for r in ranges]


@pytest.mark.parametrize("num_segments", [1, 2, 5, 9])
def test_masks_add_up_and_do_not_overlap(num_segments):
    mask = torch.rand(5, 2, 3) + 0.1
    masks = segment_masks(mask, num_segments)
    torch.testing.assert_close(masks.sum(0), mask)
    assert ((masks > 0).sum(0) == 1).all()
