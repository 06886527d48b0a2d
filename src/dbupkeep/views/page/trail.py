"""The audit trail, for administrators: who asked for what, and whether the trail is whole."""

from __future__ import annotations

from fastapi.responses import HTMLResponse

from dbupkeep.views.page.room import room
from dbupkeep.views.page.sheet import ToAdminister

router = room()

SHOWN = 100


@router.get("/audit")
def audit(sheet: ToAdminister, before: int = 0) -> HTMLResponse:
    """The newest entries, or those before one."""
    entries = sheet.desk.app.ledger.acts(before=before, limit=SHOWN)
    return sheet.show("audit.html", entries=entries, older=entries[-1].seq if len(entries) == SHOWN else 0)
