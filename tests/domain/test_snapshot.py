"""The snapshot: what was not declared is not answered, windows of lots, and how it evolves within a batch."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from domain.defects import told
from points_grpc.domain.commands import Command, CreateCustomer, EnrolCustomer, Expiry, IssuePoints, RecordPurchase
from points_grpc.domain.decide import decide_one
from points_grpc.domain.model import Bucket, BucketKey, Identifier, IdentifierType, OtpAction, Source, WalletKey
from points_grpc.domain.outcome import Accepted
from points_grpc.domain.policy import Direction, VelocityLimit, Window
from points_grpc.domain.snapshot import Keys, NeedMore, NotLoaded, Snapshot
from worlds import ANN, BEN, CID, GOLD, NOW, SILVER, World, by_id, issue, metals, redeem, reverse, transfer

ANN_GOLD, BEN_GOLD = WalletKey(ANN, GOLD), WalletKey(BEN, GOLD)
DAN = 14


def creation(customer_id: int = DAN, *program_ids: int, mobile: str | None = "+919876540014") -> CreateCustomer:
    """Creates Dan."""
    return CreateCustomer(
        customer_id=customer_id,
        first_name="Dan",
        last_name="",
        mobile=mobile,
        email=None,
        external_id=None,
        program_ids=program_ids or (GOLD,),
        campaign_contact=False,
    )


def loaded(world: World, keys: Keys) -> Snapshot:
    """A snapshot of what the keys declare."""
    directory = world.resolve([])
    return Snapshot(world.load(keys, directory, {}), world.org_config())


class TestNotLoaded:
    """What nobody declared is not absent: asking for it is a bug, and shouts."""

    @pytest.mark.parametrize(
        "question",
        [
            lambda snapshot: snapshot.customer(BEN),
            lambda snapshot: snapshot.wallet(BEN_GOLD),
            lambda snapshot: snapshot.wallets_of(BEN),
            lambda snapshot: snapshot.buckets(BEN_GOLD),
            lambda snapshot: snapshot.lot(2),
            lambda snapshot: list(snapshot.lots_in_spending_order(ANN_GOLD)),
            lambda snapshot: snapshot.otps(ANN, OtpAction.TRANSFER),
            lambda snapshot: snapshot.otp_counter(ANN, OtpAction.TRANSFER),
            lambda snapshot: snapshot.velocity(ANN_GOLD),
            lambda snapshot: snapshot.redemption_by_external_reference("R-1"),
            lambda snapshot: snapshot.redemptions_by_transaction_number("B-1"),
            lambda snapshot: snapshot.purchase("B-1"),
        ],
        ids=[
            "customer",
            "wallet",
            "wallets_of",
            "buckets",
            "lot",
            "lots",
            "otps",
            "otp_counter",
            "velocity",
            "external_reference",
            "transaction_number",
            "purchase",
        ],
    )
    def test_undeclared(self, question: Callable[[Snapshot], object]) -> None:
        """A question about an undeclared key raises."""
        world = metals()
        world.give(1, 10)
        world.give(2, 10, customer_id=BEN)
        snapshot = loaded(world, Keys(customers=frozenset({ANN})))

        with pytest.raises(NotLoaded):
            question(snapshot)

    def test_declared_and_absent(self) -> None:
        """A declared key that has nothing is answered with nothing."""
        snapshot = loaded(
            metals(),
            Keys(
                customers=frozenset({CID}),
                draws=frozenset({WalletKey(CID, GOLD)}),
                otps=frozenset({(CID, OtpAction.TRANSFER)}),
                velocity=frozenset({WalletKey(CID, GOLD)}),
                external_references=frozenset({"R-1"}),
                transaction_numbers=frozenset({"B-1"}),
            ),
        )

        assert None is snapshot.wallet(WalletKey(CID, GOLD))
        assert [] == list(snapshot.wallets_of(CID))
        assert {} == snapshot.buckets(WalletKey(CID, GOLD))
        assert [] == list(snapshot.lots_in_spending_order(WalletKey(CID, GOLD)))
        assert {} == snapshot.otps(CID, OtpAction.TRANSFER)
        assert None is snapshot.otp_counter(CID, OtpAction.TRANSFER)
        assert {} == snapshot.velocity(WalletKey(CID, GOLD))
        assert None is snapshot.redemption("r0")
        assert None is snapshot.redemption_by_external_reference("R-1")
        assert () == tuple(snapshot.redemptions_by_transaction_number("B-1"))
        assert None is snapshot.purchase("B-1")
        assert None is snapshot.find(by_id(ANN))

    def test_union(self) -> None:
        """The keys of a batch are the keys of all its commands."""
        one = Keys(customers=frozenset({1}), redemptions=frozenset({"r1"}))
        other = Keys(customers=frozenset({2}), external_references=frozenset({"R-1"}))

        assert Keys() == Keys.union([])
        assert one == Keys.union([one])
        assert Keys(
            customers=frozenset({1, 2}),
            redemptions=frozenset({"r1"}),
            external_references=frozenset({"R-1"}),
        ) == Keys.union([one, other])


class TestWindow:
    """Lots are loaded in spending order, and perhaps not all of them."""

    def test_need_more(self) -> None:
        """Going past the last lot that was loaded asks for more, if there are others."""
        snapshot = self.snapshot(lots=5, window=3)
        walk = iter(snapshot.lots_in_spending_order(ANN_GOLD))
        seen = [next(walk).lot_id for _ in range(3)]

        assert [1, 2, 3] == seen
        with pytest.raises(NeedMore) as raised:
            next(walk)
        assert ANN_GOLD == raised.value.wallet

    @pytest.mark.parametrize("window", [5, 6])
    def test_complete(self, window: int) -> None:
        """A window with all lots in it ends quietly."""
        snapshot = self.snapshot(lots=5, window=window)

        assert [1, 2, 3, 4, 5] == [one.lot_id for one in snapshot.lots_in_spending_order(ANN_GOLD)]

    @pytest.mark.parametrize(("points", "enough"), [(10, True), (30, True), (31, False)])
    def test_only_if_needed(self, points: int, enough: bool) -> None:
        """A command that the window suffices for does not ask for more."""
        world = self.world(lots=5, window=3)
        snapshot, [keys] = world.snapshot([redeem(points)])

        if enough:
            assert isinstance(decide_one(snapshot, world.context(redeem(points)), keys), Accepted)
            return
        with pytest.raises(NeedMore):
            decide_one(snapshot, world.context(redeem(points)), keys)

    def test_pooled(self) -> None:
        """Over several wallets, the lots after a short window could come first: more is asked for at its end."""
        world = self.world(lots=5, window=3)
        world.give(6, 10, program_id=SILVER)
        command = redeem(31, pooled=True)
        snapshot, [keys] = world.snapshot([command])

        with pytest.raises(NeedMore) as raised:
            decide_one(snapshot, world.context(command), keys)

        assert ANN_GOLD == raised.value.wallet
        world.accept(command)
        assert {4: 9, 5: 10} == world.remaining(ANN)

    @pytest.mark.parametrize("window", [1, 2, 3, 100])
    def test_new_lots_inside(self, window: int) -> None:
        """A lot issued in the batch takes its place among those loaded, however many were."""
        world = self.world(lots=5, window=window)
        early = issue(5, expiry=Expiry(at=NOW + timedelta(hours=1)))

        _, redeemed = world.decide_batch([early, redeem(12)])

        assert isinstance(redeemed, Accepted)
        assert [5, 7] == [one.points for one in redeemed.result.lots]  # type: ignore[union-attr]
        assert {1: 3, 2: 10, 3: 10, 4: 10, 5: 10} == world.remaining(ANN)

    @pytest.mark.parametrize("window", [1, 2, 3, 100])
    def test_new_lots_beyond(self, window: int) -> None:
        """A lot issued in the batch that is spent after all others waits for them, loaded or not."""
        world = self.world(lots=5, window=window)

        _, redeemed = world.decide_batch([issue(5), redeem(52)])

        assert isinstance(redeemed, Accepted)
        assert [10, 10, 10, 10, 10, 2] == [one.points for one in redeemed.result.lots]  # type: ignore[union-attr]

    @pytest.mark.parametrize("window", [1, 2, 3, 100])
    def test_revived_lots(self, window: int) -> None:
        """A lot that was spent, in the batch or before, and is given back takes its old place."""
        world = self.world(lots=5, window=window)
        made = world.accept(redeem(15))

        outcomes = world.decide_batch([redeem(10), reverse(made.redemption_id), redeem(20)])

        assert [True] * 3 == [isinstance(one, Accepted) for one in outcomes]
        assert {2: 5, 4: 10, 5: 10} == {
            **world.remaining(ANN),
        } or world.remaining(ANN)

    def test_spent_lots_are_skipped(self) -> None:
        """Lots that predecessors spent are passed over."""
        world = self.world(lots=5, window=2)

        outcomes = world.decide_batch([redeem(10), redeem(15), redeem(25)])

        assert [[1], [2, 3], [3, 4, 5]] == [
            [lot.lot_id for lot in one.result.lots]  # type: ignore[union-attr]
            for one in outcomes
        ]

    def world(self, lots: int, window: int) -> World:
        """Ann has so many lots of ten points each, of which so many are loaded at first."""
        world = metals()
        for lot_id in range(1, lots + 1):
            world.give(lot_id, 10, expires_at=NOW + timedelta(days=lot_id))
        world.window = window
        return world

    def snapshot(self, lots: int, window: int) -> Snapshot:
        """What is loaded of such a world for a redemption."""
        return self.world(lots, window).snapshot([redeem(1)])[0]


class TestCreated:
    """A customer created in a batch counts as loaded: there is nothing else to load."""

    @pytest.mark.parametrize(
        "second",
        [
            transfer(10, destination=DAN),
            issue(10, customer_id=DAN),
            issue(10, customer_id=DAN, transaction_number="B-1"),
            RecordPurchase(by_id(DAN), GOLD, "B-1", 700),
            EnrolCustomer(by_id(DAN), SILVER),
        ],
    )
    def test_at_once(self, second: Command) -> None:
        """The next command of the batch finds the customer, enrolled and empty."""
        world = self.world()

        outcomes = world.decide_batch([creation(), second])

        assert [True, True] == [isinstance(one, Accepted) for one in outcomes]

    @pytest.mark.parametrize(
        ("second", "wanted"),
        [
            (redeem(10, customer_id=DAN), "POINTS_EXCEED_CURRENT"),
            (transfer(10, source=DAN, destination=ANN), "TRANSFER_INSUFFICIENT_POINTS"),
            (transfer(10, source=DAN, destination=ANN, program_id=SILVER), "TRANSFER_CUSTOMER_NOT_ELIGIBLE"),
            (issue(10, customer_id=DAN, program_id=SILVER), "CUSTOMER_NOT_ENROLLED"),
            (reverse("r0", customer_id=DAN), "REDEMPTION_NOT_FOUND"),
            (creation(), "RESOURCE_EXISTS"),
            (creation(15), "RESOURCE_EXISTS"),
        ],
    )
    def test_refusals(self, second: Command, wanted: str) -> None:
        """What the customer lacks is absent, not unknown."""
        world = self.world()

        outcomes = world.decide_batch([creation(), second])

        assert wanted == told(outcomes[1])[0]

    def test_by_new_identifier(self) -> None:
        """The customer is found by every identifier given."""
        world = self.world()
        mobile = Identifier(IdentifierType.MOBILE, "+919876540014")
        command = IssuePoints(customer=mobile, program_id=GOLD, points=10, source=Source.GOODWILL)

        outcomes = world.decide_batch([creation(), command])

        assert isinstance(outcomes[1], Accepted)
        assert 10 == world.balance(DAN).current

    @pytest.mark.parametrize("limited", [False, True])
    def test_whole_life_in_a_batch(self, limited: bool) -> None:
        """Points can be given, earned, passed on, spent and given back in the batch that creates the customer."""
        world = self.world()
        if limited:
            limits = (
                VelocityLimit(Direction.OUT, Window.TODAY, 1_000),
                VelocityLimit(Direction.IN, Window.TODAY, 1_000),
            )
            world.change_transfer_policy(velocity_limits=limits, duplicate_window_s=60)

        outcomes = world.decide_batch(
            [
                creation(),
                transfer(40, destination=DAN),
                issue(5, customer_id=DAN),
                transfer(30, source=DAN, destination=BEN),
                redeem(15, customer_id=DAN, external_reference="R-1"),
                reverse(external_reference="R-1", customer_id=DAN),
                redeem(15, customer_id=DAN),
            ]
        )

        assert [True] * 7 == [isinstance(one, Accepted) for one in outcomes]
        assert {} == world.remaining(DAN)
        assert (60, 30) == (world.balance(ANN).current, world.balance(BEN).current)

    def test_pooled(self) -> None:
        """A pooled transfer goes to a customer of the batch too, and draws lots of several programs."""
        world = self.world()
        world.give(2, 50, program_id=SILVER)

        outcomes = world.decide_batch([creation(), transfer(150, destination=DAN, pooled=True)])

        assert isinstance(outcomes[1], Accepted)
        assert 150 == world.balance(DAN).current

    def world(self) -> World:
        """Ann has 100 points."""
        world = metals()
        world.give(1, 100)
        return world


class TestEnrolled:
    """A wallet opened in a batch."""

    def test_at_once(self) -> None:
        """The wallet takes part in the rest of the batch."""
        world = metals()
        world.enrol(CID, GOLD)
        world.give(1, 100, customer_id=CID)

        outcomes = world.decide_batch(
            [
                transfer(10, source=ANN, destination=CID, program_id=SILVER),
                EnrolCustomer(by_id(CID), SILVER),
                transfer(10, source=CID, destination=ANN, program_id=SILVER),
                issue(20, customer_id=CID, program_id=SILVER),
                transfer(15, source=CID, destination=ANN, program_id=SILVER),
                redeem(104, customer_id=CID, pooled=True),
            ]
        )

        assert [
            "TRANSFER_CUSTOMER_NOT_ELIGIBLE",
            None,
            "TRANSFER_INSUFFICIENT_POINTS",
            None,
            None,
            None,
        ] == [None if isinstance(one, Accepted) else told(one)[0] for one in outcomes]
        assert 1 == world.balance(CID, SILVER).current

    def test_again(self) -> None:
        """Who left and enrols again has the points of before."""
        world = metals()
        world.give(1, 100)
        world.leave(ANN)

        _, redeemed = world.decide_batch([EnrolCustomer(by_id(ANN), GOLD), redeem(100)])

        assert isinstance(redeemed, Accepted)


class TestChanges:
    """What the storage is told to write."""

    def test_final_rows(self) -> None:
        """A batch leaves each row once, as it is in the end; rows before are those that were loaded."""
        world = metals()
        world.give(1, 100)
        before = world.wallet(ANN)

        world.decide_batch([transfer(10), transfer(20), redeem(5, customer_id=BEN)])

        changes = world.changes
        assert {ANN_GOLD: before, BEN_GOLD: metals().wallet(BEN)} == changes.wallets_before
        assert {ANN_GOLD: world.wallet(ANN), BEN_GOLD: world.wallet(BEN)} == changes.wallets
        assert {1: 70} == {one.lot_id: one.remaining for one in changes.lots_changed.values()}
        assert [5, 20] == [one.remaining for one in changes.lots_opened.values()]
        main = BucketKey(GOLD, Source.LOYALTY_PLUS, "Main")
        assert {ANN_GOLD: {main: Bucket(70)}, BEN_GOLD: {main: Bucket(25)}} == {
            key: changes.buckets[key] for key in changes.wallets
        }

    def test_commands_see_their_predecessors(self) -> None:
        """Each is decided on what those before it left."""
        world = metals()
        world.give(1, 100)
        batch: list[Command] = [redeem(60), redeem(60), redeem(40)]
        snapshot, keys = world.snapshot(batch)

        outcomes = [decide_one(snapshot, world.context(one), key) for one, key in zip(batch, keys, strict=True)]

        assert [True, False, True] == [isinstance(one, Accepted) for one in outcomes]

    def test_nothing(self) -> None:
        """A refusal without a trace leaves nothing."""
        world = metals()

        world.refuse(redeem(60))

        assert {} == world.changes.wallets
        assert [] == world.changes.events
