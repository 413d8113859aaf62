"""Pure translation: the routes of a deployment into Envoy's resources. No I/O, no clock; equal in, equal bytes out.

    /deployment/<id>/…                by the weights, the model sees `/…`
    /deployment/<id>/versions/<n>/…   one version,    the model sees `/…`
    /predict/<id>                     by the weights, path unchanged
    /predict/<id>/<n>                 one version,    path unchanged

A deployment is one cluster and one ClusterLoadAssignment a version, and two scoped route configurations, keyed by the
first two path segments. The API's own routes are `platform.py`'s.
"""

import base64
from collections.abc import Iterable, Iterator
from functools import cache

from envoy.config.cluster.v3 import circuit_breaker_pb2, cluster_pb2
from envoy.config.core.v3 import (
    address_pb2,
    base_pb2,
    config_source_pb2,
    protocol_pb2,
    substitution_format_string_pb2,
)
from envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2, scoped_route_pb2
from envoy.extensions.filters.http.basic_auth.v3 import basic_auth_pb2
from envoy.extensions.filters.http.lua.v3 import lua_pb2
from envoy.extensions.retry.host.previous_hosts.v3 import previous_hosts_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from envoy.type.matcher.v3 import regex_pb2, string_pb2
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from google.protobuf.wrappers_pb2 import BoolValue, UInt32Value

from services.gateway.envoy.model import DeploymentRoutes, Endpoint, EndpointClient
from services.gateway.envoy.resources import CLUSTER, ENDPOINTS, SCOPE, Bundle, Resource

__all__ = ["SCOPE_HEADER", "disable_basic_auth", "pack", "problem", "scope", "translate"]

SCOPE_HEADER = "x-moorage-scope"
"""Set by the listener before anything else, from the normalised path; the scope key is read from it."""

_BASIC_AUTH = "envoy.filters.http.basic_auth"
_LUA = "envoy.filters.http.lua"
_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def translate(routes: DeploymentRoutes) -> Bundle:
    """Everything that Envoy has to hold for this deployment."""
    return Bundle.of(_resources(routes))


def _resources(routes: DeploymentRoutes) -> Iterator[Resource]:
    for version, endpoints in sorted(routes.versions.items()):
        name = _cluster_name(routes.id, version)
        yield Resource.of(CLUSTER, name, _cluster(name).SerializeToString(deterministic=True))
        yield Resource.of(ENDPOINTS, name, _assignment(name, endpoints).SerializeToString(deterministic=True))
    deployment = f"/deployment/{routes.id}"
    yield scope(
        routes.id,
        key=("deployment", routes.id),
        routes=_guarded(routes, _deployment_routes(routes, deployment)),
        filters=_authentication(routes),
        retries=_retries(),
        of_a_model=True,
    )
    yield scope(
        f"{routes.id}/predict",
        key=("predict", routes.id),
        routes=_guarded(routes, _predict_routes(routes, f"/predict/{routes.id}")),
        filters=_authentication(routes),
        retries=_retries(),
        of_a_model=True,
    )


# Clusters and endpoints


def _cluster_name(deployment: str, version: int) -> str:
    return f"{deployment}/{version}"


def _cluster(name: str) -> cluster_pb2.Cluster:
    """No health checks and no outlier detection: the platform checks replicas by their real protocol and takes them out
    of the endpoints, and ejecting the only replica for its errors would turn some of them into all."""
    return cluster_pb2.Cluster(
        name=name,
        type=cluster_pb2.Cluster.EDS,
        eds_cluster_config=cluster_pb2.Cluster.EdsClusterConfig(
            eds_config=config_source_pb2.ConfigSource(
                ads=config_source_pb2.AggregatedConfigSource(), resource_api_version=config_source_pb2.V3
            )
        ),
        connect_timeout=Duration(seconds=2),
        # A replica that answers slowly gets less; predictions differ widely in cost.
        lb_policy=cluster_pb2.Cluster.LEAST_REQUEST,
        circuit_breakers=circuit_breaker_pb2.CircuitBreakers(thresholds=[_no_limits()]),
        upstream_connection_options=cluster_pb2.UpstreamConnectionOptions(
            tcp_keepalive=address_pb2.TcpKeepalive(
                keepalive_time=UInt32Value(value=30),
                keepalive_interval=UInt32Value(value=5),
                keepalive_probes=UInt32Value(value=3),
            )
        ),
        typed_extension_protocol_options={_HTTP_OPTIONS: _upstream_options()},
    )


