"""Runs the gateway, makes the first administrator, or verifies the audit log.

    python -m services.gateway
    python -m services.gateway create-admin [--user admin]
    python -m services.gateway verify-audit [--head POSITION:HASH]…

`create-admin` prints the generated password, and nothing else, on stdout: the only place where it appears. If there
is an administrator already it prints nothing there, says so on stderr, and changes nothing. Both end with 0.

`verify-audit` prints the head of the chain on stdout and ends with 0 if the chain holds, and if each head given is
still in it; else it says on stderr where it is broken, and ends with 1. Only a head kept elsewhere (the gateway logs
each) shows that the end was cut off.
"""

import argparse
import asyncio
import sys

from services.gateway.app import create
from services.gateway.audit.domain import Broken, Head
from services.gateway.audit.verifier import verify_chain
from services.gateway.identity.passwords import Passwords, generate_password
from services.gateway.settings import GatewaySettings
from services.gateway.users.commands import create_first_admin
from shared.audit import Act, append
from shared.database import create_engine, create_sessions
from shared.errors import NameTaken
from shared.secrets import Vault
from shared.service import run

_MADE = Act(
    service="gateway",
    user=None,
    group=None,
    action="create-admin",
    method="",
    path="python -m services.gateway create-admin",
    outcome="done",
    status=0,
    code=None,
    request_id="",
    address="",
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m services.gateway", description="The gateway service.")
    commands = parser.add_subparsers(dest="command")
    admin = commands.add_parser("create-admin", help="make the first administrator and print its password")
    admin.add_argument("--user", default="admin")
    audit = commands.add_parser("verify-audit", help="verify the chain of the audit log and print its head")
    audit.add_argument("--head", type=Head.parse, action="append", default=[], help="one that was printed or logged")
    options = parser.parse_args()
    match options.command:
        case "create-admin":
            asyncio.run(_create_admin(options.user))
        case "verify-audit":
            asyncio.run(_verify_audit(options.head))
        case _:
            run("gateway", create)


async def _verify_audit(known: list[Head]) -> None:
    settings = GatewaySettings()
    engine = create_engine(str(settings.database_url), application="moorage-verify-audit", connections=2)
    try:
        head = await verify_chain(create_sessions(engine), Vault(settings.root_key), known=known)
    except Broken as error:
        sys.exit(f"The audit log does not hold: {error}.")
    finally:
        await engine.dispose()
    sys.stdout.write(f"{head}\n")


async def _create_admin(user: str) -> None:
    settings = GatewaySettings()
    engine = create_engine(str(settings.database_url), application="moorage-create-admin", connections=2)
    password = generate_password()
    try:
        password_hash = await Passwords().hash(password)
        async with create_sessions(engine).begin() as session:
            there_is = await create_first_admin(session, user, password_hash=password_hash)
            if there_is is None:
                await append(session, _MADE)
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
