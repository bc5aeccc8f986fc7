"""Random commands for service and model: a Hypothesis state machine that aims at the edges that the model knows of.

Each example has an organisation of its own with three programs (two of them a group), a handful of customers and random
policies. Amounts lie around balances and limits, times at, just before and just after the instants at which something
changes. A mishap breaks something for a few calls (a pause, a key, a policy) and repairs it again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

from google.protobuf.message import Message
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from model_driver import ModelServer, Play
from reference_state import DAY, FRAUD_CHECK, SECOND, SWITCHES, Person, instant, iso, micros_of

Fields = dict[str, Any]

MAIN, GROUPED, ALONE = 11, 12, 13
"""Programs: the default one and the group's default are a group, in different time zones; the third is in none."""

ANN, BEN, CID, DEE, EVE, NOBODY = 1, 2, 3, 4, 5, 9
STARTS = ("2026-11-30T18:20:00+00:00", "2027-02-28T23:50:00+00:00", "2028-01-15T09:00:00+00:00")
"""Shortly before a day ends in Kolkata, before a month ends in UTC, and on a plain morning."""

REDEMPTION: Sequence[Fields] = (
    {"minimum_points": 10},
    {"maximum_points": 60},
    {"multiple": 5},
    {"required_balance": 50},
    {"required_lifetime_points": 120},
    {"required_lifetime_points": 120, "lifetime_includes_received": True},
    {"required_lifetime_purchases": 500},
    {"point_value": {"numerator": 1, "denominator": 4, "currency_code": "INR"}},
    {"point_value": {"numerator": 5, "denominator": 2, "currency_code": "INR"}},
    {"categories": [{"name": "Main", "redeemable": True}, {"name": "Gifts", "redeemable": False}]},
    {"categories": [{"name": "Bonus", "redeemable": True}, {"name": "Main", "redeemable": True}]},
    {"transaction_number_strict": True},
    {"redemption_time_days": 1},
    {"proof_required": True},
    {"reversal_days": 1},
    {"missed_call_window_s": 60},
    {"enabled": False},
)
TRANSFER: Sequence[Fields] = (
    {"multiple": 5},
    {"barred_sources": {"sources": []}},
    {"barred_sources": {"sources": ["ENGAGE_PLUS", "REGISTRATION"]}},
    {"duplicate_window_s": 600},
    {"velocity_limits": [{"direction": "OUT", "window": "TODAY", "points_max": 60}]},
    {"velocity_limits": [{"direction": "IN", "window": "LAST_7_DAYS", "transfers_max": 2}]},
    {"velocity_limits": [{"direction": "OUT", "window": "LAST_30_DAYS", "points_max": 90, "transfers_max": 3}]},
    {"enabled": False},
)
OTP: Sequence[Fields] = (
    {"transfer": "REQUIRED"},
    {"transfer": "OFF"},
    {"attempts": 1},
    {"attempts": 2},
    {"issues_per_window": 2},
    {"attempts_per_window": 2},
    {"window_s": 60},
    {"validity_s": 60},
    {"channels": ["EMAIL"]},
)
FEATURES = [
    *({"redemption": one} for one in REDEMPTION),
    *({"transfer": one} for one in TRANSFER),
    *({"otp": one} for one in OTP),
    {"transfer": {"redemption_conditions": True}, "redemption": {"required_lifetime_points": 400}},
    {"transfer": {"redemption_conditions": True}, "redemption": {"required_balance": 300}},
]
MISHAPS: Sequence[tuple[str, Any, Any]] = (
    ("pause", 0, None),
    ("pause", MAIN, None),
    ("contradiction", MAIN, None),
    *(("key", key, "perhaps") for key in SWITCHES),
    *(("key", key, str(not on).lower()) for key, on in SWITCHES.items()),
    ("key", FRAUD_CHECK, "sometimes"),
    ("key", FRAUD_CHECK, None),
    ("key", FRAUD_CHECK, " FALSE "),
    *(("status", number, fraud) for number in (ANN, BEN) for fraud in ("MARKED", "CONFIRMED", "INTERNAL")),
    ("both frauds", ANN, BEN),
    *(("label", number, label) for number in (ANN, BEN) for label in ("SUSPENDED", "FRAUD_CONFIRMED", "DELETED")),
    ("label without module", ANN, "SUSPENDED"),
)
SEEDS = st.binary(min_size=8, max_size=8)
"""What each step throws its dice from: eight bytes, which Hypothesis draws evenly; each step can be left out alone."""