@cache
def _no_limits() -> circuit_breaker_pb2.CircuitBreakers.Thresholds:
    # Envoy's defaults (1,024 connections and requests, 3 retries at once) are limits that nobody has asked for.
    return circuit_breaker_pb2.CircuitBreakers.Thresholds(
        max_connections=UInt32Value(value=65_536),
        max_pending_requests=UInt32Value(value=65_536),
        max_requests=UInt32Value(value=65_536),
        max_retries=UInt32Value(value=1_024),
    )


@cache
def _upstream_options() -> Any:
    return pack(
        http_protocol_options_pb2.HttpProtocolOptions(
            # Below the keep-alive of uvicorn, gunicorn and MLServer (5 s): we close idle connections before they do, or
            # a request would now and then meet a connection that is being closed.
            common_http_protocol_options=protocol_pb2.HttpProtocolOptions(idle_timeout=Duration(seconds=4)),
            explicit_http_config=http_protocol_options_pb2.HttpProtocolOptions.ExplicitHttpConfig(
                http_protocol_options=protocol_pb2.Http1ProtocolOptions()
            ),
        )
    )


def _assignment(name: str, endpoints: Iterable[Endpoint]) -> endpoint_pb2.ClusterLoadAssignment:
    return endpoint_pb2.ClusterLoadAssignment(
        cluster_name=name,
        endpoints=[
            endpoint_components_pb2.LocalityLbEndpoints(
                lb_endpoints=[_lb_endpoint(e) for e in sorted(endpoints, key=lambda e: (e.host, e.port))]
            )
        ],
    )


def _lb_endpoint(endpoint: Endpoint) -> endpoint_components_pb2.LbEndpoint:
    socket = address_pb2.SocketAddress(address=endpoint.host, port_value=endpoint.port)
    return endpoint_components_pb2.LbEndpoint(
        endpoint=endpoint_components_pb2.Endpoint(address=address_pb2.Address(socket_address=socket))
    )


# Routes


def _deployment_routes(routes: DeploymentRoutes, base: str) -> Iterator[route_components_pb2.Route]:
    # A replica's own figures are for Prometheus beside it. The path is normalised by now: only what may still be taken
    # for the same page is said in several ways.
    own_page = regex_pb2.RegexMatcher(regex=rf"{base}(/versions/[0-9]+)?/(?i:metrics)([/;%].*)?")
    match = route_components_pb2.RouteMatch(safe_regex=own_page)
    yield _direct(match, routes.id, 404, "not_found", "The replicas' own metrics are not shown here.")
    for version in sorted(routes.versions):
        match = route_components_pb2.RouteMatch(prefix=f"{base}/versions/{version}/")
        yield _to_version(routes, version, match, prefix_rewrite="/")
    # What stands under versions/ and is none must not fall to the weights: the model would be asked for a path of ours.
    match = route_components_pb2.RouteMatch(path_separated_prefix=f"{base}/versions")
    yield _direct(match, routes.id, 404, "not_found", "There is no such version of this deployment.")
    for match in (
        route_components_pb2.RouteMatch(prefix=f"{base}/"),
        route_components_pb2.RouteMatch(path=base),
    ):
        yield _by_weights(routes, match, prefix_rewrite="/")


def _predict_routes(routes: DeploymentRoutes, base: str) -> Iterator[route_components_pb2.Route]:
    for version in sorted(routes.versions):
        match = route_components_pb2.RouteMatch(path_separated_prefix=f"{base}/{version}")
        yield _to_version(routes, version, match)
    yield _by_weights(routes, route_components_pb2.RouteMatch(path=base))
    match = route_components_pb2.RouteMatch(prefix=f"{base}/")
    yield _direct(match, routes.id, 404, "not_found", "There is no such version of this deployment.")


def _to_version(
    routes: DeploymentRoutes, version: int, match: route_components_pb2.RouteMatch, *, prefix_rewrite: str = ""
) -> route_components_pb2.Route:
    return _route(
        routes,
        match,
        route_components_pb2.RouteAction(
            cluster=_cluster_name(routes.id, version),
            prefix_rewrite=prefix_rewrite,
            timeout=Duration(),
        ),
    )


