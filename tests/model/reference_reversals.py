"""Reversals in the reference model: redemptions given back, alone or with the return of a purchase."""

from __future__ import annotations

from typing import Any

from reference_guards import POINTS_MAX, Answer, Guards
from reference_state import (
    DAY,
    Drawn,
    Points,
    Refusal,
    Spent,
    Time,
)

RETURN_FAILED = "903 RETURN_NOT_POSSIBLE"
RETURN_WARNINGS = {
    901: "901 RETURN_INVALID_POINTS_OR_REDEMPTION_ID",
    902: "902 RETURN_REDEMPTION_NOT_FOUND",
    904: "904 RETURN_INVALID_CUSTOMER_DETAILS",
    8015: "904 RETURN_INVALID_CUSTOMER_DETAILS",
}


class Reversals(Guards):
    """Points that come back."""

    def ReverseRedemption(self, request: Any, drawn: Drawn) -> Answer:
        """Gives redeemed points back."""
        return self._reverse(request, request.points_to_be_reversed if has_points(request) else None)

    def _named(self, request: Any) -> list[Spent]:
        """The redemptions that a reversal names, newest first; of a bill those of the customer, if there are any."""
        if request.redemption_id:
            found = [one for one in self.redemptions if one.redemption_id == request.redemption_id]
        elif request.external_reference_number:
            found = [one for one in self.redemptions if one.reference == request.external_reference_number]
        else:
            found = [one for one in self.redemptions if one.bill == request.transaction_number]
            person = self.person(request.customer_identifier)
            own = [one for one in found if person and person.customer_id in self.line(one.customer_id)]
            found = own or found
        return sorted(found, key=lambda one: (one.at, one.number), reverse=True)

    def _reverse(self, request: Any, points: int | None) -> Answer:
        found = self._named(request)
        at_stake = [one for one in found if one.left] or found
        taken = [one for spent in at_stake for one in (spent.program_id, *(lot.program_id for lot, _ in spent.draws))]
        self._runs("898 UNAVAILABLE PAUSED", *(self.programs[one] for one in taken))
        self._parses()
        if not self.is_on("Allow_points_redemption_reversal"):
            raise Refusal(
                "903 FAILED_PRECONDITION REVERSAL_NOT_POSSIBLE", "905 REVERSAL_DISABLED", cause="REVERSAL_DISABLED"
            )
        if not found:
            raise self._no_redemption(request.transaction_number)
        person = self._anyone(request.customer_identifier)
        if any(person.customer_id not in self.line(one.customer_id) for one in found):
            raise Refusal("904 INVALID_ARGUMENT INVALID_CUSTOMER_DETAILS")
        survivor = self.survivor(person.customer_id)
        if self.is_fraud(survivor) or self.is_barred(survivor):
            raise Refusal("820 FAILED_PRECONDITION CUSTOMER_FRAUD_OPERATION_BLOCKED")
        for one in at_stake:
            days = self.programs[one.program_id].policy.redemption.reversal_days
            if days and self.now > one.at + days * DAY:
                raise Refusal("903 FAILED_PRECONDITION REVERSAL_NOT_POSSIBLE", cause="WINDOW_PASSED")
        reversible = sum(one.left for one in found)
        if not reversible:
            code = "812 FAILED_PRECONDITION TRANSACTION_ALREADY_REVERSED"
            if not request.transaction_number:
                code = "3802 FAILED_PRECONDITION REDEMPTION_ALREADY_REVERSED"
            raise Refusal(code, reversed_at=Time(max(one.reversed_at or 0 for one in found)))
        if points is not None and points > reversible:
            raise Refusal("810 FAILED_PRECONDITION REVERSAL_POINTS_MISMATCH", points=points, reversible=reversible)
        return self._give_back(found, reversible if points is None else points)

    def _no_redemption(self, bill: str) -> Refusal:
        if not bill:
            return Refusal("902 NOT_FOUND REDEMPTION_NOT_FOUND")
        if bill not in {*self.bills, *self.returned}:
            return Refusal("811 INVALID_ARGUMENT INVALID_TRANSACTION_NUMBER", cause="UNKNOWN")
        return Refusal("814 NOT_FOUND NO_REDEMPTION_ON_TRANSACTION")

    def _give_back(self, found: list[Spent], asked: int) -> Answer:
        """Newest redemption first, latest-expiring lot first; what expired since is not credited."""
        left, lots, redemptions = asked, [], []
        for spent in found:
            credited = expired = 0
            places = sorted(range(len(spent.draws)), key=lambda place: spent.draws[place].lot.order, reverse=True)
            for place in places:
                lot, drawn = spent.draws[place]
                points = min(left, drawn - spent.back[place])
                left -= points
                spent.back[place] += points
                if self.expired(lot):
                    expired += points
                elif points:
                    credited += points
                    lots.append({"lot_id": self._credit(lot, points).name, "points": points})
            if credited or expired:
                spent.reversed_at = self.now
                redemptions.append(
                    {
                        "redemption_id": spent.redemption_id,
                        "points_reversed": credited + expired,
                        "credited": credited,
                        "expired": expired,
                        "points_left": spent.left,
                    }
                )
        expired = sum(one["expired"] for one in redemptions)
        touched = dict.fromkeys(
            (self.survivor(lot.customer_id).customer_id, lot.program_id) for spent in found for lot, _ in spent.draws
        )
        return {
            "points_to_be_reversed": asked,
            "points_reversed": asked,
            "credited": asked - expired,
            "expired": expired,
            "redemptions": redemptions,
            "lots": lots,
            "wallets": [self.wallet(*one) for one in touched],
            "warnings": [("877 POINTS_NOT_ALLOCATED", {"points": str(expired)})] if expired else [],
        }

    def _credit(self, lot: Points, points: int) -> Points:
        """The lot itself, or a new one of whoever lives on."""
        survivor = self.survivor(lot.customer_id)
        if survivor.customer_id != lot.customer_id:
            return self.open_child(lot, (survivor.customer_id, lot.program_id), points, "reversal")
        lot.remaining += points
        return lot

    def ReturnTransaction(self, request: Any, drawn: Drawn) -> Answer:
        """Books the return of a purchase, with the reversals attached."""
        self._runs("898 UNAVAILABLE PAUSED")
        self._parses()
        person = self._anyone(request.customer_identifier)
        bill = request.transaction_number
        redeemers = [one.customer_id for one in self.redemptions if one.bill == bill]
        owners = [self.bills[bill][0]] if bill in self.bills else redeemers
        if owners and not any(person.customer_id in self.line(one) for one in owners):
            raise Refusal("10012 NOT_FOUND RESOURCE_NOT_FOUND")
        if bill in self.returned:
            raise Refusal("10013 ALREADY_EXISTS RESOURCE_EXISTS")
        results, warnings = [], []
        for index, item in enumerate(request.items):
            try:
                answer = self._return_item(request, item)
            except Refusal as refusal:
                disabled = refusal.metadata.get("cause") == "REVERSAL_DISABLED"
                code = "905 REVERSAL_DISABLED" if disabled else RETURN_WARNINGS.get(refusal.number, RETURN_FAILED)
                warnings.append((code, {"index": str(index)}))
                named = item.redemption_id if item.redemption_id.isalnum() else ""
                results.append({"redemption_id": named, "points_reversed": 0, "credited": 0})
                continue
            results += [{**one, "redemption_id": item.redemption_id} for one in answer["redemptions"]]
            warnings += answer["warnings"]
        self.returned.add(bill)
        return {
            "results": results,
            "points_reversed": sum(one["points_reversed"] for one in results),
            "returned_at": Time(self.now),
            "warnings": warnings,
        }

    def _return_item(self, request: Any, item: Any) -> Answer:
        if not self.is_on("Allow_points_redemption_reversal"):
            raise Refusal("903 FAILED_PRECONDITION REVERSAL_NOT_POSSIBLE", cause="REVERSAL_DISABLED")
        points = item.points_to_be_reversed if has_points(item) else None
        if points is not None and not 1 <= points <= POINTS_MAX:
            raise Refusal("901 INVALID_ARGUMENT INVALID_POINTS_OR_REDEMPTION_ID")
        if not item.redemption_id.isalnum():
            raise Refusal("901 INVALID_ARGUMENT INVALID_POINTS_OR_REDEMPTION_ID")
        customer = item if item.HasField("customer_identifier") else request
        return self._reverse(ItemReversal(item.redemption_id, customer.customer_identifier), points)


class ItemReversal:
    """An item of a return, as the reversal that it stands for."""

    external_reference_number = transaction_number = ""

    def __init__(self, redemption_id: str, customer_identifier: Any) -> None:
        self.redemption_id, self.customer_identifier = redemption_id, customer_identifier


def has_points(request: Any) -> bool:
    """Whether a reversal says how much."""
    return bool(request.HasField("points_to_be_reversed"))
