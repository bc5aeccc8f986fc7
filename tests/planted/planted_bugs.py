"""The bugs that are planted to see the tests fail: where, what stands there, what stands there instead, who finds it.

A bug is one small edit of a copy of src/points_grpc, of the kind that a hurried change would make. `because` is what
the failing test must say, so that it fails for the bug and not for something else. scripts/generate writes the table of
docs/proof.md from here: nothing but the standard library is imported. A text that is not found (once) in its file fails
the run: a table that rots proves nothing.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Edit:
    """One place of one file."""

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Planted:
    """A bug, the test that finds it, and what that test says. `quick`: also planted in CI."""

    name: str
    breaks: str
    edits: tuple[Edit, ...]
    test: str
    because: str
    quick: bool = False


PLANTED = (
    Planted(
        "row lock dropped",
        "A customer whom another writer has locked is taken for locked by us.",
        (
            Edit(
                "storage/postgres_repository.py",
                "        return frozenset(locking.customer_ids) if locking.wait else"
                " frozenset(one.customer_id for one in locked)",
                "        return frozenset(locking.customer_ids)",
            ),
        ),
        "tests/service/test_two_writers.py::test_pair_is_as_if_one_came_after_the_other",
        "violates check constraint|assert",
    ),
    Planted(
        "request id claimed after the decision",
        "What was recorded of a request id is looked up before the lock, and recorded again without a look.",
        (
            Edit(
                "storage/repository.py",
                "            locking = self._ask_lock(customer_ids, wait=wait)\n"
                "            recorded = self._reader.ask_recorded(request_ids)\n",
                "            recorded = self._reader.ask_recorded(request_ids)\n"
                "            locking = self._ask_lock(customer_ids, wait=wait)\n",
            ),
            Edit(
                "storage/statements.py",
                "INSERT_REQUEST = _insert(requests)",
                "INSERT_REQUEST = _insert_unless_there(requests)",
            ),
        ),
        "tests/service/test_two_writers.py::test_command_sent_again_through_both_has_one_effect",
        "assert 2 == 1",
    ),
    Planted(
        "deferral that starves",
        "A command whose customers another writer always has is passed over for ever.",
        (Edit("service/executor.py", "self._passed_over.get(org_id, 0) >= PASSED_OVER_MAX", "False"),),
        "tests/service/test_two_writers.py::test_who_is_passed_over_again_and_again_waits_in_the_end",
        "Deferred",
    ),
    Planted(
        "fencing removed",
        "A writer that stood still for longer than its lease goes on writing.",
        (
            Edit(
                "storage/postgres_slots.py",
                '            raise WriterFenced("the lease of the writer slot was lost")',
                "            return",
            ),
        ),
        "tests/storage/test_postgres.py::test_writer_whose_lease_was_taken_writes_nothing_more",
        "DID NOT RAISE",
    ),
    Planted(
        "attempt counter forgotten on refusal",
        "A wrong code costs nothing, so that codes can be guessed.",
        (
            Edit(
                "domain/otp.py",
                "(OtpSaved(tried), OtpCounterSaved(replace(counter, wrong_attempts=counter.wrong_attempts + 1))),",
                "(),",
            ),
        ),
        "tests/service/test_executor.py::test_wrong_code_is_counted_although_the_command_is_refused",
        "\\['4', '4', '4'\\]",
        quick=True,
    ),
    Planted(
        "applied twice on retry",
        "A redemption or transfer that was accepted is not recorded under its request id.",
        (
            Edit(
                "service/executor.py",
                "            if _is_recorded(submission, outcome):",
                "            if _is_recorded(submission, outcome) and not isinstance(outcome, Accepted):",
            ),
        ),
        "tests/service/test_executor.py::test_acceptance_is_replayed",
        "False, True|not recorded",
    ),
    Planted(
        "duplicate answered with another outcome",
        "A refusal is not recorded, so that the same request id may be accepted later.",
        (
            Edit(
                "service/executor.py",
                "    return isinstance(outcome, Accepted) or outcome.recorded",
                "    return isinstance(outcome, Accepted)",
            ),
        ),
        "tests/service/test_executor.py::test_refusal_is_replayed_whatever_happened_since",
        "AssertionError",
    ),
    Planted(
        "reused request id taken for a repetition",
        "Other content under a known request id is answered with what the first content came to.",
        (Edit("service/executor.py", "        if not differing:", "        if differing is not None:"),),
        "tests/service/test_executor.py::test_reused_id_names_the_fields_that_differ",
        "AssertionError",
    ),
    Planted(
        "unknown outcome run again",
        "A batch whose commit may have taken place is run once more.",
        (
            Edit(
                "service/writer.py",
                "            except StorageConflict:\n                self._meter",
                "            except (StorageConflict, OutcomeUnknown):\n                self._meter",
            ),
        ),
        "tests/service/test_committer.py::test_outcome_unknown_is_never_run_again",
        "AssertionError",
        quick=True,
    ),
    Planted(
        "open outcome told as not written",
        "What a dead writer had taken is told as certainly not written, and done again under a new request id.",
        (
            Edit(
                "service/committer.py",
                "            failure = Failure.OUTCOME_UNKNOWN if one.taken else Failure.STORAGE_UNAVAILABLE",
                "            failure = Failure.STORAGE_UNAVAILABLE",
            ),
        ),
        "tests/service/test_link.py::test_a_dead_writer_leaves_open_what_it_took_and_nothing_else",
        "AssertionError",
    ),
    Planted(
        "commit that waits for no disk",
        "What was acknowledged is lost with the power.",
        (
            Edit(
                "storage/sqlite.py",
                'cursor.execute(f"PRAGMA synchronous = {synchronous}")',
                'cursor.execute("PRAGMA synchronous = NORMAL")',
            ),
            Edit("storage/engine.py", "    if not found.survives_power_loss:", "    if not found:"),
        ),
        "tests/faults/test_durability.py::test_every_commit_is_synced_before_its_answer",
        "AssertionError",
    ),
    Planted(
        "stale read in the check",
        "A check is answered as the same check was answered before, whatever happened since.",
        (
            Edit(
                "service/checker.py",
                "            found = iter(self._checking.check(org_id, timely) if timely else ())",
                '            kept = self.__dict__.setdefault("kept", {})\n'
                "            fresh = self._checking.check(org_id, timely) if timely else []\n"
                "            found = iter([kept.setdefault(one.command, told) for one, told in zip(timely, fresh)])",
            ),
        ),
        "tests/faults/test_serial_order.py::test_answers_fit_one_order",
        "cycle: |real-time violation: |balance of another time: ",
    ),
    Planted(
        "read from a mirror",
        "Balances are read from a copy that follows half a second behind.",
        (
            Edit(
                "service/reads.py",
                "        return await self._run(self._queries.wallet, org_id, key, barred_sources, now)",
                '        mirror = self.__dict__.setdefault("mirror", {})\n'
                "        found = await self._run(self._queries.wallet, org_id, key, barred_sources, now)\n"
                "        at, seen = mirror.get(key, (now, found))\n"
                "        if (now - at).total_seconds() > 0.5 or key not in mirror:\n"
                "            mirror[key] = (now, found)\n"
                "        return seen",
            ),
        ),
        "tests/faults/test_serial_order.py::test_answers_fit_one_order",
        "cycle: |real-time violation: |balance of another time: ",
    ),
    Planted(
        "wrong spending order",
        "Points that were awarded first are spent before those that expire first.",
        (
            Edit(
                "domain/snapshot.py",
                "    return (lot.expires_at or NEVER, lot.awarded_at, lot.lot_id)",
                "    return (lot.awarded_at, lot.expires_at or NEVER, lot.lot_id)",
            ),
        ),
        "tests/domain/test_transfer.py::TestDeed::test_spending_order",
        "assert \\[4, 3",
    ),
    Planted(
        "lot lost on partial reversal",
        "A lot of which a part was given back is forgotten by the next reversal.",
        (Edit("domain/reversal.py", "if one.points > one.reversed]", "if not one.reversed]"),),
        "tests/domain/test_reversal.py::TestDeed::test_partial_latest_expiring_first",
        "IndexError",
    ),
    Planted(
        "reversed more than was redeemed",
        "A reversal in parts gives each lot all of its points back each time.",
        (
            Edit(
                "domain/reversal.py",
                "            points = min(one.points - one.reversed, left)",
                "            points = min(one.points, left)",
            ),
        ),
        "tests/domain/test_reversal.py::TestDeed::test_partial_latest_expiring_first",
        "3: 13",
    ),
    Planted(
        "expiry ignored on touch",
        "A write on a wallet leaves what expired since in its books.",
        (
            Edit(
                "domain/decide.py",
                "                snapshot.evolve(book_due(snapshot, wallet, context.next_id))",
                "                snapshot.evolve(())",
            ),
        ),
        "tests/service/test_executor.py::test_due_expiry_is_booked_in_the_same_commit",
        "\\(5, 50\\)",
    ),
    Planted(
        "transfer lengthens the life of points",
        "What is received by transfer never expires.",
        (Edit("domain/lots.py", "        expires_at=parent.expires_at,", "        expires_at=None,"),),
        "tests/domain/test_transfer.py::TestDeed::test_received_lots",
        "expires_at|assert",
    ),
    Planted(
        "code not bound to the amount",
        "A code that was asked for a small amount opens a large one.",
        (Edit("domain/otp.py", "        and binding.points <= otp.points_max\n", ""),),
        "tests/domain/test_otp.py::TestBinding::test_of_a_transfer",
        "isinstance\\(Accepted",
    ),
    Planted(
        "code that lives on when the clock goes back",
        "After a jump of the clock a code can be used for as long as it went back.",
        (
            Edit(
                "domain/otp.py",
                "    return not otp.issued_at - (otp.expires_at - otp.issued_at) <= now <= otp.expires_at",
                "    return now > otp.expires_at",
            ),
        ),
        "tests/domain/test_otp.py::TestTrying::test_clock_that_went_back",
        "Accepted\\(",
    ),
    Planted(
        "ids begin anew",
        "A writer that starts while the clock is behind makes ids below those of its slot, and some again.",
        (Edit("cli/writer_composition.py", ", after=last_id)", ")"),),
        "tests/faults/test_clock_jumps.py::test_server_that_starts_with_its_clock_behind_makes_higher_ids",
        "assert \\[\\] == ",
    ),
    Planted(
        "full disk taken for a bug",
        "A writer that starts while the disk is full ends with a report of a bug, and no operator learns why.",
        (
            Edit(
                "cli/writer_composition.py",
                "StorageConflict, StorageFull, StorageUnavailable, Val",
                "StorageConflict, StorageUnavailable, Val",
            ),
        ),
        "tests/cli/test_writer_start.py::test_what_an_operator_can_mend_is_a_sentence",
        "assert",
    ),
    Planted(
        "readers shut out by the kind of session",
        "Where a URL asks for a session that can write, no connection for reading is made.",
        (
            Edit(
                "storage/postgres.py",
                'more={"default_transaction_isolation": "repeatable read"},',
                'more={"default_transaction_isolation": "repeatable read", "default_transaction_read_only": "on"},',
            ),
        ),
        "tests/storage/test_postgres.py::test_readers_connect_to_whatever_session_is_asked_for",
        "session is read-only",
    ),
    Planted(
        "held points spent",
        "Points that an open authorisation holds are drawn by something else.",
        (
            Edit(
                "domain/lots.py",
                "        available = 0 if lot.promised else lot.remaining - lot.held",
                "        available = 0 if lot.promised else lot.remaining",
            ),
        ),
        "tests/domain/test_holds.py::TestAuthorisation::test_held_points_cannot_be_spent",
        "assert|DID NOT",
    ),
    Planted(
        "proof asked of one program alone",
        "Points of a program that demands a proof are redeemed without one by naming another program of the group.",
        (
            Edit(
                "domain/redemption.py",
                "for one in (self.ruling, *drawn)",
                "for one in (self.ruling,)",
            ),
        ),
        "tests/domain/test_redemption.py::TestPooled::test_proof",
        "assert|DID NOT|Accepted",
    ),
    Planted(
        "bill of another customer",
        "A bill that is known as one customer's is recorded as the purchase of another, who may then return it.",
        (
            Edit(
                "domain/customers.py",
                "known.amount is not None or not snapshot.speaks_for(customer.customer_id, known.customer_id)",
                "known.amount is not None",
            ),
        ),
        "tests/domain/test_customers.py::TestPurchase::test_bill_of_another",
        "assert|DID NOT|Accepted",
    ),
    Planted(
        "posting without its counter-posting",
        "A transfer between programs of a group leaves one of them with points from nowhere.",
        (
            Edit(
                "domain/transfer.py",
                "            entry.system(Account.CLEARING, credited.program_id, -one.points)\n",
                "",
            ),
        ),
        "tests/domain/test_transfer.py::TestPooled::test_clearing",
        "postings must sum to zero",
        quick=True,
    ),
    Planted(
        "watch that forgets its bookmark",
        "A watch from now on that is cut before its first change asks for now again, and misses what came between.",
        (
            Edit(
                "client/following.py",
                "        asked.after_version = message.wallet_version\n",
                '        if message.HasField("transaction"):\n'
                "            asked.after_version = message.wallet_version\n",
            ),
        ),
        "tests/client/test_client_watches.py::test_a_wallet_cut_in_any_way",
        "assert",
    ),
    Planted(
        "deferred command overtaken",
        "A command that was set aside goes to the end of its queue, behind what came after it.",
        (
            Edit(
                "service/queue.py",
                "            self._queue(one.submission.org_id).appendleft(one)",
                "            self._queue(one.submission.org_id).append(one)",
            ),
        ),
        "tests/service/test_queue.py::test_what_is_put_back_comes_first_and_in_order",
        "assert",
    ),
    Planted(
        "erasure that goes by postings",
        "Reversals whose points had all expired name their customer in no posting, and keep their notes.",
        (
            Edit(
                "storage/erasing.py",
                "    noted |= dict(driver.query(_NOTED_REVERSALS, (org_id, ids)))\n",
                "",
            ),
        ),
        "tests/service/test_erased_rows.py::test_nothing_marked_is_left",
        "'transactions'",
    ),
    Planted(
        "erasure that stops at the customer",
        "What a return says is erased with it, and stays in the reversals of others who had redeemed on the bill.",
        (Edit("storage/erasing.py", "sorted({*noted, *with_returns})", "sorted(noted)"),),
        "tests/service/test_erased_rows.py::test_nothing_marked_is_left",
        "'transactions'",
    ),
    Planted(
        "request ids of a batch forgotten",
        "The ids that the client gave the items of a batch are lost with an answer, and a repetition does all twice.",
        (
            Edit(
                "client/calls.py",
                '        return named, "", tuple(map(_name, items))\n',
                '        for item in items:\n            _name(item)\n        return named, "", ()\n',
            ),
        ),
        "tests/client/test_lost_answers.py::test_a_batch_may_be_settled_later",
        "shorter",
    ),
)
"""In the order of docs/proof.md."""
