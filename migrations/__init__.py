"""The history of the schema: one line, by Alembic. `python -m migrations [up|down|check]` with MOORAGE_DATABASE_URL.

A migration waits at most three seconds for a lock and runs at most five minutes, so that it fails instead of stopping
the platform; several processes may start it at once, an advisory lock lets one work.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config


def config(database_url: str) -> Config:
    made = Config()
    made.set_main_option("script_location", str(Path(__file__).parent))
    made.attributes["database_url"] = database_url
    return made


def upgrade(database_url: str, revision: str = "head") -> None:
    command.upgrade(config(database_url), revision)


def downgrade(database_url: str, revision: str = "base") -> None:
    command.downgrade(config(database_url), revision)


def check(database_url: str) -> None:
    """Raises alembic's CommandError if the models say anything that the migrations do not."""
    command.check(config(database_url))
