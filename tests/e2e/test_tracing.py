"""Points on their way, over a loopback port: chains of transfers, merges, transfers taken back, adjustments."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest

from points_grpc.storage.engine import Database
from points_grpc.storage.verify import verify
from points_grpc.v1 import (
    customer_service_pb2,
    issuance_service_pb2,
    points_service_pb2,
    wallet_service_pb2,
)
from running import Caller, RunningServer, refused

IDS = itertools.count(720_000_001)
PROGRAM = 973
SOON = datetime.now(UTC).replace(microsecond=0) + timedelta(days=30)


def by_id(customer_id: int) -> dict[str, str]:
    """The identifier that is the customer's id."""
    return {"type": "ID", "value": str(customer_id)}


def customer(caller: Caller, *lots: int) -> int:
    """A new member with some lots, of which the first expires first."""
    customer_id = next(IDS)
    caller.ask(
        caller.customers.CreateCustomer,
        customer_service_pb2.CreateCustomerRequest(),
        {"customerId": str(customer_id), "firstName": f"First{customer_id}", "enrolledProgramIds": [PROGRAM]},
    )
    for number, points in enumerate(lots):
        caller.ask(
            caller.issuance.IssuePoints,
            issuance_service_pb2.IssuePointsRequest(),
            {
                "customerIdentifier": by_id(customer_id),
                "points": points,
                "source": "GOODWILL",
                "expiresAt": (SOON + timedelta(days=number)).isoformat(),
            },
        )
    return customer_id


def transfer(caller: Caller, sender: int, receiver: int, points: int) -> Any:
    """A transfer, as answered."""
    fields = {
        "pointsToBeTransferred": points,
        "fromCustomerIdentifier": by_id(sender),
        "toCustomerIdentifier": by_id(receiver),
    }
    answer = caller.ask(caller.points.TransferPoints, points_service_pb2.TransferPointsRequest(), fields)
    return answer.data[0]


def redeem(caller: Caller, customer_id: int, points: int) -> str:
    """A redemption; its id."""
    fields = {"customerIdentifier": by_id(customer_id), "points": points}
    answer = caller.ask(caller.points.RedeemPoints, points_service_pb2.RedeemPointsRequest(), fields)
    return str(answer.redemption_id)


def merge(caller: Caller, victim: int, survivor: int, **given: Any) -> Any:
    """A merge, as answered."""
    fields = {
        "victimCustomerIdentifier": by_id(victim),
        "survivorCustomerIdentifier": by_id(survivor),
        "reason": "one person",
        **given,
    }
    return caller.ask(caller.customers.MergeCustomers, customer_service_pb2.MergeCustomersRequest(), fields)


def take_back(caller: Caller, transfer_id: int, shortfall: str = "FAIL", **given: Any) -> Any:
    """A reversal of a transfer, as answered."""
    fields = {"transferId": str(transfer_id), "shortfall": shortfall, "reason": "a mistake", **given}
    return caller.ask(caller.points.ReverseTransfer, points_service_pb2.ReverseTransferRequest(), fields)


def current(caller: Caller, customer_id: int) -> int:
    """A customer's current points."""
    fields = {"customerIdentifier": by_id(customer_id)}
    answer = caller.ask(caller.wallets.GetWallet, wallet_service_pb2.GetWalletRequest(), fields)
    return int(answer.wallet.current)


def lots(caller: Caller, customer_id: int, *, spent: bool = False) -> list[Any]:
    """A customer's lots in spending order."""
    fields = {"customerIdentifier": by_id(customer_id), "includeSpent": spent}
    return list(caller.ask(caller.wallets.ListLots, wallet_service_pb2.ListLotsRequest(), fields).lots)


def trace(caller: Caller, lot_id: int, **given: Any) -> Any:
    """Where a lot came from and what was drawn from it."""
    fields = {"lotId": str(lot_id), **given}
    return caller.ask(caller.wallets.TraceLot, wallet_service_pb2.TraceLotRequest(), fields)


def transfers(caller: Caller, customer_id: int, **given: Any) -> Any:
    """A page of a customer's transfers."""
    fields = {"customerIdentifier": by_id(customer_id), **given}
    return caller.ask(caller.wallets.ListTransfers, wallet_service_pb2.ListTransfersRequest(), fields)


