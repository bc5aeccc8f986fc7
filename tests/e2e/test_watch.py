"""Watches of a real server under load: cut at random times, and by a restart, they miss nothing and repeat nothing."""

from __future__ import annotations

import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from databases import NewDatabase
from points_grpc.v1 import (
    customer_service_pb2,
    issuance_service_pb2,
    points_service_pb2,
    program_service_pb2,
    wallet_service_pb2,
)
from running import Caller, RunningServer, refused

CUSTOMERS = (1, 2, 3, 4)
LOAD_S = 4.0
WORKERS = 4
DEEDS_MIN = 40
"""What each of them does at least, however slow the machine is."""

SEED = random.randrange(10**9)

Book = dict[tuple[int, int], tuple[int, int]]
"""What remains and what is held, by customer and lot."""


def by_id(customer_id: int) -> dict[str, str]:
    """A customer by id."""
    return {"type": "ID", "value": str(customer_id)}


def issue(caller: Caller, customer_id: int, points: int) -> Any:
    """Issues points."""
    fields = {"customerIdentifier": by_id(customer_id), "points": points, "source": "LOYALTY_PLUS"}
    return caller.ask(caller.issuance.IssuePoints, issuance_service_pb2.IssuePointsRequest(), fields)


@pytest.fixture
def server(new_database_in_ci: NewDatabase, tmp_path: Path) -> Iterator[RunningServer]:
    """A server of its own, which the test may restart, with an organisation, a program and members."""
    running = RunningServer(tmp_path, on=new_database_in_ci(tmp_path))
    running.token = ""
    token = running.key(running.organisation())
    running.start()
    running.token = token
    caller = Caller(running.address, token)
    program = {"programId": 10, "name": "Program"}
    caller.ask(caller.programs.CreateProgram, program_service_pb2.CreateProgramRequest(), program)
    for customer_id in CUSTOMERS:
        fields = {"customerId": customer_id, "enrolledProgramIds": [10]}
        caller.ask(caller.customers.CreateCustomer, customer_service_pb2.CreateCustomerRequest(), fields)
        issue(caller, customer_id, 100_000)
    caller.close()
    yield running
    running.close()


class Rebuilt:
    """What a watcher makes of what it is told."""

    def __init__(self) -> None:
        self.book: Book = {}
        self.versions: dict[int, int] = defaultdict(int)
        self.balances: dict[int, int] = {}
        self.ids: set[int] = set()
        self.cuts = 0
        self.position = 0

    def take(self, transaction: Any) -> None:
        """Books a transaction. Fails where one comes twice, or one was left out."""
        assert transaction.transaction_id not in self.ids
        self.ids.add(transaction.transaction_id)
        touched = {}
        for one in transaction.postings:
            if not one.customer_id:
                continue
            points, held = self.book.get((one.customer_id, one.lot_id), (0, 0))
            self.book[one.customer_id, one.lot_id] = (points + one.points, held + one.held)
            touched[one.customer_id] = one.wallet_version
            self.balances[one.customer_id] = one.balance_after
        for customer_id, version in touched.items():
            assert self.versions[customer_id] + 1 == version
            self.versions[customer_id] = version


def write(server: RunningServer, number: int, until: float) -> None:
    """Transfers, redeems, holds and lets go, until time is up and enough is done; repeats what a restart left open."""
    chance = random.Random(f"{SEED}-{number}")
    caller = Caller(server.address, server.token)
    count = 0
    while time.monotonic() < until or count < DEEDS_MIN:
        count += 1
        giver, taker = chance.sample(CUSTOMERS, 2)
        request_id = f"load-{number}-{count}"
        points = {"points": chance.randint(1, 50), "customerIdentifier": by_id(giver), "requestId": request_id}
        deed = chance.randrange(4)
        if deed == 0:
            held = again(
                caller, caller.points.AuthorizeRedemption, points_service_pb2.AuthorizeRedemptionRequest, points
            )
            end = {"holdId": held.hold_id, "requestId": f"{request_id}-end"}
            if chance.random() < 0.5:
                again(caller, caller.points.CaptureRedemption, points_service_pb2.CaptureRedemptionRequest, end)
            elif chance.random() < 0.8:
                again(caller, caller.points.ReleaseRedemption, points_service_pb2.ReleaseRedemptionRequest, end)
        elif deed == 1:
            again(caller, caller.points.RedeemPoints, points_service_pb2.RedeemPointsRequest, points)
        else:
            fields = {
                "pointsToBeTransferred": points["points"],
                "fromCustomerIdentifier": by_id(giver),
                "toCustomerIdentifier": by_id(taker),
                "requestId": request_id,
            }
            again(caller, caller.points.TransferPoints, points_service_pb2.TransferPointsRequest, fields)
    caller.close()


