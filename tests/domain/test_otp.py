"""One-time codes: how they are made and sent, what they are bound to, how they are tried, when they are due."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from domain.defects import told
from points_grpc import codes
from points_grpc.domain.commands import (
    CheckTransfer,
    Command,
    IssueRedemptionOtp,
    IssueTransferOtp,
    RedeemPoints,
    TransferPoints,
)
from points_grpc.domain.events import MessageQueued, MessagesCancelled, OtpCounterSaved, OtpSaved
from points_grpc.domain.model import Channel, Message, Otp, OtpAction, OtpCounter, OtpState
from points_grpc.domain.otp import derive_code, mask
from points_grpc.domain.outcome import Accepted, Challenge, Refused
from points_grpc.domain.policy import Alphabet, OtpPolicy, OtpRequirement
from worlds import ANN, BEN, CID, FIRST_ID, GOLD, NOW, SILVER, World, by_id, code_hash, metals, redeem, transfer

MINUTE = timedelta(minutes=1)
LIFETIME_S = 300
INVALID = ("INVALID_VALIDATION_CODE", {"otp_state": "INVALID", "attempts_left": "0"})


def rich() -> World:
    """Ann and Ben have 1,000 points each, in gold and in silver; Cid is enrolled too."""
    world = metals()
    world.enrol(CID, GOLD, SILVER)
    for lot_id, (customer_id, program_id) in enumerate([(ANN, GOLD), (ANN, SILVER), (BEN, GOLD), (BEN, SILVER)], 1):
        world.give(lot_id, 1_000, customer_id=customer_id, program_id=program_id)
    return world


def issued(world: World, command: TransferPoints | RedeemPoints | None = None) -> str:
    """Has a code issued; the code."""
    command = command or transfer(50)
    world.seed = bytes([world.seed[0] + 1]) * 32
    world.accept(IssueTransferOtp(command) if isinstance(command, TransferPoints) else IssueRedemptionOtp(command))
    return world.last_code()


def wrong(code: str) -> str:
    """Another code of the same shape."""
    return code[:-1] + str((int(code[-1]) + 1) % 10)


def with_code(code: str, **given: Any) -> TransferPoints:
    """The transfer that codes are issued for here, with a code."""
    return replace(transfer(50, **given), code=code)


def refusal(world: World, command: Command) -> tuple[str, dict[str, str]]:
    """Why a command is refused."""
    refused = world.refuse(command)
    return refused.code.reason, dict(refused.metadata)


class TestDerivation:
    """How random bytes become a code."""

    @pytest.mark.parametrize("length", range(4, 11))
    @pytest.mark.parametrize(
        ("alphabet", "letters"),
        [(Alphabet.NUMERIC, "0123456789"), (Alphabet.ALPHANUMERIC, "23456789ABCDEFGHJKLMNPQRSTUVWXYZ")],
    )
    def test_shape(self, length: int, alphabet: Alphabet, letters: str) -> None:
        """A code has the policy's length and letters; letters that read alike are left out."""
        made = [derive_code(bytes([seed]) * 32, OtpPolicy(length=length, alphabet=alphabet)) for seed in range(256)]

        assert {length} == {len(code) for code in made}
        assert set(letters) == set("".join(made))

    @pytest.mark.parametrize(("alphabet", "size"), [(Alphabet.NUMERIC, 10), (Alphabet.ALPHANUMERIC, 32)])
    def test_uniform(self, alphabet: Alphabet, size: int) -> None:
        """Of as many seeds in a row as there are codes, each gives another code."""
        policy = OtpPolicy(length=3, alphabet=alphabet)
        start = 2**255
        made = {derive_code((start + step).to_bytes(32, "big"), policy) for step in range(size**3)}

        assert size**3 == len(made)

    def test_default(self) -> None:
        """By default a code has six digits, lives five minutes and stands five attempts."""
        policy = OtpPolicy()

        assert (6, Alphabet.NUMERIC, 300, 5) == (policy.length, policy.alphabet, policy.validity_s, policy.attempts)
        assert OtpRequirement.IF_ISSUED is policy.transfer


