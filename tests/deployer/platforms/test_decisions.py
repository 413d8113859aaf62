"""The small pure decisions: health, back-off, verdicts, environment, template digests."""

from dataclasses import replace

import pytest

from services.deployer.platforms import Cause, Model, Resources, Template
from services.deployer.platforms.environment import THREADS, defaults, expand, inherited, literal
from services.deployer.platforms.local import health
from services.deployer.platforms.local.health import Health, Verdict, backoff
from services.deployer.platforms.local.state import RunState
from services.deployer.platforms.local.verdict import judge

RUN = RunState(pid=1, start_time=1, boot="b", began_at=0.0, phase="exited", step="serve", exit_code=1, ended_at=1.0)


def judged(state: RunState | None, **options: object) -> tuple[Cause, str]:
    facts = {"gave_up": None, "answer": None, "probe": "/readyz", "memory": 1 << 30, "log": []} | options
    failure = judge(state, **facts)
    assert failure.advice
    return failure.cause, failure.message


def test_ready_at_the_first_good_answer_unready_at_the_first_bad_one() -> None:
    beat = Health(began_at=0.0, start_seconds=10.0)
    assert beat.heard(None, now=1.0) is Verdict.STARTING
    assert beat.heard(503, now=2.0) is Verdict.STARTING
    assert beat.heard(204, now=3.0) is Verdict.READY
    assert beat.heard(503, now=4.0) is Verdict.UNREADY
    assert beat.heard(302, now=5.0) is Verdict.READY


def test_silence_must_last_to_count() -> None:
    beat = Health(began_at=0.0, start_seconds=10.0, verdict=Verdict.READY)
    heard = [beat.heard(None, now=float(n)) for n in range(1, 4)]
    assert heard == [Verdict.READY, Verdict.READY, Verdict.UNREADY]
    assert beat.heard(None, now=health.UNRESPONSIVE) is Verdict.UNRESPONSIVE


def test_one_who_answers_no_is_never_taken_for_deaf() -> None:
    beat = Health(began_at=0.0, start_seconds=10.0, verdict=Verdict.READY)
    assert {beat.heard(500, now=float(n)) for n in range(1000)} == {Verdict.UNREADY}


def test_a_start_has_its_time_and_no_more() -> None:
    beat = Health(began_at=100.0, start_seconds=10.0)
    assert beat.heard(503, now=109.9) is Verdict.STARTING
    assert beat.heard(503, now=110.0) is Verdict.NEVER_ANSWERED
    assert beat.last_answer == 503


def test_back_off_is_none_then_doubles_to_its_cap() -> None:
    assert [backoff(n) for n in (1, 2, 3, 4, 7, 1000)] == [0, 10, 20, 40, 300, 300]


@pytest.mark.parametrize(
    ("state", "cause", "message"),
    [
        (replace(RUN, out_of_memory=True, exit_code=137), Cause.OUT_OF_MEMORY, "1024 MiB"),
        (replace(RUN, exit_code=139), Cause.CRASH, "killed by SIGSEGV"),
        (replace(RUN, exit_code=0), Cause.CRASH, "exit code 0"),
        (replace(RUN, exit_code=127), Cause.CRASH, "cannot be run"),
        (replace(RUN, exit_code=65), Cause.MODEL_LOAD, "did not load"),
        (replace(RUN, exit_code=65, message='{"message": "no class"}'), Cause.MODEL_LOAD, "no class"),
        (replace(RUN, exit_code=1, message="[1, 2]"), Cause.CRASH, "[1, 2]"),
        (replace(RUN, exit_code=66), Cause.MODEL_DOWNLOAD, "66"),
        (replace(RUN, step="pull"), Cause.MODEL_DOWNLOAD, "exit code 1"),
        (replace(RUN, exit_code=None, ended_at=None), Cause.CRASH, "together with"),
        (None, Cause.CRASH, "together with"),
    ],
)
def test_the_cause_of_a_run_that_ended(state: RunState | None, cause: Cause, message: str) -> None:
    found, said = judged(state)
    assert found is cause
    assert message in said


def test_the_probes_verdict_names_the_last_answer() -> None:
    cause, said = judged(RUN, gave_up=Verdict.NEVER_ANSWERED, answer=404)
    assert cause is Cause.PROBE
    assert "/readyz" in said
    assert "404" in said


def test_references_are_filled_in_as_kubernetes_does() -> None:
    env = {"PORT": "80", "A": "$(PORT)"}
    filled = {
        "$(PORT)": "80",
        "x$(PORT)$(PORT)": "x8080",
        "$$(PORT)": "$(PORT)",
        "$$$(PORT)": "$80",
        "$$": "$",
        "$(NONE)": "$(NONE)",
        "$PORT": "$PORT",
        "$(PORT": "$(PORT",
        "$(A)": "$(PORT)",
    }
    assert expand(list(filled), env) == list(filled.values())
    assert expand([literal(word) for word in filled], env) == list(filled)


def test_nothing_of_the_platform_is_inherited() -> None:
    assert inherited({"PATH": "/bin", "MOORAGE_SECRET_KEY": "s", "PYTHONPATH": "x", "LANG": "C"}) == {
        "PATH": "/bin",
        "LANG": "C",
    }


@pytest.mark.parametrize(("cpu", "expected"), [(0.2, "1"), (1.0, "1"), (3.5, "3")])
def test_threads_follow_the_cpu_limit(cpu: float, expected: str) -> None:
    assert {defaults(cpu)[name] for name in THREADS} == {expected}


def test_a_templates_digest_is_its_content() -> None:
    one = Template(runtime="inference", command=("python",), env={"A": "1", "B": "2"}, model=Model("fraud", 1))
    assert one.digest == replace(one, env={"B": "2", "A": "1"}).digest
    different = [
        replace(one, env={"A": "1", "B": "3"}),
        replace(one, nonce="again"),
        replace(one, command=("python", "")),
        replace(one, model=Model("fraud", 2)),
        replace(one, resources=Resources(cpu=2.0)),
    ]
    assert len({one.digest, *(other.digest for other in different)}) == 6


def test_a_digest_is_the_same_for_good() -> None:
    """A change of this value restarts every replica of every user at an upgrade."""
    made = Template(runtime="inference", command=("python", "-m", "modelserver"), model=Model("fraud", 1, "sha256:00"))
    assert made.digest == "72bc2ad69ac9871c2aec0fbf46961a1072442fc62b00f609fb6cabe60dbe6153"
    hidden = replace(made, env={"THREADS": "1"}, secrets={"KEY": "hunter2"})
    assert hidden.digest == replace(made, env={"THREADS": "1", "KEY": "hunter2"}).digest, "as before it was hidden"
