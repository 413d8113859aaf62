"""What can be set, from the command line or the environment (the command line wins)."""

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from modelserver.termination import UsageError


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One replica's settings; the help texts below say what each is."""

    model_path: Path
    name: str
    version: int
    host: str
    port: int
    deployment: str | None
    deployment_version: int | None
    threads: int
    queue_limit: int
    batch_limit: int
    body_limit: int
    drain_seconds: float

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that callers may use for the model in `/predict/<model>`."""
        return tuple(dict.fromkeys(name for name in (self.name, self.deployment) if name))

    @property
    def versions(self) -> tuple[int, ...]:
        """Every version number that callers may use in `/predict/<model>/<version>`."""
        both = (self.version, self.deployment_version)
        return tuple(dict.fromkeys(version for version in both if version is not None))


class Parser(argparse.ArgumentParser):
    """An argument parser that takes defaults from the environment and raises instead of exiting with 2."""

    def __init__(self, *, prog: str, description: str, env: Mapping[str, str]) -> None:
        super().__init__(prog=prog, description=description, allow_abbrev=False)
        self._env = env

    def option(
        self,
        flag: str,
        variable: str,
        *,
        kind: Callable[[str], Any],
        default: str | None = None,
        optional: bool = False,
        about: str,
    ) -> None:
        """Add an option that may also come from an environment variable."""
        given = self._env.get(variable) or default  # argparse passes a text default through `kind`, too
        required = given is None and not optional
        self.add_argument(flag, type=kind, default=given, required=required, help=f"{about} [env {variable}]")

    def error(self, message: str) -> NoReturn:
        """Called by argparse for whatever is wrong."""
        raise UsageError(message, advice=f"See `{self.prog} --help`.")


def parse(argv: Sequence[str], env: Mapping[str, str] = os.environ) -> Settings:
    """The settings, or UsageError."""
    parser = Parser(prog="python -m modelserver", description="Serve an InferenceService over HTTP.", env=env)
    option = parser.option
    option("--model-path", "MOORAGE_MODEL_PATH", kind=Path, about="folder of the model and its class")
    option("--name", "MOORAGE_MODEL_NAME", kind=segment, about="the model's name in /predict/<model>")
    option("--version", "MOORAGE_MODEL_VERSION", kind=natural, about="the model's version number")
    option("--host", "MOORAGE_HOST", kind=str, default="127.0.0.1", about="address to listen on")
    option("--port", "MOORAGE_PORT", kind=port, about="port to listen on")
    option("--deployment", "MOORAGE_DEPLOYMENT", kind=segment, optional=True, about="a second name for the model")
    option(
        "--deployment-version",
        "MOORAGE_DEPLOYMENT_VERSION",
        kind=natural,
        optional=True,
        about="a second number for the version",
    )
    option(
        "--threads",
        "MOORAGE_THREADS",
        kind=positive,
        default=env.get("OMP_NUM_THREADS", "").split(",")[0] or "1",
        about="worker threads (default: OMP_NUM_THREADS, else 1)",
    )
    option("--queue-limit", "MOORAGE_QUEUE_LIMIT", kind=positive, default="256", about="waiting requests")
    option("--batch-limit", "MOORAGE_BATCH_LIMIT", kind=positive, default="64", about="requests in one batch")
    option("--body-limit", "MOORAGE_BODY_LIMIT", kind=positive, default=str(16 << 20), about="bytes of a request")
    option("--drain-seconds", "MOORAGE_DRAIN_SECONDS", kind=seconds, default="30", about="longest wait after SIGTERM")
    return Settings(**vars(parser.parse_args(argv)))


def segment(text: str) -> str:
    """A name that can stand alone in a path."""
    if "/" in text:
        raise argparse.ArgumentTypeError(f"{text!r} contains a slash and cannot be part of a path")
    return text


def natural(text: str) -> int:
    """A whole number from 0 up, in plain digits: what stands in a path is compared as text."""
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def positive(text: str) -> int:
    """A whole number from 1 up."""
    number = natural(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def port(text: str) -> int:
    """A TCP port; 0 lets the system choose one."""
    number = natural(text)
    if number > 65535:
        raise argparse.ArgumentTypeError("must be at most 65535")
    return number


def seconds(text: str) -> float:
    """A duration in seconds, from 0 up and finite."""
    number = float(text)
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError("must be a number of seconds from 0 up")
    return number
