"""What stands for the status of a job in one character, on a terminal and on the page alike."""

from __future__ import annotations

from collections.abc import Mapping

from dbupkeep.jobs import JobStatus

MARKS: Mapping[JobStatus, str] = {
    JobStatus.PENDING: "·",
    JobStatus.RUNNING: "▸",
    JobStatus.COMPLETED: "✓",
    JobStatus.FAILED: "✗",
    JobStatus.CANCELLED: "×",
    JobStatus.SKIPPED: "–",
    JobStatus.DEFERRED: "‖",
}