class TestIssue:
    """What the issue of a code leaves."""

    def test_answer(self) -> None:
        """The answer tells where the code goes, how long it lives and how often it can be tried; never the code."""
        world = rich()

        result = world.accept(IssueTransferOtp(transfer(50)))

        assert Challenge("+91******0011", ("MOBILE",), NOW + 5 * MINUTE, 5, ANN) == result.challenge
        assert world.last_code() not in repr(result)

    def test_record(self) -> None:
        """The code is kept as a keyed hash over organisation, code id and code, with its binding and its limits."""
        world = rich()

        world.accept(IssueTransferOtp(transfer(50, pooled=True)))

        code = world.last_code()
        assert {
            (ANN, OtpAction.TRANSFER, GOLD): Otp(
                otp_id=FIRST_ID + 1,
                customer_id=ANN,
                action=OtpAction.TRANSFER,
                program_id=GOLD,
                counterparty_id=BEN,
                points_max=50,
                category="",
                pooled=True,
                code_hash=code_hash("k1", f"1\x1f{FIRST_ID + 1}\x1f{code}".encode()) or "",
                key_id="k1",
                state=OtpState.LIVE,
                attempts_left=5,
                issued_at=NOW,
                expires_at=NOW + 5 * MINUTE,
                due_until=NOW + timedelta(hours=24),
            )
        } == world.otps
        assert code not in repr(world.otps)

    def test_message(self) -> None:
        """The code goes to the outbox with the decision, and dies there with the code; its repr shows nothing of it."""
        world = rich()

        world.accept(IssueTransferOtp(transfer(50)))

        [message] = world.outbox
        assert (
            Message(
                message_id=FIRST_ID + 2,
                customer_id=ANN,
                action=OtpAction.TRANSFER,
                otp_id=FIRST_ID + 1,
                channel=Channel.MOBILE,
                target="+919876540011",
                secret=derive_code(world.seed, OtpPolicy()),
                created_at=NOW,
                expires_at=NOW + 5 * MINUTE,
            )
            == message
        )
        assert message.secret not in repr(message)
        assert message.target not in repr(message)

    def test_events(self) -> None:
        """An issue saves the code, counts it, cancels what was not delivered yet, and queues the message."""
        world = rich()
        issued(world)

        issued(world)

        assert [OtpSaved, OtpCounterSaved, MessagesCancelled, MessageQueued] == [
            type(event) for event in world.changes.events
        ]
        assert [MessagesCancelled(ANN, OtpAction.TRANSFER)] == world.events(MessagesCancelled)
        assert 1 == len(world.outbox)

    def test_policy(self) -> None:
        """Length, alphabet, validity and attempts are the policy's."""
        world = rich()
        world.change_otp_policy(length=10, alphabet=Alphabet.ALPHANUMERIC, validity_s=60, attempts=2)

        result = world.accept(IssueTransferOtp(transfer(50)))

        assert 10 == len(world.last_code())
        assert (NOW + MINUTE, 2) == (result.challenge.expires_at, result.challenge.attempts_left)

    @pytest.mark.parametrize(
        ("channels", "senders", "mobile", "wanted"),
        [
            (("MOBILE", "EMAIL"), frozenset(Channel), True, ("MOBILE", "+91******0011")),
            (("EMAIL", "MOBILE"), frozenset(Channel), True, ("EMAIL", "c***@example.com")),
            (("MOBILE", "EMAIL"), frozenset(Channel), False, ("EMAIL", "c***@example.com")),
            (("MOBILE", "EMAIL"), frozenset({Channel.EMAIL}), True, ("EMAIL", "c***@example.com")),
            (("MOBILE",), frozenset(Channel), False, "NO_CHANNEL"),
            ((), frozenset(Channel), True, "NO_CHANNEL"),
            (("MOBILE",), frozenset({Channel.EMAIL}), True, "NO_SENDER"),
            (("MOBILE", "EMAIL"), frozenset(), True, "NO_SENDER"),
        ],
    )
    def test_channel(
        self,
        channels: tuple[str, ...],
        senders: frozenset[Channel],
        mobile: bool,
        wanted: tuple[str, str] | str,
    ) -> None:
        """The first channel of the policy that the customer has and a sender serves is taken; 860 says which lacks."""
        world = rich()
        world.channels = senders
        world.change_otp_policy(channels=channels)
        if not mobile:
            world.change_customer(ANN, mobile=None)

        outcome = world.decide(IssueTransferOtp(transfer(50)))

        if isinstance(wanted, str):
            assert ("OTP_NOT_ISSUED", wanted, None) == told(outcome)
            assert [] == world.changes.events
        else:
            assert isinstance(outcome, Accepted)
            challenge: Any = outcome.result.challenge  # type: ignore[union-attr]
            assert wanted == (challenge.channels[0], challenge.masked_target)

    @pytest.mark.parametrize(
        ("channel", "address", "masked"),
        [
            (Channel.MOBILE, "+919148574269", "+91******4269"),
            (Channel.MOBILE, "+4915112345678", "+49*******5678"),
            (Channel.MOBILE, "+12025550123", "+12*****0123"),
            (Channel.EMAIL, "ann@example.com", "a***@example.com"),
            (Channel.EMAIL, "a@example.com", "***@example.com"),
            (Channel.MOBILE, "+4912345678", "+49****5678"),
            (Channel.MOBILE, "+491234567", "******4567"),
            (Channel.MOBILE, "+2904567", "****4567"),
            (Channel.MOBILE, "+290456", "****456"),
            (Channel.MOBILE, "+2904", "****4"),
            (Channel.MOBILE, "+290", "****"),
            (Channel.MOBILE, "1", "****"),
        ],
    )
    def test_mask(self, channel: Channel, address: str, masked: str) -> None:
        """A mask shows enough to recognise the address, and too little to use it."""
        assert masked == mask(channel, address)

    def test_of_a_redemption(self) -> None:
        """A code for a redemption is bound to its category, and to no counterparty."""
        world = rich()
        command = redeem(50, category="Main")

        issued(world, command)

        [otp] = world.otps.values()
        assert (OtpAction.REDEMPTION, None, "Main", 50) == (
            otp.action,
            otp.counterparty_id,
            otp.category,
            otp.points_max,
        )


