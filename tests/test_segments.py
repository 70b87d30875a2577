"""Segments cut a mask into ranges that add up to it, whatever their number."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from motive.maths.segments import segment_masks, segment_ranges


@given(st.integers(1, 40), st.integers(1, 50))
def test_ranges_follow_each_other_and_are_equal_but_for_one_frame(num_frames, num_segments):
    ranges = segment_ranges(num_frames, num_segments)
    assert [f for r in ranges for f in r] == list(range(num_frames))
    assert len(ranges) == num_segments
    assert max(map(len, ranges)) - min(map(len, ranges)) <= 1


@pytest.mark.parametrize("num_segments", [1, 2, 5, 9])
def test_masks_add_up_and_do_not_overlap(num_segments):
    mask = torch.rand(5, 2, 3) + 0.1
    masks = segment_masks(mask, num_segments)
    torch.testing.assert_close(masks.sum(0), mask)
    assert ((masks > 0).sum(0) == 1).all()
