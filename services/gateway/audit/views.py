"""Entries as the API shows them."""

from services.gateway.audit.schemas import EntryView
from shared.schema import AuditEntry


def view(row: AuditEntry) -> EntryView:
    return EntryView(
        id=row.id,
        at=row.at,
        service=row.service,
        user=row.user_id,
        token=row.token,
        group=row.group_id,
        action=row.action,
        method=row.method,
        path=row.path,
        outcome=row.outcome,
        status=row.status,
        code=row.code,
        request_id=row.request_id,
        address=row.address,
        changes=row.changes,
        position=row.position,
        hash=row.hash,
    )
