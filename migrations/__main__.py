"""`python -m migrations [up|down|check]`."""

import os
import sys

import migrations

COMMANDS = {"up": migrations.upgrade, "down": migrations.downgrade, "check": migrations.check}

if __name__ == "__main__":
    wanted = sys.argv[1] if len(sys.argv) > 1 else "up"
    if wanted not in COMMANDS or "MOORAGE_DATABASE_URL" not in os.environ:
        sys.exit("usage: MOORAGE_DATABASE_URL=postgresql://… python -m migrations [up|down|check]")
    COMMANDS[wanted](os.environ["MOORAGE_DATABASE_URL"])
