"""The one PostgreSQL schema, a module per noun; the first line of each says which service writes it.

Others may read a table; nobody else writes it. Invariants stand here as constraints, not only in code.
"""

from shared.schema.access_tokens import AccessToken
from shared.schema.audit import AuditEntry
from shared.schema.base import Base
from shared.schema.deployments import Deployment, DeploymentStep, Replica, Revision
from shared.schema.endpoints import EndpointClient, Route
from shared.schema.events import BusCursor, BusHead, BusMessage, DeadLetter, InboxEntry, OutboxEntry
from shared.schema.groups import Group, Member
from shared.schema.identity import FormerUser, Identity, SigningKey, User
from shared.schema.instance_types import InstanceType
from shared.schema.metrics import Rollup, ScrapeSource, latency_samples, request_samples
from shared.schema.models import Blob, BlobUpload, Model, ModelAlias, ModelCurve, ModelVersion, Upload
from shared.schema.requests import IdempotentRequest
from shared.schema.service_accounts import ServiceAccount
from shared.schema.sign_ins import RefreshToken, SignIn, SignInCode
from shared.schema.work import Lease

__all__ = [
    "AccessToken",
    "AuditEntry",
    "Base",
    "Blob",
    "BlobUpload",
    "BusCursor",
    "BusHead",
    "BusMessage",
    "DeadLetter",
    "Deployment",
    "DeploymentStep",
    "EndpointClient",
    "FormerUser",
    "Group",
    "IdempotentRequest",
    "Identity",
    "InboxEntry",
    "InstanceType",
    "Lease",
    "Member",
    "Model",
    "ModelAlias",
    "ModelCurve",
    "ModelVersion",
    "OutboxEntry",
    "RefreshToken",
    "Replica",
    "Revision",
    "Rollup",
    "Route",
    "ScrapeSource",
    "ServiceAccount",
    "SignIn",
    "SignInCode",
    "SigningKey",
    "Upload",
    "User",
    "latency_samples",
    "request_samples",
]
