"""The routes of the platform's own API, as resources like any other: which path belongs to which service.

The services authenticate their callers themselves: Envoy checks nothing here, and `authorization` goes on to them. The
clusters that are named are static, in the bootstrap (deploy/envoy).
"""

from collections.abc import Iterator

from envoy.config.route.v3 import route_components_pb2
from envoy.type.matcher.v3 import regex_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.wrappers_pb2 import UInt32Value

from services.gateway.envoy.resources import Bundle, Resource
from services.gateway.envoy.translate import disable_basic_auth, problem, scope

__all__ = ["PLATFORM", "platform_scopes"]

PLATFORM = "@platform"
"""The bundle's name. No deployment can have it: it is no DNS label."""

_API = "/api/v1"

# Below one deployment, most is the deployer's; these are not.
_OF_A_DEPLOYMENT = {
    "gateway": ("clients", "endpoint"),
    "metrics": ("metrics", "feedback", "usage"),
}
_COLLECTIONS = {
    "gateway": ("auth", "me", "users", "sign-ins", "access-tokens", "service-accounts", "audit", ".well-known"),
    "registry": ("groups", "instance-types", "models", "artifacts"),
    "metrics": ("metrics", "feedback", "usage"),
    "deployer": ("deployments", "runtimes"),
}
# By the first two segments of the path; what the gateway sees instead of it, if not the same.
_OUTSIDE_THE_API = {
    ("openapi.json", ""): "",
    ("docs", ""): "",
    ("docs", "errors"): "",
    (".well-known", "jwks.json"): f"{_API}/.well-known/jwks.json",
}


def platform_scopes() -> Bundle:
    """All of the platform's own routes."""
    return Bundle.of(_scopes())


def _scopes() -> Iterator[Resource]:
    yield _scope("api", ("api", "v1"), _api_routes())
    for (first, second), seen_as in _OUTSIDE_THE_API.items():
        match = route_components_pb2.RouteMatch(prefix=f"/{first}/{second}".rstrip("/"))
        yield _scope(f"{first}/{second}".rstrip("/"), (first, second), [_to("gateway", match, seen_as)])


def _scope(name: str, key: tuple[str, str], routes: list[route_components_pb2.Route]) -> Resource:
    return scope(
        f"{PLATFORM}/{name}",
        key=key,
        routes=routes,
        filters={"envoy.filters.http.basic_auth": disable_basic_auth()},
        # A service that is being restarted is away for less than this.
        retries=route_components_pb2.RetryPolicy(
            retry_on="connect-failure,refused-stream,reset-before-request",
            num_retries=UInt32Value(value=4),
            retry_back_off=route_components_pb2.RetryPolicy.RetryBackOff(
                base_interval=Duration(nanos=50_000_000), max_interval=Duration(seconds=1)
            ),
        ),
    )


def _api_routes() -> list[route_components_pb2.Route]:
    return [
        *(
            _to(service, _regex(rf"{_API}/deployments/[^/]+/({'|'.join(parts)})(/.*)?"))
            for service, parts in _OF_A_DEPLOYMENT.items()
        ),
        *(
            _to(service, route_components_pb2.RouteMatch(path_separated_prefix=f"{_API}/{part}"))
            for service, parts in _COLLECTIONS.items()
            for part in parts
        ),
        route_components_pb2.Route(
            name="@none",
            match=route_components_pb2.RouteMatch(prefix="/"),
            direct_response=problem(404, "not_found", "The API has no such path. Its description is at /openapi.json."),
        ),
    ]


def _regex(pattern: str) -> route_components_pb2.RouteMatch:
    return route_components_pb2.RouteMatch(safe_regex=regex_pb2.RegexMatcher(regex=pattern))


def _to(service: str, match: route_components_pb2.RouteMatch, seen_as: str = "") -> route_components_pb2.Route:
    return route_components_pb2.Route(
        # In the counts, apart from every deployment.
        name=f"@{service}",
        match=match,
        route=route_components_pb2.RouteAction(
            cluster=service,
            prefix_rewrite=seen_as,
            # Uploads, logs that are followed and watches last as long as they last.
            timeout=Duration(),
        ),
    )
