"""`/runtimes`: the serving runtimes, as data."""

from fastapi import APIRouter

from services.deployer.runtimes.catalogue import RUNTIMES, Runtime
from services.deployer.runtimes.schemas import RuntimeList, RuntimeView
from shared.errors import NotFound
from shared.http import CurrentCaller, DnsLabel, TransactionRoute

router = APIRouter(route_class=TransactionRoute, tags=["runtimes"])


@router.get("/runtimes", summary="List the serving runtimes")
async def list_runtimes(_: CurrentCaller) -> RuntimeList:
    return RuntimeList(items=[_view(runtime) for runtime in RUNTIMES.values()])


@router.get("/runtimes/{runtime}", summary="One serving runtime")
async def get_runtime(runtime: DnsLabel, _: CurrentCaller) -> RuntimeView:
    if runtime not in RUNTIMES:
        raise NotFound.named("runtime", runtime)
    return _view(RUNTIMES[runtime])


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
