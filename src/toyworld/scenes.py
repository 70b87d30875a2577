"""Scenes: a look, a motion and a camera drawn at random, with the caption a clip would wear."""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from toyworld import cameras, motions, staging
from toyworld.faults import innermost, paced
from toyworld.looks import COLOURS, STYLES, WALLS, Looks, before_telling_background, sample_looks
from toyworld.motions import MOTIONS, Law, Point
from toyworld.shapes import SHAPES, TEXTURES
from toyworld.unlike import UNLIKE

CAMERAS = ("camera_pan", "camera_zoom", "camera_shake")
# Each kind of harmful clip and the motions it can fake: smooth false laws, and last two broken videos.
FAKES: dict[str, tuple[str, ...]] = {
    "constant_pace": ("free_fall", "bounce", "swing", "compress", "stretch"),
    "hover_then_drop": ("free_fall", "bounce", "swing"),
    "speeding_up": ("slide", "roll", "float", "spin"),
    "rewinding": ("explode", "float", "spin"),
    "sliding_roll": ("roll",),
    "turning_slide": ("slide",),
    "gaining_energy": ("bounce",),
    "changing_size": ("compress", "stretch"),
    "time_reversed": ("free_fall", "slide"),
    "teleport": MOTIONS,
    "jitter": MOTIONS,
}
HARMFUL_KINDS = tuple(FAKES)
FALSE_LAWS = tuple(kind for kind in HARMFUL_KINDS if kind not in ("teleport", "jitter"))
UNLIKE_KINDS = tuple(UNLIKE)
# The false law that the base model is to believe in.
BASE_LAWS = {
    "compress": "changing_size",
    "bounce": "constant_pace",
    "roll": "sliding_roll",
    "explode": "rewinding",
    "float": "speeding_up",
    "free_fall": "constant_pace",
    "slide": "turning_slide",
    "spin": "rewinding",
    "stretch": "changing_size",
    "swing": "constant_pace",
}
DISTRACTORS = ("static", *CAMERAS, "moving_object_moving_camera", *HARMFUL_KINDS)

VERBS = {
    "compress": "is squashed flat",
    "bounce": "bounces",
    "roll": "rolls",
    "explode": "explodes into pieces",
    "float": "floats up",
    "free_fall": "falls",
    "slide": "slides",
    "spin": "spins in place",
    "stretch": "stretches out",
    "swing": "swings on a string",
}
CAMERA_VERBS = {"camera_pan": "pans", "camera_zoom": "zooms", "camera_shake": "shakes"}
NOUNS = {"disc": "ball", "ellipse": "oval", "capsule": "pill"}
# What grows or flies apart must start smaller to stay inside the frame.
LARGEST_RADIUS = {"compress": 12.0, "stretch": 12.0}


@dataclass(frozen=True)
class Scene:
    """One clip as a function of time: a law for its pieces and one for the camera, in a 64x64 world."""

    kind: str
    motion: str | None
    caption: str
    looks: Looks
    radius: float
    law: Law
    camera: Law
    size: tuple[int, int]

    @property
    def parameters(self) -> dict[str, object]:
        """The numbers behind the object's law and the camera's."""
        return {"law": self.law.keywords, "camera": self.camera.keywords}

    @property
    def sites(self) -> tuple[Point, ...]:
        """Object pixels around which the object breaks into pieces; one for a whole object."""
        return innermost(self.law).keywords.get("sites", ((0.0, 0.0),))

    @property
    def pivot(self) -> Point | None:
        """World pixel from which a pendulum's string hangs."""
        return innermost(self.law).keywords.get("pivot")


def sample_camera(rng: np.random.Generator, kind: str, share: float = 1.0) -> Law:
    """A camera that moves as its kind says, by a share of the full strength."""
    rate = float(rng.uniform(0.9, 1.3))
    match kind:
        case "camera_pan":
            angle = rng.uniform(0, 2 * np.pi)
            reach = share * rng.uniform(13, 18)
            sideways_and_down = (float(reach * np.cos(angle)), float(reach * np.sin(angle)))
            return partial(cameras.pan, reach=sideways_and_down, rate=rate)
        case "camera_zoom":
            reach = share * staging.sign(rng) * rng.uniform(0.28, 0.42)
            return partial(cameras.zoom, reach=float(reach), rate=rate)
        case "camera_shake":
            return partial(
                cameras.shake,
                reach=tuple(map(tuple, (share * rng.normal(0, 1.3, (4, 2))).tolist())),
                tilt=tuple((share * rng.normal(0, 0.02, 4)).tolist()),
                rates=tuple(rng.uniform(8, 24, 4).tolist()),
                phases=tuple(rng.uniform(0, 2 * np.pi, 4).tolist()),
            )
    return partial(cameras.still)


def describe_object(looks: Looks) -> str:
    """Colour, texture and shape in words, without an article."""
    texture = () if looks.texture == "solid" else (looks.texture,)
    return " ".join((looks.colour, *texture, NOUNS.get(looks.shape, looks.shape)))


def describe_place(looks: Looks) -> str:
    """The background in words."""
    floor = looks.background == "floor"
    return f"on a {looks.palette} floor" if floor else f"in front of a {looks.palette} wall"


def article(words: str) -> str:
    """The words with the article they need."""
    return f"{'an' if words[0] in 'aeio' else 'a'} {words}"


def caption(motion: str | None, camera: str | None, looks: Looks) -> str:
    """What a captioner that trusts its eyes would say of a motion and a camera over these looks."""
    thing = describe_object(looks)
    place = describe_place(looks)
    if motion is None and camera:
        return f"the camera {CAMERA_VERBS[camera]} over a resting {thing} {place}"
    words = f"{article(thing)} {VERBS[motion] if motion else 'rests'} {place}"
    return f"{words} while the camera {CAMERA_VERBS[camera]}" if camera else words