def _by_weights(
    routes: DeploymentRoutes, match: route_components_pb2.RouteMatch, *, prefix_rewrite: str = ""
) -> route_components_pb2.Route:
    weights = {version: weight for version, weight in sorted(routes.weights.items()) if weight}
    if len(weights) == 1:
        return _to_version(routes, next(iter(weights)), match, prefix_rewrite=prefix_rewrite)
    if not weights:
        return _direct(
            match, routes.id, 503, "no_traffic", "No version of this deployment receives traffic: set its weights."
        )
    split = route_components_pb2.WeightedCluster(
        clusters=[
            route_components_pb2.WeightedCluster.ClusterWeight(
                name=_cluster_name(routes.id, version), weight=UInt32Value(value=weight)
            )
            for version, weight in weights.items()
        ]
    )
    action = route_components_pb2.RouteAction(
        weighted_clusters=split, prefix_rewrite=prefix_rewrite, timeout=Duration()
    )
    return _route(routes, match, action)


def _route(
    routes: DeploymentRoutes, match: route_components_pb2.RouteMatch, action: route_components_pb2.RouteAction
) -> route_components_pb2.Route:
    # The name is what the counts are filed under (tag `deployment`).
    return route_components_pb2.Route(name=routes.id, match=match, route=action)


@cache
def _retries() -> route_components_pb2.RetryPolicy:
    """Only what has surely not reached a model is sent again, to another replica. Said once a virtual host."""
    return route_components_pb2.RetryPolicy(
        retry_on="connect-failure,refused-stream,reset-before-request",
        num_retries=UInt32Value(value=3),
        retry_host_predicate=[
            route_components_pb2.RetryPolicy.RetryHostPredicate(
                name="envoy.retry_host_predicates.previous_hosts",
                typed_config=pack(previous_hosts_pb2.PreviousHostsPredicate()),
            )
        ],
        # By least requests a dead replica, which has none, is drawn first: draw until it is another one.
        host_selection_retry_max_attempts=32,
        retry_back_off=route_components_pb2.RetryPolicy.RetryBackOff(
            base_interval=Duration(nanos=5_000_000), max_interval=Duration(nanos=100_000_000)
        ),
    )


def _direct(
    match: route_components_pb2.RouteMatch, name: str, status: int, code: str, detail: str
) -> route_components_pb2.Route:
    return route_components_pb2.Route(name=name, match=match, direct_response=problem(status, code, detail))


# Who may


def _guarded(
    routes: DeploymentRoutes, open_routes: Iterable[route_components_pb2.Route]
) -> Iterator[route_components_pb2.Route]:
    """The same routes with the authentication that the deployment's access asks for, and stopped if it is."""
    if routes.stopped:
        match = route_components_pb2.RouteMatch(prefix="/")
        detail = "The deployment is stopped: start it to have it answer."
        open_routes = [_direct(match, routes.id, 503, "deployment_stopped", detail)]
    for route in open_routes:
        if routes.access == "private":
            for client in routes.clients:
                if client.overlap is not None:
                    yield from _for_the_new_token(client, route)
            # Lua costs 3 %, so only those who need it pass it: whoever says Bearer has a route of their own.
            bearer = _copy(route, _says_bearer())
            bearer.typed_per_filter_config[_LUA].CopyFrom(_lua_on())
            yield bearer
        yield route


def _for_the_new_token(
    client: EndpointClient, route: route_components_pb2.Route
) -> Iterator[route_components_pb2.Route]:
    """While the token before is let in too. The filter has one hash for a name: so the new token, known by its mark,
    has routes of its own, and the virtual host's list has the one before."""
    new = _users([(client.name, client.sha1)])
    # In base64 what is known of it is a prefix, since it ends where a letter of base64 does.
    sent = "Basic " + base64.b64encode(client.beginning.encode()).decode()
    basic = _copy(route, _authorization(string_pb2.StringMatcher(prefix=sent)))
    mark = string_pb2.StringMatcher(contains=f" {client.beginning.partition(':')[2]}")
    bearer = _copy(route, _says_bearer(), _authorization(mark))
    bearer.typed_per_filter_config[_LUA].CopyFrom(_lua_on())
    for each in (basic, bearer):
        each.typed_per_filter_config[_BASIC_AUTH].CopyFrom(new)
        yield each


def _copy(
    route: route_components_pb2.Route, *headers: route_components_pb2.HeaderMatcher
) -> route_components_pb2.Route:
    """The same, for requests with these headers only."""
    copy = route_components_pb2.Route()
    copy.CopyFrom(route)
    copy.match.headers.extend(headers)
    return copy


def _authorization(says: string_pb2.StringMatcher) -> route_components_pb2.HeaderMatcher:
    return route_components_pb2.HeaderMatcher(name="authorization", string_match=says)


@cache
def _says_bearer() -> route_components_pb2.HeaderMatcher:
    return _authorization(string_pb2.StringMatcher(prefix="bearer ", ignore_case=True))


