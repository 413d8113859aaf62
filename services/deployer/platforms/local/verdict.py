"""Why a run ended: one cause, its evidence and what to do, out of what the shim wrote and the probes heard.

Pure. The model server's exit codes and its termination message (`{"cause", "message", "advice"}`) are believed only
for what it alone can know: that the model did not load or could not be fetched.
"""

import signal
from collections.abc import Sequence

from services.deployer.platforms import causes
from services.deployer.platforms.causes import ADVICE, LOG_LINES, ended, last_word
from services.deployer.platforms.local.health import Verdict
from services.deployer.platforms.local.state import RunState
from services.deployer.platforms.platform import Cause, Evidence, Failure


def judge(
    state: RunState | None, *, gave_up: Verdict | None, answer: int | None, probe: str, memory: int, log: Sequence[str]
) -> Failure:
    """The failure of a run that has ended. `gave_up`: the probes' reason, if it was we who ended it."""
    code = state.exit_code if state else None
    message = state.message if state else ""
    said, advice = last_word(message) or (message.strip(), None)
    match (state, gave_up):
        case (RunState(out_of_memory=True), _):
            cause, said, advice = Cause.OUT_OF_MEMORY, f"It used more than its {memory / 2**20:.0f} MiB.", None
            code = 128 + signal.SIGKILL
        case (_, Verdict()):
            cause, said, advice = Cause.PROBE, _unheard(gave_up, answer, probe), None
        case (None | RunState(exit_code=None), _):
            cause, said = Cause.CRASH, "It was killed together with the process that watches it."
        case (RunState(exit_code=causes.EXIT_NOT_FETCHED) | RunState(step="pull"), _):
            cause, said = Cause.MODEL_DOWNLOAD, said or f"Fetching the model ended with exit code {code}."
        case (RunState(exit_code=causes.EXIT_NOT_LOADED), _):
            cause, said = Cause.MODEL_LOAD, said or "The model did not load."
        case _:
            cause, said = Cause.CRASH, said or ended(code or 0)
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


def _unheard(verdict: Verdict, answer: int | None, probe: str) -> str:
    heard = "with no answer" if answer is None else f"its last answer was {answer}"
    if verdict is Verdict.NEVER_ANSWERED:
        return f"It did not become healthy in time: GET {probe}, {heard}."
    return f"It stopped answering GET {probe} and was ended."
