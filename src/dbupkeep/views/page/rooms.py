"""All routes of the page."""

from __future__ import annotations

from dbupkeep.views.page import controls, entrance, fleet, history, overview, runs, schedule, static, trail

ROUTERS = tuple(room.router for room in (entrance, static, overview, runs, controls, fleet, history, schedule, trail))