AMOUNTS = (1, 5, 10, 20, 50, 70)
PEOPLE = (*(ANN,) * 12, *(BEN,) * 10, CID, CID, CID, DEE, EVE, NOBODY)
PROGRAMS = (0, *(MAIN,) * 12, *(GROUPED,) * 3, ALONE, ALONE, 99)
SPANS = (1, 59, 60, 61, 600, 3_600, 86_400, 8 * 86_400, 31 * 86_400)
SOMETIMES = (True, False, False, False, False, False)


def merged(features: Sequence[Mapping[str, Mapping[str, Any]]]) -> Fields:
    """A policy with features, later ones first in force."""
    policy: Fields = {}
    for one in features:
        for part, fields in one.items():
            policy[part] = {**policy.get(part, {}), **fields}
    return policy


def features(dice: Random) -> Fields:
    """A random policy: mostly lenient."""
    return merged(dice.sample(FEATURES, dice.choice((0, 0, 1, 1, 2, 3))))


def other(dice: Random, customer_id: int) -> int:
    """Another customer, or seldom the same."""
    return dice.choice([one for one in PEOPLE if one != customer_id] + [customer_id])


def by_id(customer_id: int) -> Fields:
    """The identifier that is the id."""
    return {"type": "ID", "value": str(customer_id)}