OPEN = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED}
"""What leaves it open whether a call was carried out; a server that stops cancels what comes at the last moment."""


def again(caller: Caller, method: Any, request: Any, fields: Any) -> Any:
    """Asks until there is an answer: the request id makes that harmless."""
    while True:
        try:
            return caller.ask(method, request(), fields, timeout_s=5)
        except grpc.RpcError as error:
            if error.code() not in OPEN:
                raise
            time.sleep(0.05)


def watch(
    server: RunningServer, rebuilt: Rebuilt, begin: Callable[[Caller], Any], note: Callable[[Any], None], done: Any
) -> None:
    """Watches, is cut after a few messages or a moment, and goes on where it was, until it is told to stop."""
    chance = random.Random(SEED)
    caller = Caller(server.address, server.token)
    while not done():
        stream = begin(caller)
        threading.Timer(chance.uniform(0.05, 0.6), stream.cancel).start()
        left = chance.randint(1, 400)
        try:
            for message in stream:
                if message.HasField("transaction"):
                    rebuilt.take(message.transaction)
                note(message)
                left -= 1
                if not left:
                    break
        except grpc.RpcError as error:
            if error.code() not in {grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE}:
                raise
            time.sleep(0.02)
        stream.cancel()
        rebuilt.cuts += 1
    caller.close()


class Watchers:
    """Two watchers: of the first customer's wallet, and of the whole journal."""

    def __init__(self, server: RunningServer) -> None:
        self.wallet, self.journal = Rebuilt(), Rebuilt()
        self._version, self._token = 0, ""
        self.last = 0
        self.failures: list[BaseException] = []
        self.threads = [
            threading.Thread(
                target=self._run, args=(server, self.wallet, self._of_wallet, self._note_version, self._wallet_is_done)
            ),
            threading.Thread(
                target=self._run, args=(server, self.journal, self._of_all, self._note_token, self._journal_is_done)
            ),
        ]
        self.last_version = 0
        for one in self.threads:
            one.daemon = True
            one.start()

    def _run(self, *arguments: Any) -> None:
        try:
            watch(*arguments)
        except BaseException as error:  # noqa: BLE001 - raised by the test
            self.failures.append(error)

    def _of_wallet(self, caller: Caller) -> Any:
        request = wallet_service_pb2.WatchWalletRequest(after_version=self._version)
        request.customer_identifier.type, request.customer_identifier.value = 1, "1"
        return caller.wallets.WatchWallet(request, metadata=caller.metadata)

    def _note_version(self, message: Any) -> None:
        self._version = message.wallet_version

    def _wallet_is_done(self) -> bool:
        return bool(self.failures) or 0 < self.last_version <= self.wallet.versions[1]

    def _of_all(self, caller: Caller) -> Any:
        request = wallet_service_pb2.WatchTransactionsRequest(resume_token=self._token, from_beginning=not self._token)
        return caller.wallets.WatchTransactions(request, metadata=caller.metadata)

    def _note_token(self, message: Any) -> None:
        self._token = message.resume_token
        if message.HasField("transaction"):
            assert self.journal.position + 1 == message.transaction.position
            self.journal.position = message.transaction.position

    def _journal_is_done(self) -> bool:
        return bool(self.failures) or self.last in self.journal.ids


