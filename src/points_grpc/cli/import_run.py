"""One run of an import: rows go out in chunks, several at once, and come back in the order of the file.

Memory is flat: at most `window` chunks are known at a time. What a run leaves behind when it is killed is a report and
a progress that lag behind the server, never ahead of it; see `import_progress` for what they are worth.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from points_grpc.cli.import_checking import Checks
from points_grpc.cli.import_file import CsvFile, FileWrong, Place, Survey
from points_grpc.cli.import_progress import Counts, Progress, Report, after, load, save
from points_grpc.cli.import_rows import REPORT_COLUMNS, Defaults, Kind, RowWrong, request_of
from points_grpc.cli.import_sending import Customers, Issues, Outcome, Patience, Row, Sender, Stopped, settled
from points_grpc.client import AsyncPointsClient, Refused
from points_grpc.v1 import wallet_service_pb2

SAVE_EVERY_S = 1.0
"""How much work a kill can make to be done again, as replays."""

CHUNKS: Mapping[Kind, int] = {Kind.CUSTOMERS: 50, Kind.POINTS: 250, Kind.BALANCES: 250}
"""Rows of a chunk: calls at once for customers, the items of a batch for points."""

WINDOW = 4
"""Chunks on their way at once. All rows on their way stay below the quotas of an organisation."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be imported, and where notes are kept. An import is its id: the rows' request ids derive from it."""

    kind: Kind
    name: str
    defaults: Defaults
    progress_path: Path
    refused_max: int
    patience_s: float
    dry_run: bool


@dataclass(frozen=True, slots=True)
class Done:
    """How a run ended; `skipped` rows had their outcome before it."""

    counts: Counts
    skipped: int
    seconds: float


Tell = Callable[[Counts, int], None]
"""Is told what became of all rows so far, and how many had their outcome before this run."""


def import_id(kind: Kind, name: str) -> str:
    """What the request ids of an import begin with: derived from its name, which is the file's digest unless given."""
    return f"import:{hashlib.sha256(f'{kind}:{name}'.encode()).hexdigest()[:32]}"


def request_id(import_id: str, row: int) -> str:
    """The request id of a row: the same in every run."""
    return f"{import_id}:{row}"


