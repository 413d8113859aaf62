"""`python -m modelserver`: see docs/model-server.md for options, protocol and exit codes."""

import faulthandler
import io
import logging
import os
import signal
import sys

from modelserver.termination import Exit, Failure, report


def main() -> Exit:
    """Serve, and say how it ended."""
    # Until the server takes the signals over there is nothing to drain.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(Exit.DONE))
    faulthandler.enable()  # a crash inside a library leaves a trace in the log
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # what the model prints is in the log at once
    # Without times: whoever runs a replica stamps every line, the model's prints as well.
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    from modelserver import server, settings  # slower to import, so after the signal handler

    try:
        return server.run(settings.parse(sys.argv[1:]))
    except Failure as failure:
        report(failure)
        return failure.exit


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    sys.stdout.flush()
    if code is not Exit.DONE:
        os._exit(code)  # a thread of the model may still run and would hold the interpreter back
    sys.exit(code)
