"""The main job: from a model on disk to a live, protected, measured endpoint, and back to nothing."""

import io
import json
import shutil
import tarfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from deploy.demo.client import Client
from deploy.demo.narrator import Narrator

EXAMPLES = Path(__file__).parents[2] / "examples"
GROUP, MODEL, DEPLOYMENT = "clinic", "tumour", "tumour"
CALLS_WHILE_SHIFTING = 1000


@dataclass(frozen=True)
class Trained:
    """What training has left of one variant: the packed model folder, and what the model itself predicts."""

    archive: bytes
    metrics: dict[str, Any]
    curves: dict[str, Any]
    parameters: dict[str, Any]
    rows: list[list[float]]
    expected: list[float]

    @classmethod
    def read(cls, folder: Path) -> "Trained":
        documents = {name: json.loads((folder / f"{name}.json").read_text()) for name in ("metrics", "curves")}
        samples = json.loads((folder / "samples.json").read_text())
        return cls(
            archive=pack(folder / "model"),
            metrics=documents["metrics"],
            curves=documents["curves"],
            parameters=json.loads((folder / "parameters.json").read_text()),
            rows=samples["rows"],
            expected=samples["expected"],
        )


def pack(folder: Path) -> bytes:
    """The folder's content as a gzipped tar."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for file in sorted(folder.iterdir()):
            if file.is_file():
                archive.add(file, arcname=file.name)
    return packed.getvalue()


def dense(rows: list[list[float]]) -> dict[str, Any]:
    """TDInsight's request body for dense rows."""
    return {"type": "dense", "feature_num": str(len(rows[0])), "data": {"insts": rows}}


def libsvm(row: list[float]) -> dict[str, Any]:
    """TDInsight's request body for one sparse row."""
    values = " ".join(f"{index}:{value}" for index, value in enumerate(row, start=1) if value)
    return {"type": "libsvm", "feature_num": str(len(row)), "data": {"insts": f"0 {values}"}}