class TestOneLive:
    """Of all codes of a customer for an action, the newest alone is good."""

    def test_issued_again(self) -> None:
        """Issuing again kills the code before: it is a wrong one from then on."""
        world = rich()
        first, second = issued(world), issued(world)
        refused = refusal(world, with_code(first))

        assert ("INVALID_VALIDATION_CODE", {"otp_state": "INVALID", "attempts_left": "4"}) == refused
        assert isinstance(world.decide(with_code(second)), Accepted)

    def test_issued_for_another_program(self) -> None:
        """A code for one program kills the live one for another."""
        world = rich()
        gold = issued(world)
        silver = issued(world, transfer(50, program_id=SILVER))

        states = {program_id: one.state for (_, _, program_id), one in world.otps.items()}
        assert {GOLD: OtpState.REPLACED, SILVER: OtpState.LIVE} == states
        assert "MISMATCH" == refusal(world, with_code(gold))[1]["otp_state"]
        assert isinstance(world.decide(with_code(silver, program_id=SILVER)), Accepted)

    def test_actions_are_apart(self) -> None:
        """A code for transfers and one for redemptions live side by side, and neither does for the other."""
        world = rich()
        for_transfer, for_redemption = issued(world), issued(world, redeem(50))

        assert 2 == len(world.outbox)
        assert "INVALID" == refusal(world, with_code(for_redemption))[1]["otp_state"]
        assert isinstance(world.decide(with_code(for_transfer)), Accepted)
        assert isinstance(world.decide(redeem(50, code=for_redemption)), Accepted)

    def test_customers_are_apart(self) -> None:
        """Another customer's code is no code."""
        world = rich()
        code = issued(world)

        assert "NOT_ISSUED" == refusal(world, with_code(code, source=BEN, destination=ANN))[1]["otp_state"]


