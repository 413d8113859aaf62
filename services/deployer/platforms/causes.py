"""What is said of a failed run on every platform: advice for each cause, the model server's last word, exit codes.

Pure.
"""

import json
import signal

from services.deployer.platforms.platform import Cause

LOG_LINES = 20
"""So many of a run's last lines are the evidence."""
EXIT_NOT_LOADED = 65
EXIT_NOT_FETCHED = 66
EXIT_NO_COMMAND = 127

ADVICE = {
    Cause.MODEL_LOAD: "Load the model as the replica does, on your own machine; the log has the traceback.",
    Cause.MODEL_DOWNLOAD: "Check that the version's artifact is still there and has the digest it was registered with.",
    Cause.OUT_OF_MEMORY: "Take an instance type with more memory, or make the model smaller.",
    Cause.CRASH: "The last lines of its log say why, as far as it knew.",
    Cause.PROBE: "Check that the service listens on $MOORAGE_HOST:$MOORAGE_PORT and answers the health path with 2xx.",
    Cause.IMAGE_PULL: "Check the image's name and tag, and the pull secret if its registry asks for one.",
    Cause.UNSCHEDULABLE: "Take an instance type that fits the cluster's nodes and what is free on them, or add nodes.",
    Cause.CONFIGURATION: "Correct the deployment as the message says; it is tried again by itself.",
    Cause.QUOTA: "Have the quota of the namespace raised, or take fewer replicas or a smaller instance type.",
}


def last_word(message: str) -> tuple[str, str | None] | None:
    """Message and advice of a termination message as the model server writes it (`{"cause", "message", "advice"}`)."""
    try:
        word = json.loads(message)
        return str(word["message"]), str(word["advice"]) if word.get("advice") else None
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def ended(code: int) -> str:
    """What an exit code says."""
    if code == EXIT_NO_COMMAND:
        return "Its command cannot be run (exit code 127)."
    if code > 128:
        try:
            return f"It was killed by {signal.Signals(code - 128).name}."
        except ValueError:
            pass
    return f"It ended by itself with exit code {code}."
