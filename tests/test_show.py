"""One clip of a finished project, shown by its id or its name."""

from pathlib import Path

import cv2
import pytest

from motive.show import show
from testing.flow_project import run, settings, use

pytestmark = [pytest.mark.usefixtures("flow_project"), pytest.mark.slow]


def test_one_clip_is_shown_by_its_id_or_its_name(videos: Path) -> None:
    ids = use(videos, "camera_pan", "slide")
    run(settings())
    facts, image = show("slide.mp4", settings(), None)
    assert facts["clip_id"] == ids["slide"]
    assert (facts["split"], facts["motion_kind"], facts["camera"]) == ("pool", "object", "static")
    assert facts["motion_px_per_second"] > 3
    sheet = cv2.imread(str(image))
    assert sheet is not None
    assert sheet.shape[0] > 4 * 120, "frames, optical flow, the same without the camera, mask"
    assert show(ids["camera_pan"][:8], settings(), Path("pan.png"))[0]["motion_kind"] == "camera"
    assert Path("pan.png").is_file()
    with pytest.raises(ValueError, match="no clip 'nothing' in pool: give a clip_id or a file name"):
        show("nothing", settings(), None)
    with pytest.raises(ValueError, match="2 clips are called ''"):
        show("", settings(), None)


def test_a_clip_without_a_mask_is_not_shown(videos: Path) -> None:
    use(videos, "broken", "slide")
    run(settings())
    with pytest.raises(ValueError, match=r"has no mask: see data/pool/masks/failures\.parquet"):
        show("broken.mp4", settings(), None)
