"""How a replica says why it ended: an exit code and a termination message, as Kubernetes knows them.

The platform reads both.  The traceback, if there is one, goes to stderr and so into the replica's log.
"""

import contextlib
import enum
import json
import os
import sys
import traceback
from pathlib import Path

MESSAGE_LIMIT = 1500
"""Kubernetes cuts a termination message at 4096 bytes; half a JSON document would tell nobody anything."""


class Exit(enum.IntEnum):
    """Exit codes; the numbers from 64 up follow sysexits(3) where it has one."""

    DONE = 0
    USAGE = 64
    MODEL_LOAD = 65
    MODEL_DOWNLOAD = 66
    NO_ADDRESS = 71
    DRAIN_INCOMPLETE = 75


class Failure(Exception):
    """Why this process cannot go on: the fact, and what to do about it."""

    exit: Exit
    cause: str

    def __init__(self, message: str, *, advice: str) -> None:
        super().__init__(message)
        self.message = message
        self.advice = advice


class UsageError(Failure):
    """The command line or the environment is wrong."""

    exit = Exit.USAGE
    cause = "usage"


class ModelLoadFailed(Failure):
    """The model or its InferenceService is broken."""

    exit = Exit.MODEL_LOAD
    cause = "model_load"


class ModelDownloadFailed(Failure):
    """The model did not arrive, or not as promised."""

    exit = Exit.MODEL_DOWNLOAD
    cause = "model_download"


class AddressUnavailable(Failure):
    """The port could not be bound."""

    exit = Exit.NO_ADDRESS
    cause = "crash"


def report(failure: Failure) -> None:
    """Tell the platform (MOORAGE_TERMINATION_LOG) and the log; the original error's traceback comes first."""
    if failure.__cause__ is not None:
        traceback.print_exception(failure.__cause__, file=sys.stderr)
    sys.stderr.write(f"{failure.cause}: {printable(failure.message)}\n{printable(failure.advice)}\n")
    sys.stderr.flush()
    if path := os.environ.get("MOORAGE_TERMINATION_LOG"):
        document = {
            "cause": failure.cause,
            "message": printable(failure.message),
            "advice": printable(failure.advice),
        }
        # Written in place: on Kubernetes the file is a mount, which cannot be replaced.  If it cannot be written, the
        # exit code and the log still tell.
        with contextlib.suppress(OSError):
            Path(path).write_text(json.dumps(document), encoding="utf-8")


def printable(text: str) -> str:
    """`text` without what cannot be encoded (lone surrogates of odd file names), and of bounded length."""
    text = text.encode("utf-8", "replace").decode("utf-8")
    return text if len(text) <= MESSAGE_LIMIT else text[:MESSAGE_LIMIT] + "…"
