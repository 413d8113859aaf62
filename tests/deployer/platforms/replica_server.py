"""A replica for tests: a tiny HTTP server whose environment and requests say how it is to behave.

GET / answers a pid, /who what only this run answers, /env its environment; /sick and /well say what /readyz answers
from now on, /crash?<code> ends it, /hang makes it deaf, /eat?<MiB> takes memory, /say?<text> prints a line, /slow
answers late, /daemon leaves a process.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from uuid import uuid4

state = {"status": 200, "hold": [], "who": str(uuid4())}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path, _, argument = self.path.partition("?")
        status, body = 200, ""
        match path:
            case "/readyz":
                status = state["status"]
            case "/who":
                body = state["who"]
            case "/env":
                body = json.dumps(dict(os.environ))
            case "/sick":
                state["status"] = 503
            case "/well":
                state["status"] = 200
            case "/crash":
                print("the end is near", flush=True)
                os._exit(int(argument or 3))
            case "/hang":
                os.kill(os.getpid(), signal.SIGSTOP)
            case "/eat":
                state["hold"].append(bytearray(b"x") * (int(argument) << 20))
            case "/say":
                print(argument, flush=True)
            case "/slow":
                time.sleep(0.2)
            case "/daemon":
                child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
                body = str(child.pid)
            case _:
                body = str(os.getpid())
        data = body.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = False
    block_on_close = True
    request_queue_size = 128


def main():
    if "FAIL" in os.environ:
        print("cannot load the model", flush=True)
        Path(os.environ["MOORAGE_TERMINATION_LOG"]).write_text(os.environ.get("LAST_WORD", ""))
        sys.exit(int(os.environ["FAIL"]))
    if "MUTE" in os.environ:
        time.sleep(1000)
    server = Server((os.environ["MOORAGE_HOST"], int(os.environ["MOORAGE_PORT"])), Handler)
    if os.environ.get("STUBBORN"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print("serving", *sys.argv[1:], flush=True)
    server.serve_forever(poll_interval=0.02)
    server.server_close()
    print("drained", flush=True)


main()
