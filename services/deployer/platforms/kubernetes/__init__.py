"""The Kubernetes platform: replicas are pods of a Deployment for each version, made by server-side apply.

`manifests` says what a version is made of, `names` what it is called and how it is found again. The only package that
knows kubernetes_asyncio.
"""

from services.deployer.platforms.kubernetes.connection import Connection
from services.deployer.platforms.kubernetes.options import Options
from services.deployer.platforms.kubernetes.platform import KubernetesPlatform

__all__ = ["Connection", "KubernetesPlatform", "Options"]
