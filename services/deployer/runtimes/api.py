"""`/runtimes`: the serving runtimes, as data."""

from typing import Annotated

from fastapi import APIRouter, Path, Response

from services.deployer.runtimes.catalogue import RUNTIMES, Runtime
from services.deployer.runtimes.schemas import RuntimeList, RuntimeView
from shared.errors import NotFound
from shared.http import TAGGED, CurrentCaller, DnsLabel, TransactionRoute, content_etag

router = APIRouter(route_class=TransactionRoute, tags=["runtimes"])

RuntimeId = Annotated[DnsLabel, Path(description="the runtime's id", examples=["inference"])]


@router.get("/runtimes", summary="List the serving runtimes")
async def list_runtimes(_: CurrentCaller) -> RuntimeList:
    """Ways to serve a model; a version of a deployment names one."""
    return RuntimeList(items=[_view(runtime) for runtime in RUNTIMES.values()])


@router.get("/runtimes/{runtime}", responses=TAGGED, summary="One serving runtime")
async def get_runtime(runtime: RuntimeId, _: CurrentCaller, response: Response) -> RuntimeView:
    """What it speaks, what it can load, and how its replicas are started."""
    if runtime not in RUNTIMES:
        raise NotFound.named("runtime", runtime)
    view = _view(RUNTIMES[runtime])
    response.headers["ETag"] = content_etag(view.model_dump_json().encode())
    return view


def _view(runtime: Runtime) -> RuntimeView:
    return RuntimeView(
        id=runtime.id,
        title=runtime.title,
        description=runtime.description,
        protocols=list(runtime.protocols),
        schemes=list(runtime.schemes),
        health_path=runtime.health_path,
        command=list(runtime.command),
        args=list(runtime.args),
    )