class Run:
    """Imports one file. Mutable: it is where the progress is kept."""

    def __init__(
        self,
        plan: Plan,
        file: CsvFile,
        survey: Survey,
        report: Report,
        client: AsyncPointsClient,
        warn: Callable[[str], None],
    ) -> None:
        """Nothing is sent yet. `warn` is told when the server does not answer."""
        self._plan = plan
        self._file = file
        self._survey = survey
        self._report = report
        self._client = client
        self._patience = Patience(plan.patience_s, warn)
        self._columns = tuple(name for name in survey.columns if name not in REPORT_COLUMNS)
        self._kept = [name not in REPORT_COLUMNS for name in survey.columns]
        self._id = import_id(plan.kind, plan.name)
        self._progress = Progress(self._id, survey.digest, survey.first, name=plan.name, defaults=plan.defaults)
        self._saved_at = time.monotonic()

    async def __call__(self, tell: Tell) -> Done:
        """Runs to the end, or raises `Stopped`; what was reached is saved either way."""
        started = time.monotonic()
        earlier = None if self._plan.dry_run else await self._earlier()
        if earlier is None:
            self._report.start()
            self._save()  # before anything is sent: from now on a file that changes is noticed
        else:
            self._progress = replace(earlier, counts=earlier.counts.of_an_earlier_run())
            self._report.go_on(earlier.report_bytes)
        skipped = self._progress.counts.rows
        refused_before = self._progress.counts.refused
        try:
            async for counts in self._settle(self._sender()):
                tell(counts, skipped)
                if counts.refused - refused_before > self._plan.refused_max:
                    raise Stopped(f"more than {self._plan.refused_max} rows were refused (--refused-max)")
            if self._file.stamp() != self._survey.stamp:
                raise Stopped(f"{self._file.path} was changed meanwhile", again=False)
            self._progress = replace(self._progress, finished=True)
        finally:
            self._save()
        return Done(self._progress.counts, skipped, time.monotonic() - started)

    async def _earlier(self) -> Progress | None:
        """What an earlier run reached, if it can be believed."""
        found = load(self._plan.progress_path)
        ours = (self._id, self._survey.digest, self._plan.defaults)
        if found is None or (found.import_id, found.digest, found.defaults) != ours:
            return None
        if found.report_bytes > self._report.bytes or not found.witnesses:
            return None
        for row in found.witnesses:
            asked = wallet_service_pb2.GetTransactionRequest(request_id=request_id(self._id, row))
            answer = await settled(partial(self._client.get_transaction, asked), self._patience)
            if isinstance(answer, Refused) or answer.state != wallet_service_pb2.GetTransactionResponse.ACCEPTED:
                return None
        return found

    def _sender(self) -> Sender:
        if self._plan.dry_run:
            return Checks(self._client, self._patience)
        if self._plan.kind is Kind.CUSTOMERS:
            return Customers(self._client, self._patience)
        return Issues(self._client, self._patience)

    async def _settle(self, sender: Sender) -> AsyncGenerator[Counts]:
        """Sends all rows from the progress on; the counts after each chunk."""
        rows = self._rows()
        window: deque[tuple[list[tuple[Row, Place]], asyncio.Task[list[Outcome]]]] = deque()
        try:
            while True:
                while len(window) < WINDOW and (chunk := list(itertools.islice(rows, CHUNKS[self._plan.kind]))):
                    window.append((chunk, asyncio.create_task(sender([row for row, _ in chunk]))))
                if not window:
                    return
                chunk, task = window[0]
                outcomes = await task
                window.popleft()
                self._note(chunk, outcomes)
                yield self._progress.counts
        except FileWrong as error:
            raise Stopped(str(error), again=False) from None
        finally:
            for _, task in window:
                task.cancel()
            await asyncio.gather(*(task for _, task in window), return_exceptions=True)

    def _rows(self) -> Iterator[tuple[Row, Place]]:
        for record in self._file.records(self._progress.place, self._survey.columns):
            number = record.end.row
            fields = record.fields
            if len(fields) == len(self._kept):
                fields = tuple(itertools.compress(fields, self._kept))
            try:
                request = request_of(self._plan.kind, self._columns, fields, self._plan.defaults)
            except RowWrong as wrong:
                yield Row(number, record.fields, None, wrong), record.end
                continue
            if request is not None:
                request.request_id = request_id(self._id, number)
            yield Row(number, record.fields, request), record.end

    def _note(self, chunk: list[tuple[Row, Place]], outcomes: list[Outcome]) -> None:
        """Takes down what became of the next rows of the file."""
        before = self._progress.counts
        witness = 0
        for (row, _), one in zip(chunk, outcomes, strict=True):
            if one.refused is not None:
                self._report.add(row.number, one.refused, row.fields)
            if one.accepted:
                witness = row.number
        accepted = sum(one.accepted for one in outcomes)
        refused = sum(one.refused is not None for one in outcomes)
        counts = Counts(
            accepted=before.accepted + accepted,
            replayed=before.replayed + sum(one.accepted and one.replayed for one in outcomes),
            expired=before.expired + sum(one.expired for one in outcomes),
            refused=before.refused + refused,
            repeated=before.repeated + sum(one.refused is not None and one.replayed for one in outcomes),
            empty=before.empty + len(outcomes) - accepted - refused,
        )
        self._progress = after(
            self._progress,
            chunk[-1][1],
            counts,
            report=self._report,
            witness=witness,
            kept=2 * WINDOW,
        )
        if time.monotonic() - self._saved_at >= SAVE_EVERY_S:
            self._save()

    def _save(self) -> None:
        """Report first: the progress never speaks of what the report does not have."""
        self._report.flush()
        if not self._plan.dry_run:
            save(self._plan.progress_path, self._progress)
        self._saved_at = time.monotonic()
