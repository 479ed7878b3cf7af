"""Rows of the generation log for unit tests."""

from __future__ import annotations

from datetime import datetime

T0 = datetime.fromisoformat("2026-03-01T12:00")


STEPS = [
    *("START", "RESUME", "RESUME_DECISION", "CLEANUP", "PHASE_1_START", "PHASE_1_ERROR", "FETCH_DATA", "WRITE_FILES"),
    *("SUCCESS", "SKIP", "ERROR", "OPERATOR_ENQUEUE", "OPERATOR_ENQUEUE_FAILED", "OPERATOR_RESET"),
    *("OPERATOR_RESET_FAILED", "OPERATOR_CANCEL", "OPERATOR_REPAIR", "SOMETHING_NEW"),
]
