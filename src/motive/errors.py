"""Errors that callers tell apart."""

from typing import Literal, get_args

FailureKind = Literal[
    # a row of metadata, or the file that it names
    "bad_row",  # it can't be understood
    "repeated",  # an earlier row has its file
    "outside",  # its file lies outside the folder
    "no_file",  # nothing lies there, or a folder, a pipe, a device, a link to nothing
    "no_access",  # no permission, or the disk fails
    "sparse",  # mostly holes
    "no_caption",
    # what is in the file
    "zero_bytes",
    "not_a_video",
    "no_video_stream",
    "unknown_codec",
    "absurd_size",
    "absurd_length",  # or rate: only a broken header says so
    "truncated",
    "damaged",
    "no_motion",  # one frame, or none; in a query, nothing but the camera moves
    "too_short",
    # what became of the process that read it
    "out_of_memory",
    "hung",
    "crashed",
    # another clip shows the same
    "duplicate",
    "near_duplicate",
]
FAILURE_KINDS: tuple[FailureKind, ...] = get_args(FailureKind)


class TryAgain(ValueError):
    """Trying again later may mend it: a server that did not answer, a worker that died. Nothing is lost."""


class BadClip(ValueError):
    """What can't be a clip: of which kind, and why in words, for people."""

    def __init__(self, kind: FailureKind, reason: str):
        super().__init__(kind, reason)  # both, so that it can be pickled
        self.kind: FailureKind = kind
        self.reason = reason

    def __str__(self) -> str:
        return self.reason
