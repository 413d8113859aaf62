"""`python -m services.metrics`."""

from services.metrics.app import create
from shared.service import run

if __name__ == "__main__":
    run("metrics", create)
