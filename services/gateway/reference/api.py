"""The routes outside `/api/v1`. `/openapi.json` is FastAPI's own: `app.py` has it serve the merged document."""

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from services.gateway.identity.api import list_keys
from services.gateway.parts import CurrentParts

router = APIRouter(include_in_schema=False)

# The pages run nothing and load nothing; should something slip into them, the browser refuses it too.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'",
    "Cache-Control": "max-age=300",
}


@router.get("/docs")
async def docs(parts: CurrentParts) -> HTMLResponse:
    return HTMLResponse(parts.documents.reference_page, headers=_HEADERS)


@router.get("/docs/errors")
async def docs_errors(parts: CurrentParts) -> HTMLResponse:
    return HTMLResponse(parts.documents.errors_page, headers=_HEADERS)


router.add_api_route("/.well-known/jwks.json", list_keys)