class TestBinding:
    """A code is for one operation, judged before its digits."""

    @pytest.mark.parametrize(
        ("change", "fits"),
        [
            ({}, True),
            ({"points": 49}, True),
            ({"points": 1}, True),
            ({"points": 51}, False),
            ({"program_id": SILVER}, False),
            ({"destination": by_id(CID)}, False),
            ({"pooled": True}, False),
            ({"notes": "another note"}, True),
            ({"program_id": 0}, True),
        ],
    )
    @pytest.mark.parametrize("right", [True, False])
    def test_of_a_transfer(self, change: dict[str, Any], fits: bool, right: bool) -> None:
        """A transfer's code is bound to program, receiver, pooling and a maximum of points, whatever its digits."""
        world = rich()
        code = issued(world)
        before = dict(world.otps)
        command = replace(transfer(50), code=code if right else wrong(code), **change)

        outcome = world.decide(command)

        if not fits:
            assert isinstance(outcome, Refused)
            assert {"otp_state": "MISMATCH", "attempts_left": "5"} == outcome.metadata
            assert before == world.otps
            assert [] == world.changes.events
        else:
            assert right == isinstance(outcome, Accepted)

    @pytest.mark.parametrize(
        ("change", "fits"),
        [
            ({}, True),
            ({"points": 49}, True),
            ({"points": 51}, False),
            ({"program_id": SILVER}, False),
            ({"category": ""}, False),
            ({"pooled": True}, False),
            ({"transaction_number": "B-1"}, True),
        ],
    )
    def test_of_a_redemption(self, change: dict[str, Any], fits: bool) -> None:
        """A redemption's code is bound to program, category, pooling and a maximum of points."""
        world = rich()
        command = redeem(50, category="Main")
        code = issued(world, command)

        outcome = world.decide(replace(command, code=code, **change))

        assert fits == isinstance(outcome, Accepted)
        if not fits:
            assert "MISMATCH" == outcome.metadata["otp_state"]  # type: ignore[union-attr]
            assert [] == world.changes.events

    def test_identifiers_do_not_matter(self) -> None:
        """A code is bound to customers, not to how they were named."""
        world = rich()
        code = issued(world)
        mobile = replace(transfer(), source=by_id(ANN))

        assert isinstance(world.decide(replace(mobile, code=code)), Accepted)