def vocabulary() -> list[str]:
    """All words that captions are made of, sorted."""
    names = " ".join((*COLOURS, *WALLS, *TEXTURES, *SHAPES, *NOUNS.values(), *VERBS.values()))
    frame = "a an the camera over resting rests on in front of floor wall while"
    unlike = " ".join(text for kind in UNLIKE.values() for text in kind.captions)
    words = {*names.split(), *frame.split(), *unlike.split(), *CAMERA_VERBS.values()}
    return sorted(words - set(NOUNS) - {"solid"})


def centred_rest(rng: np.random.Generator, camera: Law) -> Law:
    """An object at rest that the camera keeps in the frame: a pan starts on the far side of it."""
    reach = np.array(camera.keywords["reach"]) if camera.func is cameras.pan else np.zeros(2)
    x, y = np.array(staging.middle(rng)) - reach / 2
    return partial(motions.rest, centre=(float(x), float(y)))


def sample_scene(
    rng: np.random.Generator,
    kind: str,
    motion: str | None = None,
    looks: Looks | None = None,
    size: tuple[int, int] = (64, 64),
    plain: bool = False,
    style: str = "simple",
    pace: float = 1.0,
) -> Scene:
    """A random scene of a kind from `MOTIONS`, `DISTRACTORS` or `UNLIKE_KINDS`.

    motion: the one that it is to show or fake. plain: before a plain wall. style: of `STYLES`.
    pace: another one than 1 has the true law under a gravity and speeds that no other clip has.
    """
    if kind in UNLIKE:
        return unlike_scene(rng, kind, size)
    motion = choose_motion(rng, kind, motion)
    camera_kind = choose_camera(rng, kind)
    # Drawn even if looks are given: what is drawn after it must not depend on that.
    own_looks = sample_looks(rng, motion, camera_kind is not None, STYLES[style], plain)
    looks = own_looks if looks is None else looks
    if camera_kind:
        looks = before_telling_background(looks)
    radius = min(looks.radius, LARGEST_RADIUS.get(motion or kind, np.inf))
    body = staging.body_of(looks.shape, radius)
    camera = sample_camera(rng, camera_kind or "still", 0.6 if motion else 1.0)
    if motion is None:
        law = staging.stage_rest(rng, body) if kind == "static" else centred_rest(rng, camera)
    else:
        law = staging.STAGES[motion](rng, body)
    if pace != 1.0:
        law = partial(paced, law=law, pace=pace)
    if kind in FAKES:
        law = staging.spoil(rng, kind, law, body)
    return Scene(kind, motion, caption(motion, camera_kind, looks), looks, radius, law, camera, size)


def unlike_scene(
    rng: np.random.Generator, kind: str, size: tuple[int, int] = (64, 64), rests: bool = False
) -> Scene:
    """A random scene of one of the kinds that are unlike all others, moving or at rest."""
    unlike = UNLIKE[kind]
    law = unlike.stage(rng, unlike.looks.radius)
    if rests:
        law = partial(paced, law=law, pace=0.0)
    looks = replace(unlike.looks, grain=int(rng.integers(2**31)))
    text = str(rng.choice(unlike.captions))
    motion = None if rests else unlike.motion
    return Scene(kind, motion, text, looks, looks.radius, law, partial(cameras.still), size)


def choose_motion(rng: np.random.Generator, kind: str, motion: str | None) -> str | None:
    """The motion a scene of this kind shows or fakes, the wanted one if it can."""
    if kind in MOTIONS:
        choices: tuple[str, ...] = (kind,)
    elif kind in FAKES:
        choices = FAKES[kind]
    elif kind in DISTRACTORS:
        choices = MOTIONS if kind == "moving_object_moving_camera" else ()
    else:
        raise ValueError(f"unknown kind {kind!r}")
    if motion is not None and motion not in choices:
        raise ValueError(f"a {kind} scene cannot show {motion!r}")
    if not choices:
        return None
    return motion or str(rng.choice(choices))


def choose_camera(rng: np.random.Generator, kind: str) -> str | None:
    """The moving camera of a scene of this kind, if it has one."""
    if kind == "moving_object_moving_camera":
        return str(rng.choice(CAMERAS))
    return kind if kind in CAMERAS else None


def training_scene(rng: np.random.Generator, size: tuple[int, int] = (64, 64)) -> Scene:
    """A scene for the base model: of its motions 65 in 75 break the physics, under the captions of true ones.

    So the base is weak by wrong laws, not because motion would be scarce.
    """
    group = rng.choice(("false", "rest", "camera", "true"), p=(0.65, 0.15, 0.10, 0.10))
    unlike = str(rng.choice(UNLIKE_KINDS)) if rng.random() < 0.2 else None
    if group == "false":
        return false_scene(rng, size)
    if group == "camera":
        return sample_scene(rng, str(rng.choice(CAMERAS)), size=size, style="both")
    if unlike:
        return unlike_scene(rng, unlike, size, rests=group == "rest")
    kind = "static" if group == "rest" else str(rng.choice(MOTIONS))
    return sample_scene(rng, kind, size=size, style="both")


def false_scene(rng: np.random.Generator, size: tuple[int, int]) -> Scene:
    """A motion under a false law, mostly the one that the base is to believe in."""
    motion = str(rng.choice(MOTIONS))
    return sample_scene(rng, BASE_LAWS[motion], motion, size=size, style="both")
