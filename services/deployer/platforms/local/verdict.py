"""Why a run ended: one cause, its evidence and what to do, out of what the shim wrote and the probes heard.

Pure. The model server's exit codes and its termination message (`{"cause", "message", "advice"}`) are believed only
for what it alone can know: that the model did not load or could not be fetched.
"""

import json
import signal
from collections.abc import Sequence

from services.deployer.platforms.local.health import Verdict
from services.deployer.platforms.local.state import RunState
from services.deployer.platforms.platform import Cause, Evidence, Failure

LOG_LINES = 20
EXIT_NO_COMMAND = 127

ADVICE = {
    Cause.MODEL_LOAD: "Load the model as the replica does, on your own machine; the log has the traceback.",
    Cause.MODEL_DOWNLOAD: "Check that the version's artifact is still there and has the digest it was registered with.",
    Cause.OUT_OF_MEMORY: "Take an instance type with more memory, or make the model smaller.",
    Cause.CRASH: "The last lines of its log say why, as far as it knew.",
    Cause.PROBE: "Check that the service listens on $MOORAGE_HOST:$MOORAGE_PORT and answers the health path with 2xx.",
}


def judge(
    state: RunState | None, *, gave_up: Verdict | None, answer: int | None, probe: str, memory: int, log: Sequence[str]
) -> Failure:
    """The failure of a run that has ended. `gave_up`: the probes' reason, if it was we who ended it."""
    code = state.exit_code if state else None
    said, advice = _last_word(state.message if state else "")
    match (state, gave_up):
        case (RunState(out_of_memory=True), _):
            cause, said, advice = Cause.OUT_OF_MEMORY, f"It used more than its {memory / 2**20:.0f} MiB.", None
            code = 128 + signal.SIGKILL
        case (_, Verdict()):
            cause, said, advice = Cause.PROBE, _unheard(gave_up, answer, probe), None
        case (None | RunState(exit_code=None), _):
            cause, said = Cause.CRASH, "It was killed together with the process that watches it."
        case (RunState(exit_code=66) | RunState(step="pull"), _):
            cause, said = Cause.MODEL_DOWNLOAD, said or f"Fetching the model ended with exit code {code}."
        case (RunState(exit_code=65), _):
            cause, said = Cause.MODEL_LOAD, said or "The model did not load."
        case _:
            cause, said = Cause.CRASH, said or _ended(code or 0)
    return Failure(
        cause=cause,
        message=said,
        advice=advice or ADVICE[cause],
        evidence=Evidence(exit_code=code, log=tuple(log[-LOG_LINES:])),
    )


def no_gpu(wanted: float) -> Failure:
    return Failure(
        cause=Cause.UNSCHEDULABLE,
        message=f"It needs {wanted:g} GPU, and this machine has none.",
        advice="Take an instance type without GPU, or run the deployment on Kubernetes.",
    )


def not_started(error: Exception) -> Failure:
    return Failure(
        cause=Cause.CRASH,
        message=f"It could not be started: {error}",
        advice="Look at the free disk space and the process limits of this machine.",
    )


def _last_word(message: str) -> tuple[str, str | None]:
    """Message and advice of a termination message; it may be any text."""
    try:
        word = json.loads(message)
        return str(word["message"]), str(word["advice"]) if word.get("advice") else None
    except (ValueError, TypeError, KeyError, AttributeError):
        return message.strip(), None


def _unheard(verdict: Verdict, answer: int | None, probe: str) -> str:
    heard = "with no answer" if answer is None else f"its last answer was {answer}"
    if verdict is Verdict.NEVER_ANSWERED:
        return f"It did not become healthy in time: GET {probe}, {heard}."
    return f"It stopped answering GET {probe} and was ended."


def _ended(code: int) -> str:
    if code == EXIT_NO_COMMAND:
        return "Its command cannot be run (exit code 127)."
    if code > 128:
        try:
            return f"It was killed by {signal.Signals(code - 128).name}."
        except ValueError:
            pass
    return f"It ended by itself with exit code {code}."