def kinds(nodes: Any) -> list[str]:
    """What opened the lots of a trace."""
    return [wallet_service_pb2.JournalTransaction.Kind.Name(one.kind) for one in nodes]


class TestChain:
    """Ten transfers through ten customers."""

    def test_ten_transfers(self, caller: Caller, server: RunningServer) -> None:
        """Expiry, earning program and root are those of the issue to the end, and no point is lost on the way."""
        people = [customer(caller, 600, 500), *(customer(caller) for _ in range(10))]
        issued = lots(caller, people[0])
        for step, (sender, receiver) in enumerate(itertools.pairwise(people)):
            transfer(caller, sender, receiver, 1000 - 10 * step)
        spent = 60
        redeem(caller, people[5], 7)
        redeem(caller, people[-1], spent - 7)

        for person in people:
            for one in lots(caller, person, spent=True):
                root = next(root for root in issued if root.lot_id == one.root_lot_id)
                assert (root.expires_at, root.earning_program_id, root.source, root.awarded_at) == (
                    one.expires_at,
                    one.earning_program_id,
                    one.source,
                    one.awarded_at,
                )
        assert {one.lot_id for one in issued} == {one.root_lot_id for one in lots(caller, people[-1], spent=True)}
        assert 1100 - spent == sum(current(caller, person) for person in people)
        assert sound(server)

    def test_traced_both_ways(self, caller: Caller) -> None:
        """From the last lot up to the issue, from the issue down to the last lot, and both from the middle."""
        people = [customer(caller, 100), *(customer(caller) for _ in range(10))]
        for sender, receiver in itertools.pairwise(people):
            transfer(caller, sender, receiver, 100)
        chain = [lots(caller, person, spent=True)[0].lot_id for person in people]

        last, first, middle = (trace(caller, chain[at]) for at in (-1, 0, 4))

        assert chain[:-1][::-1] == [one.lot.lot_id for one in last.ancestors]
        assert chain[1:] == [one.lot.lot_id for one in first.descendants]
        assert (chain[:4][::-1], chain[5:]) == (
            [one.lot.lot_id for one in middle.ancestors],
            [one.lot.lot_id for one in middle.descendants],
        )
        assert people[1:] == [one.lot.customer_id for one in first.descendants]
        assert ["ISSUE"] == kinds([first.lot])
        assert ["TRANSFER"] * 10 == kinds(first.descendants)
        times = [one.opened_at.ToNanoseconds() for one in (first.lot, *first.descendants)]
        assert sorted(times) == times
        assert 0 == first.omitted + middle.omitted + last.omitted

    def test_bounded(self, caller: Caller) -> None:
        """A trace shows the nearest lots and counts the others."""
        people = [customer(caller, 100), *(customer(caller) for _ in range(5))]
        for sender, receiver in itertools.pairwise(people):
            transfer(caller, sender, receiver, 100)
        chain = [lots(caller, person, spent=True)[0].lot_id for person in people]

        found = {size: trace(caller, chain[2], lotsMax=size) for size in (1, 2, 4, 6)}

        assert {
            1: ([], [], 5),
            2: (chain[1:2], [], 4),
            4: ([chain[1], chain[0]], chain[3:4], 2),
            6: ([chain[1], chain[0]], chain[3:], 0),
        } == {
            size: ([n.lot.lot_id for n in one.ancestors], [n.lot.lot_id for n in one.descendants], one.omitted)
            for size, one in found.items()
        }

    def test_unknown_lot(self, caller: Caller) -> None:
        """A lot that is not there is refused with 10012."""
        with refused() as found:
            trace(caller, 1)

        assert (10012, grpc.StatusCode.NOT_FOUND, "lot_id") == (
            found[0].number,
            found[0].code,
            found[0].payload.errors[0].field,
        )


