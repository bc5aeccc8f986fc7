"""Valid requests of every RPC, changed in a few places: whatever is asked, the answer is coded, and the books balance.

A run is named by its seed, which is printed: `POINTS_SEED` plays it again, `POINTS_FUZZ_CASES` makes it longer or
shorter. In process a seed gives the same requests in the same order; over the wire the callers are many.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import grpc
import grpc.aio
import pytest
from conformance_player import METHODS, STREAMS, Org, make_orgs
from conformance_table import Do, Row, group, issue, member, program, purchase, redeem, transfer
from google.protobuf.json_format import ParseDict
from in_process import InProcess
from judging import problem_of, problem_of_items
from mutations import Case, Mutator, rpcs

from points_grpc.storage.engine import Database
from points_grpc.storage.verify import verify
from running import RunningServer

CI_CASES, LONG_CASES = 20_000, 200_000
CASES_OF_AN_ORGANISATION = 500
"""Then another one is used: changes add up to a world in which little is left to be accepted."""

CALLERS = 16
CALL_S = 30.0
ATTEMPTS_MAX = 3
"""How often a call is sent that the core of the server ended, bare: one that stood still for a second does that."""

SHOWN = 5

Answered = tuple[str, str, bytes, bytes]
"""Code, text, status details, answer."""

Send = Callable[[str, bytes], Awaitable[Answered]]
Record = Callable[[str, object], None]

WORLD = (
    program(),
    *(member(one, mobile=True) for one in (1, 3, 7, 8)),
    member(2),
    member(9),
    *(issue(one, 5_000) for one in (1, 2, 7)),
    program(11),
    program(12),
    program(13),
    group(12),
    purchase(1, "BILL-1"),
    Do("AuthorizeRedemption", redeem(5)),
    Do("TransferPoints", transfer(5)),
    Do("RedeemPoints", redeem(5, transaction_number="BILL-1")),
    Do("ListLots", {"customer_identifier": {"type": "ID", "value": "1"}}),
    Do("ListCustomers", {"page_size": 1}),
    Do("ListLiveLots", {"page_size": 1, "count_total": True}),
)
"""What an organisation has before it is fuzzed."""


class Play:
    """Organisations one after the other, each with its own requests, and what was found."""

    def __init__(self, seed: int, *, streams: bool) -> None:
        self._seed = seed
        self._streams = streams
        self.codes: Counter[str] = Counter()
        self.accepted: Counter[str] = Counter()
        self.problems: list[str] = []

    async def play(self, send: Send, number: int, cases: int) -> None:
        """Sets up an organisation and asks it so many things."""
        mutator = Mutator(self._seed * 10_000 + number, streams=self._streams)
        for step in WORLD:
            assert isinstance(step, Do)
            request = ParseDict(mutator.filled(step.fields), METHODS[step.rpc][1]())
            code, text, _, answer = await send(step.rpc, request.SerializeToString())

            assert "OK" == code, f"{step}: {text}"
            mutator.learn(METHODS[step.rpc][2].FromString(answer))
        for count in range(cases):
            case = mutator.case()
            code, text, details, raw = await send(case.rpc, case.raw)
            self.codes[code] += 1
            if code != "OK":
                self._note(problem_of(code, text, details), case, number, count)
                continue
            self.accepted[case.rpc] += 1
            answer = METHODS[case.rpc][2].FromString(raw)
            self._note(problem_of_items(answer), case, number, count)
            mutator.learn(answer)

    def _note(self, problem: str, case: Case, number: int, count: int) -> None:
        if problem:
            self.problems.append(
                f"seed {self._seed}, organisation {number}, case {count}: {case.rpc} with {case.changed}: {problem};"
                f" bytes {case.raw.hex()[:400]}"
            )

    def settle(self, database: Database, record: Record, seconds: float) -> None:
        """Judges the run, and what it left."""
        cases = self.codes.total()
        told = ", ".join(f"{code} {count}" for code, count in self.codes.most_common())
        record("figure.requests", cases)
        record("figure.failures of ours", len(self.problems))
        record("summary", f"fuzz: {cases} requests in {seconds:.0f} s, POINTS_SEED={self._seed}: {told}")
        never = [one for one in rpcs() if not self.accepted[one] and (self._streams or one not in STREAMS)]

        assert [] == self.problems[:SHOWN], f"{len(self.problems)} problems"
        assert [] == list(verify(database).differences)
        assert cases < CI_CASES or [] == never, "never accepted: nothing behind it was reached"


def seed_and_cases(default: int) -> tuple[int, int]:
    """From the environment, or by chance; printed."""
    seed = int(os.environ.get("POINTS_SEED", random.randrange(10**6)))
    cases = int(os.environ.get("POINTS_FUZZ_CASES", default))
    print(f"seed {seed}: POINTS_SEED={seed} POINTS_FUZZ_CASES={cases} plays this run again")
    return seed, cases


def rounds(cases: int) -> Iterable[tuple[int, int]]:
    """The organisations and how many cases each gets."""
    for number, first in enumerate(range(0, cases, CASES_OF_AN_ORGANISATION)):
        yield number, min(CASES_OF_AN_ORGANISATION, cases - first)


@pytest.mark.ci
@pytest.mark.timeout(600)
def test_mutated_requests_in_process(tmp_path: Path, record_property: Record) -> None:
    """20,000 through gate, servicers, rules and storage: no failure of ours, no stack trace, books that balance."""
    seed, cases = seed_and_cases(CI_CASES)
    play = Play(seed, streams=False)
    service = InProcess(tmp_path)
    started = time.monotonic()

    async def main() -> None:
        for number, count in rounds(cases):
            service.new_organisation()
            await play.play(lambda rpc, raw: service.call(METHODS[rpc][0], raw), number, count)

    try:
        asyncio.run(main())
        bugs = [fields for event, fields in service.log.errors if event == "call_failed"]

        assert [] == bugs[:SHOWN]
        play.settle(service.database, record_property, time.monotonic() - started)
    finally:
        service.close()


@pytest.mark.long
@pytest.mark.timeout(0)
def test_mutated_requests_over_the_wire(tmp_path: Path, record_property: Record) -> None:
    """200,000 of them, streams too, from 16 callers: the same, and the server has no bug to report."""
    seed, cases = seed_and_cases(LONG_CASES)
    play = Play(seed, streams=True)
    work = list(rounds(cases))
    server = RunningServer(tmp_path, "--otp-sender", "console")
    orgs = make_orgs(server, [Row(f"fuzz {number}", "0 OK -", "", {}) for number, _ in work])
    server.start()
    started = time.monotonic()
    repeated = 0

    async def caller() -> None:
        nonlocal repeated
        async with grpc.aio.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            while work:
                number, count = work.pop()
                wire = Wire(channel, orgs[number])
                await play.play(wire.send, number, count)
                repeated += wire.repeated

    async def main() -> None:
        await asyncio.gather(*(caller() for _ in range(CALLERS)))

    try:
        asyncio.run(main())
        record_property("figure.calls sent again that the server ended unseen", repeated)
        bugs = [line for line in server.errors().splitlines() if '"bug"' in line or '"call_failed"' in line]

        assert [] == bugs[:SHOWN]
        assert 0 == server.stop()
        database = Database(server.database)
        play.settle(database, record_property, time.monotonic() - started)
        database.close()
    finally:
        server.close()


class Wire:
    """Calls of one organisation over a channel."""

    def __init__(self, channel: grpc.aio.Channel, org: Org) -> None:
        self._channel = channel
        self._metadata = (("authorization", f"Bearer {org.keys['admin'].token}"),)
        self.repeated = 0

    async def send(self, rpc: str, raw: bytes) -> Answered:
        """Code, text, details and answer; what was ended unseen is sent again, as every caller has to."""
        answered = await self._once(rpc, raw)
        for _ in range(1, ATTEMPTS_MAX):
            code, _, details, _ = answered
            if code != "CANCELLED" or details:
                break
            self.repeated += 1
            answered = await self._once(rpc, raw)
        return answered

    async def _once(self, rpc: str, raw: bytes) -> Answered:
        """The same of one attempt; of a stream its first message, if there is one."""
        path = METHODS[rpc][0]
        call = (self._channel.unary_stream(path) if rpc in STREAMS else self._channel.unary_unary(path))(
            raw, metadata=self._metadata, timeout=CALL_S
        )
        try:
            answer = await anext(aiter(call), b"") if rpc in STREAMS else await call
        except grpc.aio.AioRpcError as error:
            trailers = dict(error.trailing_metadata() or ())
            details = trailers.get("grpc-status-details-bin", b"")
            return error.code().name, error.details() or "", bytes(details), b""
        if rpc in STREAMS:
            call.cancel()
        return "OK", "", b"", answer
