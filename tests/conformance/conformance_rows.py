"""All rows that the one server of the table plays, in order."""

from __future__ import annotations

from conformance_points import ROWS as POINTS_ROWS
from conformance_service import ROWS as SERVICE_ROWS
from conformance_transfer import ROWS as TRANSFER_ROWS

ROWS = (*TRANSFER_ROWS, *POINTS_ROWS, *SERVICE_ROWS)
