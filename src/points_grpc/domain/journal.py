"""How a journal transaction is put together: postings that sum to zero per program, versions and balances after."""

from __future__ import annotations

from points_grpc.domain.context import Context
from points_grpc.domain.model import Account, JournalEntry, Kind, Lot, Posting, WalletKey
from points_grpc.domain.snapshot import Snapshot


class EntryBuilder:
    """Collects the postings of one transaction. Each wallet's version rises once, whatever the number of postings."""

    __slots__ = ("_balances", "_opened", "_postings", "_snapshot", "_system")

    def __init__(self, snapshot: Snapshot) -> None:
        """Starts from the wallets as the snapshot has them."""
        self._snapshot = snapshot
        self._postings: list[Posting] = []
        self._balances: dict[WalletKey, tuple[int, int]] = {}
        self._system: dict[tuple[Account, int], int] = {}
        self._opened: list[Lot] = []

    def post(self, key: WalletKey, lot_id: int, points: int) -> None:
        """Changes a lot of a wallet."""
        known = self._balances.get(key)
        if known is None:
            wallet = self._snapshot.wallet(key)
            # A wallet that is not there yet comes into being by an enrolment of the same decision.
            known = (1, 0) if wallet is None else (wallet.version + 1, wallet.current)
        version, balance = known[0], known[1] + points
        self._balances[key] = (version, balance)
        self._postings.append(
            Posting(Account.WALLET, key.customer_id, key.program_id, lot_id, points, version, balance)
        )

    def open(self, lot: Lot) -> None:
        """Opens a lot in a wallet."""
        self._opened.append(lot)
        self.post(lot.wallet, lot.lot_id, lot.points)

    def system(self, account: Account, program_id: int, points: int) -> None:
        """Changes a system account; several changes of one account become one posting."""
        key = (account, program_id)
        self._system[key] = self._system.get(key, 0) + points

    def version_after(self, key: WalletKey) -> int:
        """The version that a touched wallet gets."""
        return self._balances[key][0]

    def build(
        self,
        *,
        transaction_id: int,
        kind: Kind,
        customer_id: int,
        program_id: int,
        points: int,
        context: Context | None,
        counterparty_id: int | None = None,
        notes: str = "",
        policy_revision: int = 0,
        transaction_number: str | None = None,
    ) -> JournalEntry:
        """The transaction. Without a context it is a booking that no command asked for."""
        system = [
            Posting(account, 0, program, 0, total, 0, 0) for (account, program), total in self._system.items() if total
        ]
        entry = JournalEntry(
            transaction_id=transaction_id,
            kind=kind,
            created_at=self._snapshot.now,
            customer_id=customer_id,
            counterparty_id=counterparty_id,
            program_id=program_id,
            points=points,
            request_id=context.request_id if context else "",
            actor=context.actor if context else "",
            notes=notes,
            policy_revision=policy_revision,
            postings=(*self._postings, *system),
            opened=tuple(self._opened),
            transaction_number=transaction_number,
        )
        _assert_balanced(entry)
        return entry


def _assert_balanced(entry: JournalEntry) -> None:
    sums: dict[int, int] = {}
    for posting in entry.postings:
        sums[posting.program_id] = sums.get(posting.program_id, 0) + posting.points
    assert not any(sums.values()), "postings must sum to zero per program"