@pytest.mark.ci
def test_cut_at_random(server: RunningServer) -> None:
    """Watchers that are cut again and again, while others write and the server is restarted, rebuild every lot."""
    print(f"seed {SEED}")
    watchers = Watchers(server)
    until = time.monotonic() + LOAD_S
    load = [threading.Thread(target=write, args=(server, number, until)) for number in range(WORKERS)]
    for one in load:
        one.start()
    time.sleep(LOAD_S / 2)
    assert 0 == server.stop()
    token = server.token
    server.start()
    server.token = token
    for one in load:
        one.join()
    caller = Caller(server.address, token)
    issue(caller, 1, 7)
    wallets = {one: wallet_of(caller, one) for one in CUSTOMERS}
    newest = wallet_service_pb2.ListTransactionsRequest(page_size=1)
    newest.customer_identifier.type, newest.customer_identifier.value = 1, "1"
    watchers.last = caller.wallets.ListTransactions(newest, metadata=caller.metadata).transactions[0].transaction_id
    watchers.last_version = wallets[1].wallet.wallet_version
    for one in watchers.threads:
        one.join(30)
        assert not one.is_alive()
    if watchers.failures:
        raise watchers.failures[0]

    for rebuilt, customers in ((watchers.wallet, (1,)), (watchers.journal, CUSTOMERS)):
        assert {one: wallets[one].wallet.wallet_version for one in customers} == dict(rebuilt.versions)
        assert {one: wallets[one].wallet.current for one in customers} == rebuilt.balances
        held = {one: sum(kept for (whose, _), (_, kept) in rebuilt.book.items() if whose == one) for one in customers}
        assert {one: wallets[one].wallet.held for one in customers} == held
        for one in customers:
            assert lots_of(caller, one) == {
                lot_id: figures for (whose, lot_id), figures in rebuilt.book.items() if whose == one and figures[0]
            }
    assert watchers.journal.position == len(watchers.journal.ids) > 100
    assert min(watchers.wallet.cuts, watchers.journal.cuts) >= 5
    assert '"call_failed"' not in server.errors()
    caller.close()


def wallet_of(caller: Caller, customer_id: int) -> Any:
    """A wallet as it stands."""
    fields = {"customerIdentifier": by_id(customer_id)}
    return caller.ask(caller.wallets.GetWallet, wallet_service_pb2.GetWalletRequest(), fields)


def lots_of(caller: Caller, customer_id: int) -> dict[int, tuple[int, int]]:
    """What remains and what is held of each lot, page by page."""
    found: dict[int, tuple[int, int]] = {}
    token = ""
    while True:
        fields = {"customerIdentifier": by_id(customer_id), "pageToken": token, "pageSize": 1000}
        answer = caller.ask(caller.wallets.ListLots, wallet_service_pb2.ListLotsRequest(), fields)
        found |= {one.lot_id: (one.remaining, one.held) for one in answer.lots}
        token = answer.next_page_token
        if not token:
            return found


def test_another_organisation(server: RunningServer) -> None:
    """Another organisation's token is refused as one that is made up, and nothing of its journal is told."""
    server.stop()
    token = server.key(server.organisation("other"))
    mine = server.token
    server.start()
    server.token = mine
    caller, other = Caller(server.address, mine), Caller(server.address, token)
    request = wallet_service_pb2.WatchTransactionsRequest
    stream = caller.wallets.WatchTransactions(request(from_beginning=True), metadata=caller.metadata)
    theirs = [next(stream).resume_token for _ in range(3)][-1]
    stream.cancel()
    answers = []
    for one in (theirs, theirs[:-2] + "xx", "x"):
        with refused() as found:
            next(other.wallets.WatchTransactions(request(resume_token=one), metadata=other.metadata))
        answers.append((found[0].number, found[0].code, found[0].message, dict(found[0].info.metadata)))
    quiet = other.wallets.WatchTransactions(request(from_beginning=True), metadata=other.metadata, timeout=1)
    first = next(quiet)
    issue(caller, 1, 5)
    told = []
    with refused() as ended:
        told += list(quiet)

    assert [(10018, grpc.StatusCode.OUT_OF_RANGE)] * 3 == [one[:2] for one in answers]
    assert answers[0] == answers[1] == answers[2]
    assert {"oldest": first.resume_token} == answers[0][3]
    assert ([], grpc.StatusCode.DEADLINE_EXCEEDED) == (told, ended[0].code)
    caller.close()
    other.close()