@cache
def _lua_on() -> Any:
    return pack(route_components_pb2.FilterConfig(config=pack(lua_pb2.LuaPerRoute())))


def _authentication(routes: DeploymentRoutes) -> dict[str, Any]:
    if routes.access == "public":
        return {_BASIC_AUTH: disable_basic_auth()}
    if not routes.clients:
        return {}  # the listener's own list holds: one user, whom nobody can be
    return {_BASIC_AUTH: _users((c.name, c.overlap.sha1 if c.overlap else c.sha1) for c in routes.clients)}


def _users(hashes: Iterable[tuple[str, str]]) -> Any:
    users = "".join(f"{name}:{{SHA}}{sha1}\n" for name, sha1 in sorted(hashes))
    return pack(basic_auth_pb2.BasicAuthPerRoute(users=base_pb2.DataSource(inline_string=users)))


@cache
def disable_basic_auth() -> Any:
    return pack(route_components_pb2.FilterConfig(disabled=True))


# What both kinds of routes need

# No model is sent a cookie that it could have set: whoever sends one means somebody else at this address.
_OF_THE_CALLER = ("authorization", "cookie")

# What a browser keeps for the whole address, whichever page of it said so.
_OF_THE_ADDRESS = (
    "accept-ch",
    "alt-svc",
    "clear-site-data",
    "expect-ct",
    "nel",
    "origin-agent-cluster",
    "public-key-pins",
    "public-key-pins-report-only",
    "report-to",
    "reporting-endpoints",
    "service-worker-allowed",
    "set-cookie",
    "strict-transport-security",
)


@cache
def _sandbox() -> base_pb2.HeaderValueOption:
    """A model's page runs nothing and is of no origin. Beside what the model says itself: of several policies a browser
    follows all."""
    return base_pb2.HeaderValueOption(
        header=base_pb2.HeaderValue(key="content-security-policy", value="sandbox"),
        append_action=base_pb2.HeaderValueOption.APPEND_IF_EXISTS_OR_ADD,
    )


def scope(
    name: str,
    *,
    key: tuple[str, str],
    routes: Iterable[route_components_pb2.Route],
    filters: dict[str, Any],
    retries: route_components_pb2.RetryPolicy,
    of_a_model: bool = False,
) -> Resource:
    """A scope with its routes inline. What identifies the caller to us never goes on to a model, and what a model
    answers never speaks for the address, which it shares with us and with the others."""
    fragment = scoped_route_pb2.ScopedRouteConfiguration.Key.Fragment
    message = scoped_route_pb2.ScopedRouteConfiguration(
        name=name,
        key=scoped_route_pb2.ScopedRouteConfiguration.Key(fragments=[fragment(string_key=part) for part in key]),
        route_configuration=route_pb2.RouteConfiguration(
            name=name,
            # The clusters are acknowledged before the scope is sent; checking again would only couple the two.
            validate_clusters=BoolValue(value=False),
            virtual_hosts=[
                route_components_pb2.VirtualHost(
                    name=name,
                    domains=["*"],
                    routes=routes,
                    request_headers_to_remove=[SCOPE_HEADER, *(_OF_THE_CALLER if of_a_model else ())],
                    response_headers_to_remove=_OF_THE_ADDRESS if of_a_model else (),
                    response_headers_to_add=[_sandbox()] if of_a_model else (),
                    typed_per_filter_config=filters,
                    retry_policy=retries,
                )
            ],
        ),
    )
    return Resource.of(SCOPE, name, message.SerializeToString(deterministic=True))


_TITLES = {
    "deployment_stopped": "The deployment is stopped",
    "no_traffic": "No version receives traffic",
    "not_found": "There is no such thing",
}


def problem(status: int, code: str, detail: str) -> route_components_pb2.DirectResponseAction:
    """An answer without any upstream, as a problem (RFC 9457), of the same form as the services' own."""
    body = Struct()
    body.update(
        {
            "type": f"/docs/errors#{code}",
            "title": _TITLES[code],
            "status": status,
            "detail": detail,
            "code": code,
            "request_id": "%REQ(X-REQUEST-ID)%",
        }
    )
    return route_components_pb2.DirectResponseAction(
        status=status,
        body_format=substitution_format_string_pb2.SubstitutionFormatString(
            json_format=body, content_type="application/problem+json"
        ),
    )


def pack(message: Message) -> Any:
    """Deterministic, unlike `Any.Pack`: the version of a resource is the hash of its bytes."""
    return Any(
        type_url=f"type.googleapis.com/{message.DESCRIPTOR.full_name}",
        value=message.SerializeToString(deterministic=True),
    )
