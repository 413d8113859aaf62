"""Runs the gateway, or makes the first administrator.

    python -m services.gateway
    python -m services.gateway create-admin [--user admin]

`create-admin` prints the generated password, and nothing else, on stdout: the only place where it appears. If there
is an administrator already it prints nothing there, says so on stderr, and changes nothing. Both end with 0.
"""

import argparse
import asyncio
import sys

from services.gateway.app import create
from services.gateway.identity.passwords import Passwords, generate_password
from services.gateway.settings import GatewaySettings
from services.gateway.users.commands import create_first_admin
from shared.database import create_engine, create_sessions
from shared.errors import NameTaken
from shared.service import run


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m services.gateway", description="The gateway service.")
    commands = parser.add_subparsers(dest="command")
    admin = commands.add_parser("create-admin", help="make the first administrator and print its password")
    admin.add_argument("--user", default="admin")
    options = parser.parse_args()
    if options.command is None:
        run("gateway", create)
    else:
        asyncio.run(_create_admin(options.user))


async def _create_admin(user: str) -> None:
    settings = GatewaySettings()
    engine = create_engine(str(settings.database_url), application="moorage-create-admin", connections=2)
    password = generate_password()
    try:
        password_hash = await Passwords().hash(password)
        async with create_sessions(engine).begin() as session:
            there_is = await create_first_admin(session, user, password_hash=password_hash)
    except NameTaken as error:
        sys.exit(error.detail)
    finally:
        await engine.dispose()
    if there_is is None:
        sys.stdout.write(f"{password}\n")
        sys.stderr.write(f"The administrator {user} is made; the line above is the password, shown this once.\n")
    else:
        sys.stderr.write(f"There is an administrator already ({there_is}); nothing was changed.\n")


if __name__ == "__main__":
    main()
