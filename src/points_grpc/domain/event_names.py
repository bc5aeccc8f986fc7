"""What business events are called: in the configuration key that asks for them, and where they are posted.

Names and nothing else. What an event says, and to whom it is told, is in `notices.py`.
"""

from __future__ import annotations

from points_grpc.domain.model import Kind

EVENT_NAMES = {
    Kind.ISSUE: "points.issued",
    Kind.TRANSFER: "points.transferred",
    Kind.REDEMPTION: "points.redeemed",
    Kind.REVERSAL: "points.redemption_reversed",
    Kind.EXPIRY: "points.expired",
    Kind.MERGE: "customer.merged",
    Kind.ADJUSTMENT: "points.adjusted",
    Kind.TRANSFER_REVERSAL: "points.transfer_reversed",
    Kind.HOLD: "points.held",
    Kind.RELEASE: "points.released",
}
"""What each kind of journal transaction is called. A capture releases what was held and redeems."""
