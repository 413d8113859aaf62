"""The local platform: replicas are supervised processes on this machine that outlive the deployer."""

from services.deployer.platforms.local.host import Options
from services.deployer.platforms.local.platform import LocalPlatform
from services.deployer.platforms.local.shutdown import shutdown

__all__ = ["LocalPlatform", "Options", "shutdown"]