class TestTrying:
    """Right and wrong codes."""

    def test_right(self) -> None:
        """The right code is used up by the command that it allows, in the same decision."""
        world = rich()
        code = issued(world)

        world.accept(with_code(code))

        [saved] = world.events(OtpSaved)
        assert (OtpState.USED, None) == (saved.otp.state, saved.otp.due_until)
        assert [] == world.events(OtpCounterSaved)
        assert INVALID == refusal(world, with_code(code))
        assert [] == world.changes.events

    def test_used_once_in_a_batch(self) -> None:
        """Of two commands of one batch with the same code the first has it."""
        world = rich()
        code = issued(world)

        first, second = world.decide_batch([with_code(code), with_code(code)])

        assert isinstance(first, Accepted)
        assert isinstance(second, Refused)
        assert INVALID[1] == second.metadata

    @pytest.mark.parametrize("spelling", [str.lower, str.upper, lambda code: f" {code}\n"])
    def test_spelling(self, spelling: Callable[[str], str]) -> None:
        """Case and surrounding blanks do not matter."""
        world = rich()
        world.change_otp_policy(alphabet=Alphabet.ALPHANUMERIC)
        code = issued(world)

        assert isinstance(world.decide(with_code(spelling(code))), Accepted)

    @pytest.mark.parametrize("action", OtpAction)
    def test_wrong(self, action: OtpAction) -> None:
        """A wrong code is refused, and leaves the attempt counted: on the code, and across codes."""
        world = rich()
        command = transfer(50) if action is OtpAction.TRANSFER else redeem(50)
        code = issued(world, command)
        before = world.balance(ANN)

        refused = world.refuse(replace(command, code=wrong(code)))

        assert codes.INVALID_VALIDATION_CODE is refused.code
        assert {"otp_state": "INVALID", "attempts_left": "4"} == refused.metadata
        assert [OtpSaved, OtpCounterSaved] == [type(event) for event in world.changes.events]
        assert 4 == world.otps[ANN, action, GOLD].attempts_left
        assert (
            OtpCounter(ANN, action, NOW, NOW + 15 * MINUTE, issues=1, wrong_attempts=1)
            == world.otp_counters[ANN, action]
        )
        assert before == world.balance(ANN)
        assert isinstance(world.decide(replace(command, code=code)), Accepted)

    def test_attempts_are_counted_within_a_batch(self) -> None:
        """Five wrong codes of one batch leave nothing for the right one behind them."""
        world = rich()
        code = issued(world)

        outcomes = world.decide_batch([with_code(wrong(code))] * 5 + [with_code(code)])

        assert ["4", "3", "2", "1", "0", "0"] == [one.metadata["attempts_left"] for one in outcomes]  # type: ignore[union-attr]

    def test_read_alike(self) -> None:
        """Used, expired and exhausted codes read alike, with right digits or wrong ones, and nothing is counted."""
        used, expired, exhausted = rich(), rich(), rich()
        seen = []
        for world in (used, expired, exhausted):
            code = issued(world)
            if world is used:
                world.accept(with_code(code))
            if world is expired:
                world.pass_time(seconds=LIFETIME_S, microseconds=1)
            if world is exhausted:
                for _ in range(5):
                    world.refuse(with_code(wrong(code)))
            for tried in (code, wrong(code)):
                seen.append(refusal(world, with_code(tried)))
                assert [] == world.changes.events

        assert [INVALID] * 6 == seen

    def test_last_instant(self) -> None:
        """A code is good through the instant of its expiry."""
        world = rich()
        code = issued(world)
        world.pass_time(seconds=LIFETIME_S)

        assert isinstance(world.decide(with_code(code)), Accepted)

    def test_clock_that_went_back(self) -> None:
        """A clock that went back does not prolong the life of a code by more than that life again."""
        world = rich()
        code = issued(world)
        world.pass_time(seconds=-LIFETIME_S, microseconds=-1)
        too_early = refusal(world, with_code(code))
        world.pass_time(microseconds=1)

        assert INVALID == too_early
        assert isinstance(world.decide(with_code(code)), Accepted)

    def test_never_issued(self) -> None:
        """A code where none was ever issued is told as such, and counts nothing."""
        world = rich()

        assert ("INVALID_VALIDATION_CODE", {"otp_state": "NOT_ISSUED", "attempts_left": "0"}) == refusal(
            world, with_code("123456")
        )
        assert [] == world.changes.events

    def test_lost_key(self) -> None:
        """A code whose key is not at hand any more is a wrong one."""
        world = rich()
        code = issued(world)
        key = (ANN, OtpAction.TRANSFER, GOLD)
        world.otps[key] = replace(world.otps[key], key_id="k0")

        assert "4" == refusal(world, with_code(code))[1]["attempts_left"]

    def test_judged_last(self) -> None:
        """A command refused for another reason neither uses up a code nor counts an attempt."""
        world = rich()
        code = issued(world)
        before = dict(world.otps)
        world.change_transfer_policy(multiple=7)
        refused = [refusal(world, with_code(tried))[0] for tried in (code, wrong(code))]
        left = dict(world.otps)
        world.change_transfer_policy(multiple=0)

        assert ["TRANSFER_POINTS_NOT_DIVISIBLE"] * 2 == refused
        assert before == left
        assert isinstance(world.decide(with_code(code)), Accepted)

    def test_a_new_code_has_all_attempts(self) -> None:
        """Wrong attempts on one code take nothing from the next."""
        world = rich()
        code = issued(world)
        world.refuse(with_code(wrong(code)))
        again = issued(world)

        assert "4" == refusal(world, with_code(wrong(again)))[1]["attempts_left"]