class TestListTransfers:
    """Transfers as one customer sees them."""

    def test_both_sides(self, caller: Caller) -> None:
        """As TransferPoints answered: a deduction for whom it took from, an addition for whom it went to."""
        ann, ben = customer(caller, 600, 500), customer(caller)
        made = transfer(caller, ann, ben, 700)

        [given] = transfers(caller, ann).transfers
        [got] = transfers(caller, ben, programId=PROGRAM).transfers

        assert made == given
        made.transfer_type = points_service_pb2.PointsTransfer.ADDITION
        assert made == got
        assert not transfers(caller, ben, programId=1).transfers

    @pytest.mark.parametrize("size", [1, 2, 3, 5])
    def test_pages(self, caller: Caller, size: int) -> None:
        """The pages hold every transfer once, newest first, whatever else happened."""
        ann, ben = customer(caller, 100), customer(caller, 100)
        made = []
        for number in range(5):
            pair = (ann, ben) if number % 2 else (ben, ann)
            made.append(transfer(caller, *pair, 10).transfer_id)
            redeem(caller, ann, 1)
        found: list[int] = []
        token = ""
        while True:
            page = transfers(caller, ann, pageSize=size, pageToken=token)
            found += [one.transfer_id for one in page.transfers]
            token = page.next_page_token
            if not token:
                break

        assert made[::-1] == found


class TestTakenBack:
    """ReverseTransfer."""

    def test_back_to_the_sender(self, caller: Caller) -> None:
        """What is left goes back with its expiry, the rest is told; the same request id is the same answer."""
        ann, ben = customer(caller, 60, 60), customer(caller)
        transfer_id = transfer(caller, ann, ben, 100).transfer_id
        before = [one.expires_at for one in lots(caller, ann, spent=True)]
        redeem(caller, ben, 70)
        with refused() as found:
            take_back(caller, transfer_id)

        answer = take_back(caller, transfer_id, "UP_TO_AVAILABLE", requestId=f"back-{ann}")
        again = take_back(caller, transfer_id, "UP_TO_AVAILABLE", requestId=f"back-{ann}")

        assert (817, {"points": "100", "current": "30", "short_by": "70"}) == (
            found[0].number,
            {key: found[0].info.metadata[key] for key in ("points", "current", "short_by")},
        )
        assert (100, 30, 70, [877]) == (
            answer.points_to_be_reversed,
            answer.points_reversed,
            answer.points_short,
            [one.code for one in answer.warnings],
        )
        assert [(before[1], 30)] == [(one.expires_at, one.points) for one in answer.lots]
        assert (50, 0) == (current(caller, ann), current(caller, ben))
        assert (again.transaction_id, True) == (answer.transaction_id, again.replayed)
        [lot] = answer.lots
        assert ["TRANSFER", "ISSUE"] == kinds(trace(caller, lot.lot_id).ancestors)
        assert ["TRANSFER_REVERSAL"] == kinds([trace(caller, lot.lot_id).lot])

    def test_unknown(self, caller: Caller) -> None:
        """An unknown transfer is refused with 10012, whatever else is wrong with the account."""
        with refused() as found:
            take_back(caller, 1)

        assert (10012, "Transfer not found") == (found[0].number, found[0].message)

    def test_form(self, caller: Caller) -> None:
        """What is missing is refused with 887, all fields together."""
        with refused() as found:
            caller.ask(caller.points.ReverseTransfer, points_service_pb2.ReverseTransferRequest(), {})

        assert {887} == {one.code for one in found[0].payload.errors}
        assert {"transfer_id", "shortfall", "reason"} == {one.field for one in found[0].payload.errors}


