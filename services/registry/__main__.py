"""`python -m services.registry`"""

from services.registry.app import create
from shared.service import run

if __name__ == "__main__":
    run("registry", create)