class Commands(RuleBasedStateMachine):
    """The commands; `server` and `hits` are given by `machine`."""

    server: ModelServer
    hits: Counter[str]
    wallets_every = 8

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0
        self.seed = b""
        self.thrown: Counter[bytes] = Counter()
        self.play: Play | None = None

    # -- the world

    @initialize(seed=SEEDS)
    def create(self, seed: bytes) -> None:
        """Programs with random policies, customers, and some points."""
        self.seed = seed
        dice = Random(seed)
        start = dice.choice(STARTS)
        self.play = Play(self.server, micros_of(instant(0).fromisoformat(start)), self.hits)
        for program_id, zone, places in ((MAIN, "UTC", 0), (GROUPED, "Asia/Kolkata", 0), (ALONE, "UTC", 1)):
            fields = {"program_id": program_id, "name": f"Program {program_id}", "time_zone": zone}
            policy = features(dice)
            self.ask("CreateProgram", decimal_places=places, policy=policy, **fields)
        group = {"program_group_id": 5, "name": "Group", "program_ids": [MAIN, GROUPED], "default_program_id": GROUPED}
        self.ask("CreateProgramGroup", **group)
        number = self.play.org.number
        for customer_id, programs, channels in (
            (ANN, [MAIN, GROUPED, ALONE], ("MOBILE",)),
            (BEN, [MAIN, GROUPED, ALONE], ("MOBILE", "EMAIL")),
            (CID, [MAIN, GROUPED], ("EMAIL",)),
            (DEE, [GROUPED], ()),
            (EVE, [MAIN], ("MOBILE",)),
        ):
            values = {"MOBILE": f"+9198{number:05d}{customer_id:03d}", "EMAIL": f"c{customer_id}@o{number}.example.com"}
            self.ask(
                "CreateCustomer",
                customer_id=customer_id,
                enrolled_program_ids=programs,
                identifiers=[{"type": one, "value": values[one]} for one in channels],
                campaign_contact=customer_id == EVE,
            )
        for customer_id in (ANN, BEN):
            for expires in (3_600, 3_600, 90_000):
                self.issue_one(customer_id, MAIN, 50, expires_at=self.in_s(expires))
            self.issue_one(customer_id, MAIN, 200)
            self.issue_one(customer_id, GROUPED, 100)

    @rule(seed=SEEDS)
    def step(self, seed: bytes) -> None:
        """One of the commands below."""
        self.thrown[seed] += 1
        dice = Random(self.seed + seed + bytes([self.thrown[seed]]))
        [kind] = dice.choices(list(KINDS), list(KINDS.values()))
        kind(self, dice)

    def ask(self, rpc: str, **fields: Any) -> Any:
        """Asks service and model."""
        assert self.play is not None
        return self.play.ask(rpc, fields)

    @property
    def model(self) -> Any:
        """The model."""
        assert self.play is not None
        return self.play.model

    def in_s(self, seconds: int) -> str:
        """A time from now, as requests write it."""
        return iso(self.model.now + seconds * SECOND)

    def done(self, *customers: int) -> None:
        """After each step: the wallets touched, and every few steps all of them."""
        assert self.play is not None
        self.steps += 1
        self.play.compare_wallets(None if self.steps % self.wallets_every == 0 else set(customers))

    def teardown(self) -> None:
        """At the end all wallets."""
        if self.play is not None and not self.play.diverged:
            self.play.compare_wallets()

    # -- what to aim at

    def amount(self, dice: Random, customer_id: int, program_id: int, *, pooled: bool) -> int:
        """Points around what the customer has and what the policy allows."""
        program = self.model.program(program_id)
        person = self.model.people.get(customer_id)
        near = list(AMOUNTS) * 3
        if program is not None and person is not None:
            pool = self.model.pool(program, pooled=pooled)
            sums = self.model.sums([(customer_id, one) for one in pool if one in person.enrolled])
            near += [points + more for points in set(sums.values()) for more in (0, 1, -1)]
            policy = program.policy
            near += [policy.redemption.minimum_points - 1, policy.redemption.maximum_points + 1]
            for limit in policy.transfer.velocity_limits:
                used = sum(
                    one[4]
                    for one in self.model.moved
                    if one[0] == customer_id and one[1] == program.program_id and one[2] == "OUT"
                )
                near += [limit.points_max - used, limit.points_max - used + 1]
            if program.decimal_places:
                near += [one // 10 * 10 for one in near]
        points = dice.choice([one for one in near if 0 < one < 10**9])
        return 0 if dice.randint(0, 60) == 60 else points

    def digits(self, dice: Random, customer_id: int, action: str, *, due: bool) -> str:
        """No code, the right one, or a wrong one; whatever is due most of the time."""
        issued = self.model.secrets.get((customer_id, action), [])
        right = issued[-1].digits if issued else "000000"
        wrong = "1" * 6 if right != "1" * 6 else "2" * 6
        choices = ("right", "right", "right", "wrong", "none") if due else ("none", "none", "none", "right", "wrong")
        if issued and issued[-1].alive:
            choices = ("right", "wrong", "wrong", "none")
        return {"right": right, "wrong": wrong, "none": ""}[dice.choice(choices)]

    def named(self, dice: Random, person: Person | None, customer_id: int) -> Fields:
        """An identifier of a customer."""
        mobile = person.identifiers.get(2) if person else None
        if mobile and dice.random() < 0.5:
            return {"type": "MOBILE", "value": mobile}
        return by_id(customer_id)

    def who(self, dice: Random, customer_id: int) -> Fields:
        """An identifier of a customer by id."""
        return self.named(dice, self.model.people.get(customer_id), customer_id)

    # -- points come and go

    def issue_one(self, customer_id: int, program_id: int, points: int, **more: Any) -> None:
        """Issues points."""
        fields = {"customer_identifier": by_id(customer_id), "program_id": program_id, "points": points}
        self.ask("IssuePoints", **{"source": "LOYALTY_PLUS", **fields, **more})

    def issue(self, dice: Random) -> None:
        """Opens a lot of any kind."""
        customer_id = dice.choice(PEOPLE)
        program_id = dice.choice(PROGRAMS)
        source = dice.choice(["LOYALTY_PLUS", "LOYALTY_PLUS", "ENGAGE_PLUS", "GOODWILL", "REGISTRATION"])
        points = 0 if dice.randint(0, 60) == 60 else dice.choice((10, 50, 50, 100, 300))
        expiry: Sequence[Fields] = (
            {},
            {"never_expires": True},
            *({"expires_at": self.in_s(span)} for span in (-1, 0, 3_600, 3_600, 90_000, 3_000_000, 3_000_000)),
            {"expires_in_days": 0},
            {"expires_in_days": 2},
            {"expires_in_months": 0},
            {"expires_in_months": 1},
        )
        more = dict(dice.choice(expiry))
        if dice.choice(SOMETIMES):
            more["available_from"] = self.in_s(dice.choice(SPANS[:6]))
        if dice.choice(SOMETIMES):
            more["category"] = dice.choice(("Main", "Gifts", "Bonus", "Nothing"))
        if dice.choice(SOMETIMES):
            more["earning_program_id"] = dice.choice((MAIN, GROUPED, ALONE, 98))
        if dice.choice(SOMETIMES):
            more["transaction_number"] = f"earned-{dice.randint(1, 3)}"
        who = self.who(dice, customer_id)
        self.issue_one(customer_id, program_id, points, source=source, **{**more, "customer_identifier": who})
        self.done(customer_id)

    def adjust(self, dice: Random) -> None:
        """Takes points away."""
        customer_id = dice.choice(PEOPLE)
        program_id = dice.choice(PROGRAMS)
        points = self.amount(dice, customer_id, program_id, pooled=False)
        category = dice.choice(("", "", "Main", "Gifts", "Nothing"))
        who = {"customer_identifier": self.who(dice, customer_id), "program_id": program_id}
        self.ask("AdjustPoints", points=points, category=category, reason="a mistake", **who)
        self.done(customer_id)

    # -- transfers

    def transfer_of(self, dice: Random, source: int, destination: int, program_id: int) -> Fields:
        """What a transfer asks for."""
        pooled = dice.choice(SOMETIMES)
        return {
            "points_to_be_transferred": self.amount(dice, source, program_id, pooled=pooled),
            "program_id": program_id,
            "from_customer_identifier": self.who(dice, source),
            "to_customer_identifier": self.who(dice, destination),
            "group_program_transfer": pooled,
        }

    def transfer_code(self, dice: Random, source: int, program_id: int) -> str:
        """A code for a transfer."""
        program = self.model.program(program_id)
        required = program is not None and program.policy.otp.transfer == 1
        program_id = program.program_id if program else program_id
        due = required or self.model.due.get((source, program_id), 0) > self.model.now
        return self.digits(dice, source, "transfer", due=due)

    def transfer(self, dice: Random) -> None:
        """Transfers, sometimes after a check or a code for the very same transfer."""
        source = dice.choice(PEOPLE)
        destination = other(dice, source)
        program_id = dice.choice(PROGRAMS)
        first = dice.choice(["", "", "", "CheckTransfer", "IssueTransferOtp"])
        fields = self.transfer_of(dice, source, destination, program_id)
        if first:
            self.ask(first, **fields)
        code = self.transfer_code(dice, source, program_id)
        for _ in range(dice.choice((1, 1, 1, 2))):
            self.ask("TransferPoints", code=code, **fields)
        if first == "CheckTransfer":
            self.ask(first, **fields)
        self.done(source, destination)

    def check_transfer(self, dice: Random) -> None:
        """Checks a transfer, with or without a code."""
        source = dice.choice(PEOPLE)
        destination = other(dice, source)
        program_id = dice.choice(PROGRAMS)
        issue_otp = dice.random() < 0.5
        assert self.play is not None
        fields = self.transfer_of(dice, source, destination, program_id)
        self.play.ask("CheckTransfer", {**fields, "issue_otp": issue_otp}, names=issue_otp)
        self.done(source, destination)

    def transfer_codes(self, dice: Random) -> None:
        """Issues codes, and tries wrong ones."""
        source = dice.choice((ANN, BEN, CID))
        destination = other(dice, source)
        program_id = dice.choice((MAIN, MAIN, GROUPED))
        issues = dice.choice((1, 1, 2, 6))
        fields = self.transfer_of(dice, source, destination, program_id)
        for _ in range(issues):
            self.ask("IssueTransferOtp", **fields)
        for _ in range(dice.choice((0, 0, 1, 3, 5))):
            self.ask("TransferPoints", **fields, code="wrong!")
        self.done(source, destination)

    def batch_transfer(self, dice: Random) -> None:
        """Several transfers in one call."""
        program_id = dice.choice(PROGRAMS)
        count = dice.randint(1, 4)
        assert self.play is not None
        people = [(one, other(dice, one)) for one in dice.choices(PEOPLE, k=count)]
        self.play.batch("BatchTransferPoints", [self.transfer_of(dice, *pair, program_id) for pair in people])
        self.done(*(one for pair in people for one in pair))

    def reverse_transfer(self, dice: Random) -> None:
        """Takes a transfer back."""
        partial = dice.random() < 0.5
        unknown = dice.choice((False,) * 12 + (True,))
        made = [one.transfer_id for one in self.model.transfers]
        transfer_id = 7 if unknown or not made else dice.choice(made[-6:])
        shortfall = "UP_TO_AVAILABLE" if partial else "FAIL"
        self.ask("ReverseTransfer", transfer_id=transfer_id, shortfall=shortfall, reason="by mistake")
        self.done(ANN, BEN, CID)

    # -- redemptions

    def redemption_of(self, dice: Random, customer_id: int, program_id: int) -> Fields:
        """What a redemption asks for."""
        pooled = dice.choice(SOMETIMES)
        fields = {
            "customer_identifier": self.who(dice, customer_id),
            "program_id": program_id,
            "points": self.amount(dice, customer_id, program_id, pooled=pooled),
            "group_redemption": pooled,
        }
        if dice.choice(SOMETIMES):
            fields["category"] = dice.choice(("Main", "Main", "Gifts", "Bonus", "Nothing"))
        return fields

    def details_of(self, dice: Random, customer_id: int) -> Fields:
        """What more a redemption can say than the issue of its code."""
        details = Fields()
        if dice.random() < 0.5:
            details["transaction_number"] = dice.choice(("bill-1", "bill-2", "bought-1", "not a bill"))
        if dice.choice(SOMETIMES):
            spans = (-86_401, -86_400, -60, -1, 0, 1)
            details["redemption_time"] = self.in_s(dice.choice(spans))
        return details

    def proof_of(self, dice: Random, customer_id: int) -> Fields:
        """How a redemption is proved."""
        proof: Fields = {"validation_code": self.digits(dice, customer_id, "redeem", due=False)}
        if dice.randint(0, 5) == 5:
            proof["validation_type"] = "MISSED_CALL"
            if dice.randint(0, 3):
                proof["validation_code"] = ""
        if dice.random() < 0.4:
            proof["external_reference_number"] = f"reference {dice.randint(1, 3)}"
        return proof

    def redeem(self, dice: Random) -> None:
        """Redeems or holds, sometimes after a check or a code."""
        customer_id = dice.choice(PEOPLE)
        program_id = dice.choice(PROGRAMS)
        rpc = dice.choice(("RedeemPoints", "AuthorizeRedemption"))
        first = dice.choice(["", "", "CheckRedemption", "IssueRedemptionOtp"])
        fields = self.redemption_of(dice, customer_id, program_id)
        details = self.details_of(dice, customer_id)
        if first == "CheckRedemption":
            assert self.play is not None
            issue_otp = dice.random() < 0.5
            self.play.ask(first, {**fields, **details, "issue_otp": issue_otp}, names=issue_otp)
        elif first:
            self.ask(first, **fields)
        if rpc == "AuthorizeRedemption":
            details["hold_s"] = dice.choice((0, 60, 3_600, 90_000))
        self.ask(rpc, **fields, **details, **self.proof_of(dice, customer_id))
        self.done(customer_id)

    def redemption_codes(self, dice: Random) -> None:
        """Issues codes, and tries wrong ones."""
        customer_id = dice.choice((ANN, BEN, CID))
        program_id = dice.choice((MAIN, MAIN, GROUPED))
        issues = dice.choice((1, 1, 2, 6))
        if dice.choice(SOMETIMES):
            self.ask("SetPolicy", program_id=program_id, policy={"otp": {"attempts_per_window": 2}})
        fields = self.redemption_of(dice, customer_id, program_id)
        for _ in range(issues):
            self.ask("IssueRedemptionOtp", **fields)
        for _ in range(dice.choice((0, 0, 1, 3, 5))):
            self.ask("RedeemPoints", **fields, validation_code="wrong!")
        self.done(customer_id)

    def batch_redeem(self, dice: Random) -> None:
        """Several redemptions in one call."""
        program_id = dice.choice(PROGRAMS)
        count = dice.randint(1, 4)
        assert self.play is not None
        people = [dice.choice(PEOPLE) for _ in range(count)]
        self.play.batch("BatchRedeemPoints", [self.redemption_of(dice, one, program_id) for one in people])
        self.done(*people)

    def close_hold(self, dice: Random) -> None:
        """Captures or releases a hold."""
        release = dice.random() < 0.5
        unknown = dice.choice((False,) * 12 + (True,))
        opened = [one for one in self.model.holds if self.model.is_open(one)] or self.model.holds
        if unknown or not opened:
            self.ask("ReleaseRedemption" if release else "CaptureRedemption", hold_id="h0")
            return
        hold = dice.choice(opened[-4:])
        total = sum(one.points for one in hold.draws)
        points = dice.choice([one for one in (None, None, 1, total - 1, total, total + 1) if one != 0])
        if release:
            self.ask("ReleaseRedemption", hold_id=hold.hold_id)
        else:
            self.ask("CaptureRedemption", hold_id=hold.hold_id, **({} if points is None else {"points": points}))
        self.done(hold.customer_id)

    # -- reversals

    def back(self, dice: Random, spent: Any) -> Fields:
        """How many points to give back."""
        near = [None, None, 1, 1, spent.left - 1, spent.left, spent.left + 1]
        points = dice.choice([one for one in near if one is None or one > 0])
        points = 0 if dice.randint(0, 40) == 40 else points
        return {} if points is None else {"points_to_be_reversed": points}

    def reverse(self, dice: Random) -> None:
        """Gives points back."""
        key = dice.choice(("id", "id", "id", "reference", "bill", "unknown"))
        made = self.model.redemptions
        if key == "unknown" or not made:
            unknown = [
                {"redemption_id": "r0"},
                {"external_reference_number": "none"},
                *({"transaction_number": one} for one in ("bought-1", "bought-2", "earned-1", "nothing")),
            ]
            self.ask("ReverseRedemption", customer_identifier=by_id(ANN), **dice.choice(unknown))
            return
        spent = dice.choice(made[-6:])
        if key == "bill":
            spent = dice.choice([one for one in made[-12:] if one.bill] or [spent])
        fields = {"redemption_id": spent.redemption_id}
        if key == "reference" and spent.reference:
            fields = {"external_reference_number": spent.reference}
        if key == "bill" and spent.bill:
            fields = {"transaction_number": spent.bill}
        survivor = self.model.survivor(spent.customer_id).customer_id
        customer_id = dice.choice((survivor,) * 6 + (spent.customer_id,) * 4 + (BEN, NOBODY))
        who = self.who(dice, customer_id)
        self.ask("ReverseRedemption", customer_identifier=who, **fields, **self.back(dice, spent))
        if dice.choice(SOMETIMES):  # whatever is left, and then nothing
            for _ in range(2):
                self.ask("ReverseRedemption", customer_identifier=who, **fields)
        self.done(survivor, spent.customer_id)

    def reverse_late(self, dice: Random) -> None:
        """Gives points back at the end of the window, or after it."""
        made = self.model.redemptions[-3:]
        if not made:
            return
        spent = dice.choice(made)
        self.ask("SetPolicy", program_id=spent.program_id, policy={"redemption": {"reversal_days": 1}})
        self.advance_to(dice, max(self.model.now, spent.at + DAY + dice.choice((-1, 0, 1))))
        who = self.who(dice, spent.customer_id)
        self.ask("ReverseRedemption", customer_identifier=who, redemption_id=spent.redemption_id)
        self.done(spent.customer_id)

    def give_back_purchase(self, dice: Random) -> None:
        """Returns a purchase with some redemptions."""
        customer_id = dice.choice(PEOPLE)
        bill = dice.choice(("bought-1", "bought-2", "bill-1", "new-1"))
        items: list[Fields] = []
        for spent in self.model.redemptions[-dice.randint(0, 3) :][:3]:
            item = {"redemption_id": spent.redemption_id, **self.back(dice, spent)}
            if dice.randint(0, 3):
                item["customer_identifier"] = by_id(dice.choice((spent.customer_id,) * 3 + (NOBODY,)))
            items.append(item)
        items += dice.choice(([], [], [{"redemption_id": "r0"}], [{"redemption_id": "?"}]))
        number = dice.choice((bill, bill, f"{bill}-{self.steps}"))
        who = self.who(dice, customer_id)
        self.ask("ReturnTransaction", transaction_number=number, customer_identifier=who, items=items)
        self.done(ANN, BEN, CID)

    # -- customers

    def lock(self, dice: Random) -> None:
        """Locks a customer, tries a transfer, and mostly unlocks again."""
        customer_id = dice.choice(PEOPLE)
        span = dice.choice((None, 0, 60, 86_400))
        who = by_id(customer_id)
        until = {} if span is None else {"locked_until": self.in_s(span)}
        self.ask("SetTransferLock", customer_identifier=who, reason="a suspicion", **until)
        self.ask("TransferPoints", **self.transfer_of(dice, customer_id, BEN, MAIN))
        if dice.randint(0, 3):
            self.ask("SetTransferLock", customer_identifier=who, reason="no suspicion")
        self.done(customer_id, BEN)

    def purchase(self, dice: Random) -> None:
        """Buys something."""
        customer_id = dice.choice(PEOPLE)
        program_id = dice.choice(PROGRAMS)
        bill = dice.choice(("bought-1", "bought-2", "bill-1", "earned-1"))
        amount = dice.choice((0, 300, 500))
        fields = {"customer_identifier": by_id(customer_id), "program_id": program_id, "transaction_number": bill}
        self.ask("RecordPurchase", amount_minor_units=amount, **fields)
        self.done(customer_id)

    def missed_call(self, dice: Random) -> None:
        """Calls, and redeems by it."""
        customer_id = dice.choice((ANN, ANN, BEN, EVE))
        allowed = dice.choice((True, True, False))
        mobile = self.model.people[customer_id].identifiers[2]
        self.ask("SetConfigKey", key="ENABLE_MISSED_CALL_REDEMPTION", value=str(allowed).lower())
        if dice.randint(0, 3):
            self.ask("RecordMissedCall", mobile_number=mobile)
        self.advance_to(dice, dice.choice((0, 0, 60, 61, 300, 301)) * SECOND + self.model.now)
        fields = self.redemption_of(dice, customer_id, MAIN)
        code = dice.choice(("", "", "", "123456"))
        for _ in range(dice.choice((1, 2))):
            self.ask("RedeemPoints", validation_type="MISSED_CALL", validation_code=code, **fields)
        self.done(customer_id)

    def enrol(self, dice: Random) -> None:
        """Becomes a member."""
        customer_id = dice.choice((CID, DEE, EVE, EVE, NOBODY))
        program_id = dice.choice(PROGRAMS)
        self.ask("EnrolCustomer", customer_identifier=by_id(customer_id), program_id=program_id)
        self.done(customer_id)

    def merge(self, dice: Random) -> None:
        """Merges customers; seldom, since a customer who is merged away does nothing more."""
        victim = dice.choice(PEOPLE)
        survivor = dice.choice(PEOPLE)
        meant = dice.randint(0, 3)
        if meant:
            victim, survivor = (CID, ANN) if meant == 1 else (DEE, BEN)
        fields = {"victim_customer_identifier": by_id(victim), "survivor_customer_identifier": by_id(survivor)}
        if meant or self.steps > 15:
            self.ask("MergeCustomers", reason="the same person", **fields)
        self.done(victim, survivor)

    # -- what judges, and when

    def set_policy(self, dice: Random) -> None:
        """Another policy from now on."""
        program_id = dice.choice((MAIN, GROUPED, ALONE))
        policy = features(dice)
        self.ask("SetPolicy", program_id=program_id, policy=policy)
        self.done()

    def mishap(self, dice: Random) -> None:
        """Something is broken for a few calls."""
        mishap = dice.choice(MISHAPS)
        calls = dice.randint(1, 3)
        repair = self.spoil(*mishap)
        reversals = mishap[1] == "Allow_points_redemption_reversal" and dice.random() < 0.7
        for _ in range(calls):
            self.one_call(dice, "ReverseRedemption" if reversals else "")
        repair()
        self.done(ANN, BEN)

    def one_call(self, dice: Random, wanted: str = "") -> None:
        """One of many commands, or the one that is wanted, between two who can mostly do it."""
        pair = dice.choice(((ANN, BEN), (BEN, ANN)))
        program_id = dice.choice((MAIN, MAIN, GROUPED))
        spent = self.model.redemptions[-1:]
        kinds: dict[str, Callable[[], Fields]] = {
            "TransferPoints": lambda: self.transfer_of(dice, *pair, program_id),
            "IssueTransferOtp": lambda: self.transfer_of(dice, *pair, program_id),
            "CheckTransfer": lambda: self.transfer_of(dice, *pair, program_id),
            "RedeemPoints": lambda: self.redemption_of(dice, pair[0], program_id),
            "CheckRedemption": lambda: self.redemption_of(dice, pair[0], program_id),
            "IssueRedemptionOtp": lambda: self.redemption_of(dice, pair[0], program_id),
            "AuthorizeRedemption": lambda: self.redemption_of(dice, pair[0], program_id),
            "ReverseRedemption": lambda: {
                "redemption_id": spent[0].redemption_id if spent else "r0",
                "customer_identifier": by_id(spent[0].customer_id if spent else ANN),
                "points_to_be_reversed": 1,
            },
            "ReturnTransaction": lambda: {
                "transaction_number": f"back-{self.steps}",
                "customer_identifier": by_id(pair[0]),
                "items": [{"redemption_id": one.redemption_id} for one in spent],
            },
            "IssuePoints": lambda: {
                "customer_identifier": by_id(pair[0]),
                "program_id": program_id,
                "points": 10,
                "source": "GOODWILL",
            },
            "AdjustPoints": lambda: {
                "customer_identifier": by_id(pair[0]),
                "program_id": program_id,
                "points": 1,
                "reason": "a mistake",
            },
        }
        rpc = wanted or dice.choice(sorted(kinds))
        assert self.play is not None
        self.play.ask(rpc, kinds[rpc](), names=not rpc.startswith("Check"))

    def spoil(self, kind: str, subject: Any, value: Any) -> Callable[[], object]:
        """Breaks something; the answer repairs it."""
        match kind:
            case "pause":
                self.ask("SetPause", program_id=subject, paused=True, reason="a drill")
                return lambda: self.ask("SetPause", program_id=subject, paused=False, reason="over")
            case "contradiction":
                sound = self.model.programs[subject].policy
                wrong: Fields = {"minimum_points": 9, "maximum_points": 8}
                self.ask("SetPolicy", program_id=subject, policy={"redemption": wrong})
                return lambda: self.ask_again_with(sound, subject)
            case "key":
                before = self.model.config.get(subject)
                self.set_key(subject, value)
                return lambda: self.set_key(subject, before)
            case "status":
                return self.mark(subject, fraud_status=value)
            case "both frauds":
                repairs = [self.mark(one, fraud_status="MARKED") for one in (subject, value)]
                return lambda: [one() for one in repairs]
            case "label":
                self.set_key("ENABLE_CUSTOMER_STATUS_MODULE", "true")
                repair = self.mark(subject, status_label=value)
                return lambda: (repair(), self.set_key("ENABLE_CUSTOMER_STATUS_MODULE", None))
            case _:
                return self.mark(subject, status_label=value)

    def set_key(self, key: str, value: str | None) -> None:
        """Sets or removes a key."""
        self.ask("SetConfigKey", key=key, **({} if value is None else {"value": value}))

    def ask_again_with(self, policy: Message, program_id: int) -> None:
        """Puts a policy back."""
        from google.protobuf.json_format import MessageToDict

        self.ask("SetPolicy", program_id=program_id, policy=MessageToDict(policy))

    def mark(self, customer_id: int, **marks: str) -> Callable[[], object]:
        """Marks a customer; the answer takes it back."""
        who = {"customer_identifier": by_id(customer_id), "reason": "a suspicion"}
        self.ask("SetCustomerStatus", **who, **marks)
        return lambda: self.ask("SetCustomerStatus", **who, fraud_status="NOT_FRAUD", status_label="ACTIVE")

    def edge(self, dice: Random) -> None:
        """Time passes to an instant at which something changes, just before it, or just after."""
        ahead = self.model.instants()[:6]
        if ahead:
            at = dice.choice(ahead) + dice.choice((-1, 0, 0, 1, 1))
            self.advance_to(dice, max(at, self.model.now))
        self.done(ANN, BEN)

    def span(self, dice: Random) -> None:
        """Time passes."""
        span = dice.choice(SPANS)
        self.advance_to(dice, self.model.now + span * SECOND)
        self.done()

    def advance_to(self, dice: Random, micros: int) -> None:
        """Steps the clock, by 40 days at most."""
        assert self.play is not None
        self.play.step_clock(min(micros, self.model.now + 40 * DAY))

    # -- request ids

    def retry(self, dice: Random) -> None:
        """An earlier command comes again under its request id, with the same content or with other."""
        changed = dice.choice(SOMETIMES)
        assert self.play is not None
        setup = {"CreateProgram", "CreateProgramGroup", "CreateCustomer", "SetPolicy", "SetConfigKey", "SetPause"}
        asked = [one for one in self.play.asked if one[0] not in setup and getattr(one[1], "request_id", "")]
        if not asked:
            return
        moved = [one for one in asked if one[0] in MOVES and self.was_accepted(one[1].request_id)]
        rpc, request = dice.choice(moved[-8:] if moved and dice.random() < 0.6 else asked[-25:])
        again = type(request)()
        again.CopyFrom(request)
        if changed:
            field = dice.choice([one for one in NUMBERS if one in again.DESCRIPTOR.fields_by_name] or [""])
            if field:
                setattr(again, field, max(1, getattr(again, field) + 1))
        self.play.repeat(rpc, again)
        self.done(ANN, BEN)

    def was_accepted(self, request_id: str) -> bool:
        """Whether a request id stands for an acceptance."""
        return isinstance(self.model.records.get(request_id, ("", {}, None))[2], dict)


KINDS: Mapping[Callable[[Commands, Random], None], int] = {
    Commands.issue: 12,
    Commands.adjust: 4,
    Commands.transfer: 14,
    Commands.check_transfer: 5,
    Commands.transfer_codes: 5,
    Commands.batch_transfer: 4,
    Commands.reverse_transfer: 5,
    Commands.redeem: 14,
    Commands.redemption_codes: 5,
    Commands.batch_redeem: 4,
    Commands.close_hold: 8,
    Commands.reverse: 12,
    Commands.reverse_late: 2,
    Commands.give_back_purchase: 5,
    Commands.lock: 2,
    Commands.purchase: 3,
    Commands.missed_call: 3,
    Commands.enrol: 1,
    Commands.merge: 1,
    Commands.set_policy: 4,
    Commands.mishap: 9,
    Commands.edge: 7,
    Commands.span: 3,
    Commands.retry: 8,
}
"""How often each kind of step comes, by weight."""

MOVES = {"TransferPoints", "RedeemPoints", "ReverseRedemption", "AdjustPoints", "AuthorizeRedemption"}
"""What would do harm if it were applied twice."""

NUMBERS = ("points_to_be_transferred", "points", "points_to_be_reversed", "amount_minor_units")
"""Fields whose change makes other content."""


def machine(server: ModelServer, hits: Counter[str]) -> type[Commands]:
    """The commands, for a server."""
    return type("ModelCommands", (Commands,), {"server": server, "hits": hits})