class TestDue:
    """When a transfer needs a code."""

    def test_never_issued(self) -> None:
        """IF_ISSUED: without a code issued none is due."""
        world = rich()

        assert not world.accept(CheckTransfer(transfer(50))).code_required
        assert isinstance(world.decide(transfer(50)), Accepted)

    @pytest.mark.parametrize(
        "command", [transfer(50), transfer(7), transfer(50, destination=CID), transfer(50, pooled=True)]
    )
    def test_every_transfer(self, command: TransferPoints) -> None:
        """IF_ISSUED: from issue on, every transfer from that source and program needs one, whatever the code is for."""
        world = rich()
        issued(world)

        assert {"otp_state": "MISSING", "attempts_left": "5"} == world.refuse(command).metadata
        assert [] == world.changes.events

    @pytest.mark.parametrize("command", [transfer(50, program_id=SILVER), transfer(50, source=BEN, destination=ANN)])
    def test_others(self, command: TransferPoints) -> None:
        """IF_ISSUED: other programs and other sources need none."""
        world = rich()
        issued(world)

        assert isinstance(world.decide(command), Accepted)

    def test_pooled_through_another_program(self) -> None:
        """IF_ISSUED: pooling the points of the program under another one's name does not get round the code."""
        world = rich()
        issued(world)
        around = transfer(50, program_id=SILVER, pooled=True)

        assert world.accept(CheckTransfer(around)).code_required
        assert "MISSING" == refusal(world, around)[1]["otp_state"]
        world.leave(ANN, GOLD)
        assert isinstance(world.decide(around), Accepted)

    def test_redemptions(self) -> None:
        """A code for transfers makes none due for redemptions, and one for redemptions none at all."""
        world = rich()
        issued(world)
        issued(world, redeem(50))

        assert isinstance(world.decide(redeem(50)), Accepted)

    @pytest.mark.parametrize(
        ("passed", "due"),
        [
            (timedelta(0), True),
            (6 * MINUTE, True),
            (timedelta(hours=24) - timedelta(microseconds=1), True),
            (timedelta(hours=24), False),
        ],
    )
    def test_for_a_day(self, passed: timedelta, due: bool) -> None:
        """A code stays due for 24 hours; its expiry does not lift that."""
        world = rich()
        issued(world)
        world.now += passed

        assert due == world.accept(CheckTransfer(transfer(50))).code_required
        assert due == isinstance(world.decide(transfer(50)), Refused)

    def test_exhaustion_does_not_lift(self) -> None:
        """A code that was tried to the end is due all the same."""
        world = rich()
        code = issued(world)
        for _ in range(5):
            world.refuse(with_code(wrong(code)))

        assert "MISSING" == refusal(world, transfer(50))[1]["otp_state"]

    def test_replacement_does_not_lift(self) -> None:
        """A code for another program kills the first and leaves it due; using the second does not lift the first."""
        world = rich()
        issued(world)
        silver = issued(world, transfer(50, program_id=SILVER))
        world.accept(with_code(silver, program_id=SILVER))

        assert "MISSING" == refusal(world, transfer(50))[1]["otp_state"]
        assert isinstance(world.decide(transfer(50, program_id=SILVER)), Accepted)

    def test_consumption_lifts(self) -> None:
        """Using the code lifts it."""
        world = rich()
        code = issued(world)
        world.accept(with_code(code))

        assert isinstance(world.decide(transfer(50)), Accepted)

    def test_issued_again_prolongs(self) -> None:
        """The 24 hours count from the last issue."""
        world = rich()
        issued(world)
        world.pass_time(hours=23)
        issued(world)
        world.pass_time(hours=23)

        assert world.accept(CheckTransfer(transfer(50))).code_required

    def test_by_check(self) -> None:
        """A code that a check had sent is due like any other."""
        world = rich()
        world.accept(CheckTransfer(transfer(50), issue_otp=True))

        assert "MISSING" == refusal(world, transfer(50))[1]["otp_state"]
        assert isinstance(world.decide(with_code(world.last_code())), Accepted)

    def test_required(self) -> None:
        """REQUIRED: every transfer needs a code, also after one was used."""
        world = rich()
        world.change_otp_policy(transfer=OtpRequirement.REQUIRED)
        before = refusal(world, transfer(50))
        world.accept(with_code(issued(world)))

        assert ("INVALID_VALIDATION_CODE", {"otp_state": "MISSING", "attempts_left": "0"}) == before
        assert before == refusal(world, transfer(50))

    def test_off(self) -> None:
        """OFF: none is due, and one that is given is checked all the same."""
        world = rich()
        world.change_otp_policy(transfer=OtpRequirement.OFF)
        code = issued(world)
        refused = refusal(world, with_code(wrong(code)))

        assert "INVALID" == refused[1]["otp_state"]
        assert isinstance(world.decide(transfer(50)), Accepted)
        assert isinstance(world.decide(with_code(code)), Accepted)

    @pytest.mark.parametrize("required", [True, False])
    def test_redemption_by_policy(self, required: bool) -> None:
        """Redemptions need a proof if the policy says so, issued or not."""
        world = rich()
        world.change_redemption_policy(proof_required=required)
        code = issued(world, redeem(50))

        assert required == isinstance(world.ask(redeem(50)), Refused)
        assert isinstance(world.decide(redeem(50, code=code)), Accepted)


