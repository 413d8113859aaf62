"""`/deployments/{id}/endpoint`."""

from fastapi import APIRouter

from services.gateway.domain import Enforcement, Record, access_of, parse_weights
from services.gateway.endpoint import queries
from services.gateway.endpoint.domain import example_body, example_call, main_version, url_of, version_url
from services.gateway.endpoint.schemas import Endpoint
from services.gateway.parameters import DeploymentId
from services.gateway.parts import CurrentParts
from shared.http import CurrentCaller, CurrentUnit, TransactionRoute

router = APIRouter(route_class=TransactionRoute, tags=["endpoint"])


@router.get("/deployments/{id}/endpoint", summary="Where a deployment is reached, and how")
async def get_endpoint(
    deployment: DeploymentId, caller: CurrentCaller, unit: CurrentUnit, parts: CurrentParts
) -> Endpoint:
    """Its addresses, and a `curl` line that works as shown."""
    row = await queries.endpoint_of(unit.session, deployment, caller)
    base, spec = parts.settings.public_url, row.spec
    versions = {version["number"]: version for version in spec.get("versions", [])}
    weights = parse_weights(spec.get("traffic", {}).get("weights"))
    main = versions.get(main_version(weights), {})
    body = example_body(spec.get("metadata") or {}, await queries.example(unit.session, main.get("digest")))
    access = access_of(spec.get("access"))
    recorded = None
    if row.recorded is not None:
        recorded = Record(row.recorded, row.endpoints_generation, parse_weights(row.weights), row.rejected)
    missing = parts.reconciler.missing
    state = Enforcement.recorded(recorded, generation=row.generation, wanted=weights, missing=missing)
    return Endpoint(
        url=url_of(base, row.id),
        versions={str(number): version_url(base, row.id, number) for number in sorted(versions)},
        hosts=[],
        grpc=None,
        access=access,
        example=example_call(base, row.id, private=access == "private", runtime=main.get("runtime", ""), body=body),
        example_is_generic=body is None,
        enforced=bool(state.enforced),
        reason=state.reason,
    )
