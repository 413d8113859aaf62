"""The deployer's own errors; how they become HTTP stands in shared.http.problems."""

from shared.errors import LimitReached, PermissionDenied, ValidationFailed

__all__ = ["DeploymentDisabled", "VersionLimitReached", "WeightsExceedTotal"]


class DeploymentDisabled(PermissionDenied):
    code = "deployment_disabled"
    title = "The group may not deploy"


class WeightsExceedTotal(ValidationFailed):
    code = "weights_exceed_total"
    title = "The traffic weights sum to more than 100"


class VersionLimitReached(LimitReached):
    title = "The deployment has as many live versions as it may have"