class TestWindows:
    """Limits per customer and window, across codes."""

    @pytest.mark.parametrize("action", OtpAction)
    def test_issues(self, action: OtpAction) -> None:
        """The sixth code of a window is refused until the window ends (10008)."""
        world = rich()
        command = transfer(50) if action is OtpAction.TRANSFER else redeem(50)
        wanted = IssueTransferOtp(transfer(50)) if action is OtpAction.TRANSFER else IssueRedemptionOtp(redeem(50))
        for _ in range(5):
            issued(world, command)
            world.pass_time(minutes=1)

        refused = world.refuse(wanted)

        assert codes.OTP_ISSUE_LIMIT is refused.code
        assert {"limit": "5", "used": "5", "resets_at": "2026-03-15T12:15:00+00:00"} == refused.metadata
        assert (600.0, "otp_issues_per_window") == (refused.retry_after_s, refused.quota)
        assert [] == world.changes.events
        world.pass_time(minutes=10)
        assert isinstance(world.decide(wanted), Accepted)
        assert (
            OtpCounter(ANN, action, NOW + 15 * MINUTE, NOW + 30 * MINUTE, issues=1) == world.otp_counters[ANN, action]
        )

    def test_issues_of_all_programs(self) -> None:
        """Codes of all programs count together, those of the other action apart."""
        world = rich()
        for number in range(5):
            issued(world, transfer(50, program_id=(GOLD, SILVER)[number % 2]))
        last = world.ask(IssueTransferOtp(transfer(50)))

        assert ("OTP_ISSUE_LIMIT", None, None) == told(last)
        assert isinstance(world.decide(IssueRedemptionOtp(redeem(50))), Accepted)

    def test_window_ends_to_the_instant(self) -> None:
        """A window is over once its length has passed, and not an instant before."""
        world = rich()
        for _ in range(5):
            issued(world)
        world.now = NOW + 15 * MINUTE - timedelta(microseconds=1)
        before = world.ask(IssueTransferOtp(transfer(50)))
        world.now = NOW + 15 * MINUTE

        assert isinstance(before, Refused)
        assert isinstance(world.decide(IssueTransferOtp(transfer(50))), Accepted)

    @pytest.mark.parametrize("action", OtpAction)
    def test_shorter_window_of_another_program(self, action: OtpAction) -> None:
        """A program with a shorter window does not end the longer one of another: its lock and its counts go on."""
        world = rich()
        world.change_otp_policy(window_s=86_400, attempts_per_window=5)
        world.change_otp_policy(SILVER, window_s=60)
        in_gold: TransferPoints | RedeemPoints = transfer(50) if action is OtpAction.TRANSFER else redeem(50)
        code = issued(world, in_gold)
        for _ in range(5):
            world.refuse(replace(in_gold, code=wrong(code)))
        world.pass_time(seconds=62)
        issued(world, replace(in_gold, program_id=SILVER))

        barred = world.ask(replace(in_gold, code=code))
        world.now = NOW + timedelta(hours=24)

        assert isinstance(barred, Refused)
        assert barred.code in {codes.TRANSFER_LOCKED, codes.OTP_ATTEMPT_LIMIT}
        assert "2026-03-16T12:00:00+00:00" in barred.metadata.values()
        assert isinstance(world.decide(replace(in_gold, code=issued(world, in_gold))), Accepted)

    def test_longer_window_of_another_program(self) -> None:
        """A window that a program with a short one opened goes on as long as the longest of those counting in it."""
        world = rich()
        world.change_otp_policy(window_s=86_400)
        world.change_otp_policy(SILVER, window_s=60)
        issued(world, transfer(50, program_id=SILVER))
        world.pass_time(seconds=30)
        issued(world)
        world.pass_time(seconds=62)
        issued(world, transfer(50, program_id=SILVER))

        expected = OtpCounter(ANN, OtpAction.TRANSFER, NOW, NOW + timedelta(hours=24), issues=3)
        assert expected == world.otp_counters[ANN, OtpAction.TRANSFER]

    def test_lock_of_a_longer_window_outlives_codes_of_a_shorter_one(self) -> None:
        """What a program of a long window tells of wrong codes typed in one of a short window stays so."""
        world = rich()
        world.change_otp_policy(window_s=60, attempts_per_window=5)
        world.change_otp_policy(SILVER, window_s=86_400, attempts_per_window=5)
        code = issued(world)
        for _ in range(5):
            world.refuse(with_code(wrong(code)))
        world.pass_time(minutes=2)
        in_silver = transfer(50, program_id=SILVER)
        told_before = refusal(world, in_silver)
        locked = {"locked_until": "2026-03-16T12:00:00+00:00", "cause": "WRONG_CODES"}

        assert ("TRANSFER_LOCKED", locked) == told_before
        assert ("TRANSFER_LOCKED", locked) == refusal(world, IssueTransferOtp(transfer(50)))
        assert told_before == refusal(world, in_silver)
        world.now = NOW + timedelta(hours=24)
        assert isinstance(world.decide(in_silver), Accepted)

    def test_wrong_codes_of_transfers(self) -> None:
        """After 15 wrong codes of a window the source's transfers are locked, with a code and without (904)."""
        world = rich()
        code = self.try_wrong_codes(world, transfer(50))
        locked = {"locked_until": "2026-03-15T12:15:00+00:00", "cause": "WRONG_CODES"}

        assert ("TRANSFER_LOCKED", locked) == refusal(world, with_code(code))
        assert ("TRANSFER_LOCKED", locked) == refusal(world, transfer(1, program_id=SILVER))
        assert ("TRANSFER_LOCKED", locked) == refusal(world, IssueTransferOtp(transfer(50)))
        assert isinstance(world.decide(transfer(1, source=BEN, destination=ANN)), Accepted)
        assert isinstance(world.decide(redeem(1)), Accepted)
        world.now = NOW + 15 * MINUTE
        assert isinstance(world.decide(with_code(issued(world))), Accepted)

    def test_wrong_codes_of_redemptions(self) -> None:
        """After 15 wrong codes of a window no other is tried (10009); redemptions without a code go on."""
        world = rich()
        code = self.try_wrong_codes(world, redeem(50))

        refused = world.refuse(redeem(50, code=code))

        assert codes.OTP_ATTEMPT_LIMIT is refused.code
        assert {"limit": "15", "used": "15", "resets_at": "2026-03-15T12:15:00+00:00"} == refused.metadata
        assert (900.0, "otp_attempts_per_window") == (refused.retry_after_s, refused.quota)
        assert isinstance(world.decide(redeem(50)), Accepted)
        assert isinstance(world.decide(transfer(50)), Accepted)
        world.now = NOW + 15 * MINUTE
        assert isinstance(world.decide(redeem(50, code=issued(world, redeem(50)))), Accepted)

    def test_used_is_what_was_counted(self) -> None:
        """Where the limit was lowered since, more is used than it allows, and 10009 says so."""
        world = rich()
        self.try_wrong_codes(world, redeem(50))
        world.change_otp_policy(attempts_per_window=4)

        refused = world.refuse(redeem(50, code="000000"))

        assert ("4", "15") == (refused.metadata["limit"], refused.metadata["used"])

    def test_mismatches_do_not_count(self) -> None:
        """Codes for another operation count for nothing, however many."""
        world = rich()
        code = issued(world)
        for _ in range(50):
            world.refuse(with_code(code, destination=CID))

        assert isinstance(world.decide(with_code(code)), Accepted)

    def try_wrong_codes(self, world: World, command: TransferPoints | RedeemPoints) -> str:
        """Tries five wrong codes on each of three; the last right one."""
        code = ""
        for _ in range(3):
            code = issued(world, command)
            for _ in range(5):
                assert codes.INVALID_VALIDATION_CODE is world.refuse(replace(command, code=wrong(code))).code
        return issued(world, command) if isinstance(command, RedeemPoints) else code


class TestSecrets:
    """What may show a code and what may not."""

    @pytest.mark.parametrize("command", [with_code("123456"), redeem(50, code="123456")])
    def test_commands(self, command: Command) -> None:
        """The repr of a command, and of its submission, shows neither code nor seed."""
        world = rich()
        context = world.context(command)

        assert "123456" not in repr(command)
        assert "123456" not in repr(context)
        assert repr(world.seed) not in repr(context)

    def test_refusals(self) -> None:
        """A refusal never echoes the code that was tried."""
        world = rich()
        issued(world)

        assert "987654" not in repr(world.decide(with_code("987654")))


@pytest.mark.parametrize("seed", [b"", bytes(31), bytes(33)])
def test_no_code_without_chance(seed: bytes) -> None:
    """A code is never made from less chance than it promises, as it would be if a command came without its seed."""
    with pytest.raises(ValueError, match="guessed"):
        derive_code(seed, OtpPolicy())