class TestMerged:
    """MergeCustomers."""

    def test_whole_story(self, caller: Caller, server: RunningServer) -> None:
        """Points move, writes to the victim are refused, its redemption is given back to the survivor."""
        ann, ben, cid = customer(caller, 100, 50), customer(caller, 7), customer(caller)
        sent = transfer(caller, ann, cid, 20).transfer_id
        redemption_id = redeem(caller, ann, 30)
        answer = merge(caller, ann, ben, requestId=f"merge-{ann}")
        again = merge(caller, ann, ben, requestId=f"merge-{ann}")
        with refused() as found:
            transfer(caller, ann, cid, 1)
        with refused() as twice:
            merge(caller, ann, cid)
        returned = caller.ask(
            caller.points.ReverseRedemption,
            points_service_pb2.ReverseRedemptionRequest(),
            {"redemptionId": redemption_id, "customerIdentifier": by_id(ben)},
        )
        take_back(caller, sent)

        assert (100, 2, ben, ann) == (
            answer.points_moved,
            answer.lots_moved,
            answer.survivor.customer_id,
            answer.victim_customer_id,
        )
        assert (answer.transaction_id, True) == (again.transaction_id, again.replayed)
        metadata = dict(found[0].info.metadata)
        assert [419, 419] == [found[0].number, twice[0].number]
        assert (str(ann), str(ben)) == (metadata["customer_id"], metadata["survivor_id"])
        assert (30, 0) == (returned.credited, returned.expired)
        assert (157, 0, 0) == tuple(current(caller, one) for one in (ben, ann, cid))
        assert sound(server)

    def test_past_is_read_through_the_survivor(self, caller: Caller) -> None:
        """The survivor's lists show what the victim did, and whoever was merged into the victim before."""
        ann, ben, cid, dan = customer(caller, 100), customer(caller, 7), customer(caller, 3), customer(caller)
        sent = transfer(caller, ann, dan, 20).transfer_id
        back = transfer(caller, dan, ben, 5).transfer_id
        first = merge(caller, ann, ben).transaction_id
        second = merge(caller, ben, cid).transaction_id

        listed = caller.ask(
            caller.wallets.ListTransactions,
            wallet_service_pb2.ListTransactionsRequest(),
            {"customerIdentifier": by_id(cid)},
        ).transactions
        seen = transfers(caller, cid).transfers
        own = transfers(caller, dan).transfers

        ids = [one.transaction_id for one in listed]
        assert sorted(ids, reverse=True) == ids
        assert ({sent, back, first, second}, 7) == ({sent, back, first, second} & set(ids), len(ids))
        merged = next(one for one in listed if one.transaction_id == second)
        assert {ben, cid} == {one.customer_id for one in merged.postings}
        kind = points_service_pb2.PointsTransfer
        assert [(back, kind.ADDITION), (sent, kind.DEDUCTION)] == [(o.transfer_id, o.transfer_type) for o in seen]
        assert [(back, kind.DEDUCTION), (sent, kind.ADDITION)] == [(o.transfer_id, o.transfer_type) for o in own]

    def test_victim_is_still_read(self, caller: Caller) -> None:
        """The victim is named by its identifiers as before, says who lives on, and has nothing."""
        ann, ben = customer(caller, 100), customer(caller)
        merge(caller, ann, ben)

        found = caller.ask(
            caller.customers.GetCustomer,
            customer_service_pb2.GetCustomerRequest(),
            {"customerIdentifier": by_id(ann)},
        ).customer

        assert (ann, ben) == (found.customer_id, found.merged_into_customer_id)
        assert (0, []) == (current(caller, ann), lots(caller, ann))


class TestAdjusted:
    """AdjustPoints."""

    def test_taken_away(self, caller: Caller) -> None:
        """Points go from the earliest-expiring lots, and the reason is in the journal."""
        ann = customer(caller, 60, 60)
        fields = {"customerIdentifier": by_id(ann), "points": 70, "reason": "a mistake"}
        answer = caller.ask(caller.issuance.AdjustPoints, issuance_service_pb2.AdjustPointsRequest(), fields)
        with refused() as found:
            caller.ask(caller.issuance.AdjustPoints, issuance_service_pb2.AdjustPointsRequest(), fields)

        [entry] = [
            one
            for one in caller.ask(
                caller.wallets.ListTransactions,
                wallet_service_pb2.ListTransactionsRequest(),
                {"customerIdentifier": by_id(ann)},
            ).transactions
            if one.transaction_id == answer.transaction_id
        ]
        assert ([60, 10], 50) == ([one.points for one in answer.lots], current(caller, ann))
        assert (wallet_service_pb2.JournalTransaction.ADJUSTMENT, "a mistake") == (entry.kind, entry.notes)
        assert (818, "20") == (found[0].number, found[0].info.metadata["short_by"])


def sound(server: RunningServer) -> bool:
    """Whether everything in the server's database agrees."""
    database = Database(server.database)
    try:
        report = verify(database)
    finally:
        database.close()
    assert [] == report.differences
    return report.sound
