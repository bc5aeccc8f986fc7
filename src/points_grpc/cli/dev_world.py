"""The world of `serve --dev`: the program and the two customers of the documented transfer page.

Made through the committer like any other write, under fixed request ids, so that a second start changes nothing.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable

from points_grpc.domain.commands import Command, CreateCustomer, CreateProgram, Expiry, IssuePoints, Submission
from points_grpc.domain.model import Identifier, IdentifierType, Source
from points_grpc.domain.outcome import Refused, Settled
from points_grpc.domain.policy import PointValue, Policy, RedemptionPolicy

ORGANISATION = "demo"
REGION = "IN"
PROGRAM_ID = 973
SENDER_ID = 565039505
RECEIVER_ID = 565039506
POINTS = 8500


async def create(org_id: int, submit: Callable[[Submission], Awaitable[Settled]]) -> None:
    """Creates what is missing. Raises if the server refuses, which it never should."""
    for name, command in _commands().items():
        submission = Submission(
            org_id=org_id,
            command=command,
            request_id=f"dev-world-{name}",
            request_id_given=True,
            fingerprint={},
            actor="dev",
            otp_seed=secrets.token_bytes(32),
        )
        settled = await submit(submission)
        if isinstance(settled.outcome, Refused):
            reason = settled.outcome.code.reason
            raise RuntimeError(f"the development world could not be made: {name}: {reason}")  # noqa: TRY004 - no type


def _commands() -> dict[str, Command]:
    return {
        "program": CreateProgram(
            program_id=PROGRAM_ID,
            name="DocDemoDefaultProgram",
            default=True,
            decimal_places=0,
            time_zone="Asia/Kolkata",
            policy=Policy(redemption=RedemptionPolicy(point_value=PointValue(25, 1, "INR"))),
        ),
        "sender": CreateCustomer(
            customer_id=SENDER_ID,
            first_name="",
            last_name="",
            mobile="+919148574269",
            email=None,
            external_id=None,
            program_ids=(PROGRAM_ID,),
            campaign_contact=False,
        ),
        "receiver": CreateCustomer(
            customer_id=RECEIVER_ID,
            first_name="Madhurima",
            last_name="Basak",
            mobile=None,
            email=None,
            external_id=None,
            program_ids=(PROGRAM_ID,),
            campaign_contact=False,
        ),
        "points": IssuePoints(
            customer=Identifier(IdentifierType.ID, str(SENDER_ID)),
            program_id=PROGRAM_ID,
            points=POINTS,
            source=Source.LOYALTY_PLUS,
            expiry=Expiry(in_months=12),
        ),
    }
