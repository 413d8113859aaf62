"""`python -m services.deployer`."""

from services.deployer.app import create
from shared.service import run

if __name__ == "__main__":
    run("deployer", create)
