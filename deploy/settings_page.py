"""Writes docs/settings.md from the services' settings: `python -m deploy.settings_page [--check]`."""

import sys
from pathlib import Path

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from services.deployer.settings import DeployerSettings
from services.gateway.settings import GatewaySettings
from services.metrics.settings import MetricsSettings
from services.registry.settings import RegistrySettings
from shared.settings import ServiceSettings

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"

_HEAD = """# Settings

Made by `python -m deploy.settings_page` from the settings classes; not to be edited.

Every service reads its settings from the environment at start; a wrong one ends it with exit code 64 and a clear
message. `make up` makes those that are needed by itself and passes on those that you have set.
"""

_SERVICES: dict[str, type[ServiceSettings]] = {
    "registry": RegistrySettings,
    "deployer": DeployerSettings,
    "gateway": GatewaySettings,
    "metrics": MetricsSettings,
}


def page() -> str:
    parts = [
        _HEAD,
        _section("All services", ServiceSettings.model_fields),
    ]
    for name, settings in _SERVICES.items():
        own = {key: field for key, field in settings.model_fields.items() if key not in ServiceSettings.model_fields}
        parts.append(_section(f"services/{name}", own))
    return "\n".join(parts)


def _section(title: str, fields: dict[str, FieldInfo]) -> str:
    rows = [f"| `MOORAGE_{name.upper()}` | {_default(field)} | {field.description} |" for name, field in fields.items()]
    return "\n".join([f"## {title}\n", "| setting | default | what it is |", "|---|---|---|", *rows, ""])


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "needed"
    if field.default in (None, (), ""):
        return "none"
    if isinstance(field.default, Path) and field.default.is_absolute():
        return f"`{field.default.relative_to(PAGE.parents[1])}`"
    return f"`{field.default}`"


def main() -> None:
    if "--check" in sys.argv:
        if PAGE.read_text() != page():
            sys.exit("docs/settings.md is not what the settings say: run python -m deploy.settings_page")
    else:
        PAGE.write_text(page())


if __name__ == "__main__":
    main()
