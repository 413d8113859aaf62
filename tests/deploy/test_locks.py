"""That the images get what the tests ran with: each lock holds the same versions, and all that it is made from."""

import re
import tomllib
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_REQUIREMENTS = _ROOT / "requirements"


def pinned(lock: str) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)(?:\[[^\]]*\])?==(\S+)", (_REQUIREMENTS / lock).read_text(), re.MULTILINE))


def named(requirements: list[str]) -> set[str]:
    found = (re.match(r"[\w.-]+", each) for each in requirements)
    return {name.group().lower().replace("_", "-") for name in found if name}


@pytest.mark.parametrize("lock", ["services.lock", "modelserver.lock", "envoy.lock"])
def test_an_image_has_the_tested_versions(lock: str) -> None:
    tested = pinned("runtime.lock")

    assert {name: tested.get(name) for name in pinned(lock)} == pinned(lock)


def test_the_services_have_all_that_they_depend_on() -> None:
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]

    assert named(project["dependencies"]) <= pinned("services.lock").keys()


@pytest.mark.parametrize("image", ["modelserver", "envoy"])
def test_an_image_has_what_its_list_names(image: str) -> None:
    assert named((_REQUIREMENTS / f"{image}.in").read_text().splitlines()) <= pinned(f"{image}.lock").keys()
