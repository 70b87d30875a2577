"""The chart of falls: what it reads of a video, and that it says so when there is nothing to draw."""

import numpy as np
import pandas as pd
import pytest

from motive.store.files import write_table
from motive.video.writing import write_video
from toyworld import MOTIONS, draw_clip, sample_scene
from toyworld.falls import GRAVITY, draw_generated_falls, fallen, is_of_fall


def test_a_true_fall_follows_the_parabola_until_it_lands():
    scene = sample_scene(np.random.default_rng(0), "free_fall", "free_fall")
    line = fallen(draw_clip(scene, 9, 8.0).frames, scene.caption)
    times = np.arange(5) / 8
    np.testing.assert_allclose(line[:5], GRAVITY * times**2 / 2, atol=1.0)


def test_only_captions_of_falls_name_one():
    captions = {motion: sample_scene(np.random.default_rng(0), motion, motion).caption for motion in MOTIONS}
    assert [motion for motion, caption in captions.items() if is_of_fall(caption)] == ["free_fall"]
    assert not is_of_fall("a dog falls")


def test_generated_falls_are_drawn_of_both_models(tmp_path):
    rows = []
    for model in ("base", "tuned"):
        for motion in ("free_fall", "roll"):
            scene = sample_scene(np.random.default_rng(1), motion, motion)
            video = tmp_path / f"{model}-{motion}.mp4"
            write_video(video, draw_clip(scene, 9, 8.0).frames, 8.0)
            rows.append({"model": model, "prompt": scene.caption, "video": str(video)})
    write_table(tmp_path / "videos.parquet", pd.DataFrame(rows))
    out = tmp_path / "new" / "falls.png"
    draw_generated_falls(tmp_path, out)
    assert out.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("rows", [None, [{"model": "base", "prompt": "a dog runs", "video": "a.mp4"}]])
def test_nothing_to_draw_is_an_error(rows, tmp_path):
    if rows:
        write_table(tmp_path / "videos.parquet", pd.DataFrame(rows))
    with pytest.raises(ValueError, match=r"videos\.parquet"):
        draw_generated_falls(tmp_path, tmp_path / "falls.png")
