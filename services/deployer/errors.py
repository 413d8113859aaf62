"""The deployer's own errors; how they become HTTP stands in shared.http.problems."""

from shared.errors import Conflict, LimitReached, PermissionDenied, ValidationFailed

__all__ = ["AddressTaken", "DeploymentDisabled", "UnsupportedByPlatform", "VersionLimitReached", "WeightsExceedTotal"]


class DeploymentDisabled(PermissionDenied):
    code = "deployment_disabled"
    title = "The group may not deploy"


class WeightsExceedTotal(ValidationFailed):
    code = "weights_exceed_total"
    title = "The traffic weights sum to more than 100"


class VersionLimitReached(LimitReached):
    title = "The deployment has as many live versions as it may have"


class UnsupportedByPlatform(ValidationFailed):
    code = "unsupported_by_platform"
    title = "The platform cannot run this"


class AddressTaken(Conflict):
    code = "address_taken"
    title = "The address is taken"