class Journey:
    """Each method is one step; they build on one another."""

    def __init__(self, client: Client, show: Narrator) -> None:
        self._client = client
        self._show = show
        self._client_token = ""

    def sign_in(self, password: str) -> None:
        self._show.step("Sign in, make a group with a quota, and an instance type")
        self._client.name(password, "PASSWORD")
        form = {"grant_type": "password", "username": "admin", "password": password}
        self._show.command(self._client.curl("POST", "/api/v1/auth/token", form=form))
        answer = self._client.call("POST", "/api/v1/auth/token", form=form, quiet=True)
        given = answer.json()
        self._client.token = given["access_token"]
        self._client.name(given["access_token"], "TOKEN")
        self._client.name(given["refresh_token"], "REFRESH_TOKEN")
        self._show.answer(answer.status_code, given | {"access_token": "$TOKEN", "refresh_token": "$REFRESH_TOKEN"})
        self._show.check("the token is good for /me", self._client.api("GET", "/me").json().get("admin") is True)
        quota = {"cpu": 4, "memory": "4Gi", "gpu": 0, "deployments": 3}
        group = {"id": GROUP, "name": "Clinic", "deployment_enabled": True, "quota": quota}
        self._expect(201, self._client.api("POST", "/groups", group))
        size = {"id": "small", "name": "Half a core", "cpu": "500m", "memory": "512Mi"}
        self._expect(201, self._client.api("POST", "/instance-types", size))

    def register(self, versions: list[Trained]) -> None:
        self._show.step("Upload the trained model and register two versions, with metrics and training curves")
        for number, trained in enumerate(versions, start=1):
            upload = (f"model-v{number}.tar.gz", trained.archive)
            uri = self._client.call("POST", "/api/v1/artifacts", upload=upload, headers=self._authorization()).json()[
                "uri"
            ]
            body = {
                "artifact": uri,
                "framework": "sklearn",
                "metrics": trained.metrics,
                "parameters": trained.parameters,
                "curves": trained.curves,
            }
            path = f"/models/{GROUP}/{MODEL}/versions"
            answer = self._client.api("POST", path, body, quiet=True)
            self._show.command(
                f'curl -X POST -H "Authorization: Bearer $TOKEN" -d @version-{number}.json …/api/v1{path}'
            )
            self._show.answer(answer.status_code, {k: answer.json().get(k) for k in ("number", "digest", "metrics")})
            self._expect(201, answer)
        kept = self._client.api("GET", f"/models/{GROUP}/{MODEL}/versions/1", quiet=True).json()
        self._show.check("metrics come back as they were", kept.get("metrics") == versions[0].metrics, kept)
        self._show.check("so does the training curve", kept.get("curves", {}).get("loss") == versions[0].curves["loss"])

    def deploy(self) -> None:
        self._show.step("Deploy version 1: private, two replicas; follow it until Deployed")
        body = {
            "id": DEPLOYMENT,
            "group": GROUP,
            "name": "Tumour",
            "access": "private",
            "message": "first light",
            "versions": [
                {
                    "model": f"{GROUP}/{MODEL}/1",
                    "runtime": "inference",
                    "instance_type": "small",
                    "replicas": {"min": 2, "max": 2},
                }
            ],
        }
        self._expect(201, self._client.api("POST", "/deployments", body, headers={"Idempotency-Key": "demo-1"}))
        status = self._follow(DEPLOYMENT, "Deployed")
        self._show.check("two of two replicas answer", status["versions"][0]["ready"] == 2, status)

    def call_privately(self, trained: Trained) -> None:
        self._show.step("The endpoint is private: a client, its token, and answers equal to the model's own")
        path = f"/predict/{DEPLOYMENT}/1"
        row, expected = trained.rows[0], trained.expected
        answer = self._client.call("POST", path, libsvm(row))
        self._show.check("without a token: 401", answer.status_code == 401, answer.text)
        answer = self._client.api("POST", f"/deployments/{DEPLOYMENT}/clients", {"name": "ward-7"}, quiet=True)
        self._client_token = answer.json()["token"]
        self._client.name(self._client_token, "CLIENT_TOKEN")
        self._show.command(
            f'curl -X POST -H "Authorization: Bearer $TOKEN" -d \'{{"name": "ward-7"}}\' '
            f"…/api/v1/deployments/{DEPLOYMENT}/clients"
        )
        self._show.answer(answer.status_code, answer.json() | {"token": "$CLIENT_TOKEN, shown this once"})
        answer = self._client.call("POST", path, libsvm(row), basic=("ward-7", self._client_token))
        self._show.check("with -u client:token, libsvm: the model's own answer", self._close(answer, expected[:1]))
        bearer = {"Authorization": f"Bearer {self._client_token}"}
        many = self._client.call("POST", path, dense(trained.rows), headers=bearer, quiet=True)
        fact = f"with Bearer, dense, {len(expected)} rows in one request: equal too"
        self._show.check(fact, self._close(many, expected), many.text)
        endpoint = self._client.api("GET", f"/deployments/{DEPLOYMENT}/endpoint").json()
        self._show.check("it shows a curl, with the model's own example", not endpoint["example_is_generic"], endpoint)
        if shutil.which("curl"):
            command = endpoint["example"].replace("<client>:<token>", f"ward-7:{self._client_token}")
            status, body = self._client.shell(command, deployment=DEPLOYMENT)
            self._show.check("which works as shown, the client and its token put in", status == 200, body)

    def show_caller(self) -> None:
        self._show.step("What the model learns of its caller; forging it changes nothing; revoked is 401 at once")
        upload = ("whoami.tar.gz", pack(EXAMPLES / "whoami"))
        uri = self._client.call(
            "POST", "/api/v1/artifacts", upload=upload, headers=self._authorization(), quiet=True
        ).json()["uri"]
        self._client.api("POST", f"/models/{GROUP}/whoami/versions", {"artifact": uri}, quiet=True)
        body = {"id": "whoami", "group": GROUP, "model": f"{GROUP}/whoami/1", "instance_type": "small"}
        self._expect(201, self._client.api("POST", "/deployments", body))
        self._follow("whoami", "Deployed")
        answer = self._client.api("POST", "/deployments/whoami/clients", {"name": "ward-7"}, quiet=True)
        token = answer.json()["token"]
        self._client.name(token, "WHOAMI_TOKEN")
        seen = self._client.call("POST", "/predict/whoami/1", {}, basic=("ward-7", token)).json()["data"]
        self._show.check("X-Forwarded-User, as the model saw it, is ward-7", seen["caller"] == "ward-7", seen)
        self._show.check("the token itself never reached it", "authorization" not in seen["headers"], seen)
        forged = {"X-Forwarded-User": "chief", "x_forwarded_user": "chief"}
        seen = self._client.call("POST", "/predict/whoami/1", {}, basic=("ward-7", token), headers=forged).json()[
            "data"
        ]
        self._show.check("forged, it is still ward-7", seen["caller"] == "ward-7", seen)
        self._client.api("DELETE", "/deployments/whoami/clients/ward-7")
        answer = self._client.call("POST", "/predict/whoami/1", {}, basic=("ward-7", token))
        self._show.check("the very next call after the revocation: 401", answer.status_code == 401, answer.text)
        self._expect_deleted("whoami")

    def shift_traffic(self, versions: list[Trained]) -> None:
        self._show.step(f"Add version 2, shift to 90/10, with {CALLS_WHILE_SHIFTING} calls meanwhile")
        calls = _Calls(self._client, self._client_token, dense(versions[0].rows[:1]))
        calls.start()
        body = {
            "model": f"{GROUP}/{MODEL}/2",
            "runtime": "inference",
            "instance_type": "small",
            "replicas": {"min": 1, "max": 1},
            "message": "try version 2",
        }
        self._expect(201, self._client.api("POST", f"/deployments/{DEPLOYMENT}/versions", body))
        self._follow(DEPLOYMENT, "Deployed")
        change = {"traffic": {"weights": {"1": 90, "2": 10}}, "message": "one in ten"}
        answer = self._client.api("PATCH", f"/deployments/{DEPLOYMENT}?wait=enforced", change)
        shifted = answer.json()["status"]["traffic"]
        self._show.check("90/10 is enforced", shifted == {"weights": {"1": 90, "2": 10}, "enforced": True}, shifted)
        statuses = calls.finish()
        self._show.check(f"{sum(statuses.values())} calls meanwhile, none failed", set(statuses) == {200}, statuses)
        first, second = versions[0].expected[0], self._predict_by(versions[0].rows[0], 2)
        spoken = Counter(round(answer, 6) for answer in calls.answers_after(400))
        share = spoken[round(second, 6)] / max(1, sum(spoken.values()))
        self._show.check(
            f"of 400 more calls {share:.0%} were answered by version 2", 0.04 <= share <= 0.18, (spoken, first, second)
        )

    def refuse(self) -> None:
        self._show.step("Too much is refused with the figures; a broken model fails with its cause")
        change = {"replicas": {"min": 10, "max": 10}}
        answer = self._client.api("PATCH", f"/deployments/{DEPLOYMENT}/versions/1", change)
        problem = answer.json()
        self._show.check("over the quota: refused", problem.get("code") == "quota_exceeded", problem)
        self._show.check("with requested, used and limit", {"requested", "used", "limit"} <= set(problem), problem)
        upload = ("broken.tar.gz", pack(EXAMPLES / "broken"))
        uri = self._client.call(
            "POST", "/api/v1/artifacts", upload=upload, headers=self._authorization(), quiet=True
        ).json()["uri"]
        self._client.api("POST", f"/models/{GROUP}/broken/versions", {"artifact": uri}, quiet=True)
        body = {"id": "broken", "group": GROUP, "model": f"{GROUP}/broken/1", "instance_type": "small"}
        self._expect(201, self._client.api("POST", "/deployments", body))
        status = self._follow("broken", "Failed")
        failure = status["versions"][0]["failure"] or {}
        self._show.check("the cause is named: model_load", failure.get("cause") == "model_load", failure)
        lines = failure.get("evidence", {}).get("log", [])
        self._show.check("its last log lines are the evidence", bool(lines), failure)
        for line in lines[-3:]:
            self._show.say(f"    [dim]{line}[/dim]")
        self._show.say(f"    advice: {failure.get('advice')}")
        self._expect_deleted("broken")

    def look_back(self) -> None:
        self._show.step("History with diffs, roll back, logs of each replica, and what was measured")
        revisions = self._client.api("GET", f"/deployments/{DEPLOYMENT}/revisions", quiet=True).json()["items"]
        rows = [
            [r["number"], r["by"], r["message"], ", ".join(change["path"] for change in r["diff"])[:60]]
            for r in sorted(revisions, key=lambda revision: revision["number"])
        ]
        self._show.table("Revisions", ["revision", "by", "message", "what changed"], rows)
        self._show.check("each change is there once", [r[0] for r in rows] == [1, 2, 3], rows)
        body = {"revision": 1, "message": "back to version 1 alone"}
        self._client.api("POST", f"/deployments/{DEPLOYMENT}/rollback?wait=settled&timeout=60", body)
        document = self._client.api("GET", f"/deployments/{DEPLOYMENT}", quiet=True).json()
        self._show.check("rolled back to one version", [v["number"] for v in document["versions"]] == [1], document)
        replicas = self._client.api("GET", f"/deployments/{DEPLOYMENT}/replicas", quiet=True).json()["items"]
        for replica in replicas:
            if replica["version"] != 1:
                continue  # on its way out: it may be gone before we have asked
            log = self._client.api("GET", f"/deployments/{DEPLOYMENT}/replicas/{replica['id']}/log?tail=2", quiet=True)
            self._show.check(f"replica {replica['id']} has a log", log.status_code == 200 and bool(log.text), log.text)
            for line in log.text.splitlines():
                self._show.say(f"    [dim]{line}[/dim]")
        self._measured()

    def stop_start_delete(self, trained: Trained) -> None:
        self._show.step("Stop (503 with a clear body), start, delete")
        path, basic = f"/predict/{DEPLOYMENT}/1", ("ward-7", self._client_token)
        self._client.api("POST", f"/deployments/{DEPLOYMENT}/stop?wait=settled", {"message": "night"})
        answer = self._client.call("POST", path, dense(trained.rows[:1]), basic=basic)
        problem = answer.status_code == 503 and "problem+json" in answer.headers["content-type"]
        self._show.check("stopped: 503 as a problem document", problem, answer.text)
        self._client.api("POST", f"/deployments/{DEPLOYMENT}/start?wait=settled&timeout=60", {"message": "morning"})
        answer = self._client.call("POST", path, dense(trained.rows[:1]), basic=basic)
        self._show.check("started: the same token, the same answer", self._close(answer, trained.expected[:1]))
        self._expect_deleted(DEPLOYMENT)

    def _measured(self) -> None:
        path = f"/deployments/{DEPLOYMENT}/metrics/summary"
        sent = self._client.sent[DEPLOYMENT]
        figures = self._client.api("GET", path).json()
        deadline = time.monotonic() + 20
        while figures["total"]["requests"] < sent and time.monotonic() < deadline:
            time.sleep(0.5)  # Envoy's counts are read every second here
            figures = self._client.api("GET", path, quiet=True).json()
        columns = [
            "requests",
            "success_rate",
            "client_errors",
            "server_errors",
            "latency_p50",
            "latency_p95",
            "latency_p99",
        ]
        for kind in ("version", "client"):
            rows = [[row[kind], *(self._figure(row.get(column)) for column in columns)] for row in figures[f"{kind}s"]]
            self._show.table(f"By {kind}", [kind, *columns], rows)
        total = figures["total"]
        self._show.check(f"each of the {sent} calls is counted, and none twice", total["requests"] == sent, total)
        self._show.check("none was a 5xx", total["server_errors"] == 0, total)
        self._show.check("the refused ones are 4xx, not successes", total["client_errors"] >= 1, total)

    @staticmethod
    def _figure(value: object) -> str:
        return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)

    def _predict_by(self, row: list[float], version: int) -> float:
        path, basic = f"/predict/{DEPLOYMENT}/{version}", ("ward-7", self._client_token)
        answer = self._client.call("POST", path, dense([row]), basic=basic, quiet=True)
        return float(answer.json()["data"]["insts"][0])

    def _follow(self, deployment: str, phase: str, *, within: float = 60) -> dict[str, Any]:
        """Watch the conditions change until the deployment is in `phase`."""
        shown: set[str] = set()
        status: dict[str, Any] = {}
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            document = self._client.api("GET", f"/deployments/{deployment}", quiet=True).json()
            status = document["status"]
            for condition in status["conditions"]:
                line = f"{condition['type']:16} {condition['status']:8} {condition['reason']}"
                if line not in shown:
                    shown.add(line)
                    self._show.say(f"    [dim]{status['phase']:10}[/dim] {line}")
            if status["phase"] == phase and status["observed_generation"] == document["generation"]:
                break
            time.sleep(0.1)
        self._show.check(f"{deployment} is {phase}", status.get("phase") == phase, status)
        return status

    def _expect(self, status: int, answer: httpx.Response) -> None:
        if answer.status_code != status:
            self._show.check(f"{answer.request.method} {answer.request.url.path} answers {status}", False, answer.text)

    def _expect_deleted(self, deployment: str) -> None:
        answer = self._client.api("DELETE", f"/deployments/{deployment}?wait=settled&timeout=60")
        gone = self._client.api("GET", f"/deployments/{deployment}", quiet=True).status_code == 404
        self._show.check(f"{deployment} is deleted", answer.is_success and gone, answer.text)

    def _authorization(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._client.token}"}

    @staticmethod
    def _close(answer: httpx.Response, expected: list[float]) -> bool:
        if answer.status_code != 200:
            return False
        found = answer.json()["data"]["insts"]
        return len(found) == len(expected) and all(abs(a - b) < 1e-9 for a, b in zip(found, expected, strict=True))


class _Calls:
    """Calls through the weighted address, from four threads, until told to finish (and at least the wanted number)."""

    def __init__(self, client: Client, token: str, body: dict[str, Any]) -> None:
        self._call: Callable[[], httpx.Response] = lambda: client.call(
            "POST", f"/deployment/{DEPLOYMENT}/predict", body, basic=("ward-7", token), quiet=True
        )
        self._pool = ThreadPoolExecutor(4)
        self._finish = threading.Event()
        self._lock = threading.Lock()
        self._statuses: Counter[object] = Counter()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(4)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def finish(self) -> Counter[object]:
        self._finish.set()
        for thread in self._threads:
            thread.join()
        return self._statuses

    def answers_after(self, count: int) -> list[float]:
        return [float(a.json()["data"]["insts"][0]) for a in self._pool.map(lambda _: self._call(), range(count))]

    def _run(self) -> None:
        while not self._finish.is_set() or sum(self._statuses.values()) < CALLS_WHILE_SHIFTING:
            try:
                status: object = self._call().status_code
            except httpx.HTTPError as error:
                status = repr(error)
            with self._lock:
                self._statuses[status] += 1
