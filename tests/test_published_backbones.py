"""The configs of published models: as many parameters, strides and sizes as their authors say."""

import pytest

from testing.published_backbones import BACKBONES, describe

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("backbone", "num_parameters", "strides", "channels", "frames", "multiple"),
    [
        (BACKBONES[0], 1_418_996_800, (4, 8, 8), 16, 4, 16),
        (BACKBONES[1], 14_288_491_584, (4, 8, 8), 16, 4, 16),
        (BACKBONES[2], 4_999_787_712, (4, 16, 16), 48, 4, 32),
        (BACKBONES[3], 14_288_491_584, (4, 8, 8), 16, 4, 16),
        (BACKBONES[4], 1_923_385_472, (8, 32, 32), 128, 8, 32),
    ],
    ids=lambda value: getattr(value, "hub_id", None),
)
def test_the_published_config_has_the_published_size(
    backbone, num_parameters, strides, channels, frames, multiple
):
    row = describe(backbone)
    assert row["parameters"] == num_parameters
    assert row["strides"] == strides
    assert (row["channels"], row["frames"]) == (channels, frames)
    assert row["sizes"] == (multiple, multiple)
