"""The servicer of WalletService: for each RPC who answers it, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from points_grpc.rpc.answers import Answers
from points_grpc.rpc.exports import Exports
from points_grpc.rpc.listings import Listings
from points_grpc.rpc.refusal import Context
from points_grpc.rpc.serve import Desk
from points_grpc.rpc.watches import Watches
from points_grpc.v1 import wallet_service_pb2 as pb
from points_grpc.v1 import wallet_service_pb2_grpc


class WalletServicer(wallet_service_pb2_grpc.WalletServiceServicer):
    """Reads wallets, lots and the journal."""

    def __init__(self, desk: Desk, answers: Answers, listings: Listings, watches: Watches, exports: Exports) -> None:
        """Takes who passes questions on, and who answers them."""
        self._desk = desk
        self._answers = answers
        self._listings = listings
        self._watches = watches
        self._exports = exports

    async def GetWallet(self, request: pb.GetWalletRequest, context: Context) -> pb.GetWalletResponse:
        """Reads balances."""
        return await self._desk.question(request, context, self._answers.get_wallet, pb.GetWalletResponse)

    async def ListLots(self, request: pb.ListLotsRequest, context: Context) -> pb.ListLotsResponse:
        """Lists lots."""
        return await self._desk.question(request, context, self._answers.list_lots, pb.ListLotsResponse)

    async def ListTransactions(
        self, request: pb.ListTransactionsRequest, context: Context
    ) -> pb.ListTransactionsResponse:
        """Lists journal transactions."""
        return await self._desk.question(request, context, self._answers.list_transactions, pb.ListTransactionsResponse)

    async def GetTransaction(self, request: pb.GetTransactionRequest, context: Context) -> pb.GetTransactionResponse:
        """Reads a journal transaction, or what became of a command."""
        return await self._desk.question(request, context, self._answers.get_transaction, pb.GetTransactionResponse)

    async def ListTransfers(self, request: pb.ListTransfersRequest, context: Context) -> pb.ListTransfersResponse:
        """Lists transfers."""
        return await self._desk.question(request, context, self._answers.list_transfers, pb.ListTransfersResponse)

    async def TraceLot(self, request: pb.TraceLotRequest, context: Context) -> pb.TraceLotResponse:
        """Follows the points of a lot both ways."""
        return await self._desk.question(request, context, self._answers.trace_lot, pb.TraceLotResponse)

    async def ListWallets(self, request: pb.ListWalletsRequest, context: Context) -> pb.ListWalletsResponse:
        """Lists all wallets."""
        return await self._desk.question(request, context, self._listings.list_wallets, pb.ListWalletsResponse)

    async def ListLiveLots(self, request: pb.ListLiveLotsRequest, context: Context) -> pb.ListLiveLotsResponse:
        """Lists all lots with points left."""
        return await self._desk.question(request, context, self._listings.list_live_lots, pb.ListLiveLotsResponse)

    async def ListJournalTransactions(
        self, request: pb.ListJournalTransactionsRequest, context: Context
    ) -> pb.ListJournalTransactionsResponse:
        """Lists the journal."""
        return await self._desk.question(
            request, context, self._listings.list_journal_transactions, pb.ListJournalTransactionsResponse
        )

    def WatchWallet(self, request: pb.WatchWalletRequest, context: Context) -> AsyncGenerator[pb.WatchWalletResponse]:
        """Sends every change of a wallet."""
        return self._desk.watch(request, context, self._watches.wallet)

    def WatchTransactions(
        self, request: pb.WatchTransactionsRequest, context: Context
    ) -> AsyncGenerator[pb.WatchTransactionsResponse]:
        """Sends every journal transaction of the organisation."""
        return self._desk.watch(request, context, self._watches.transactions)

    def ExportJournal(
        self, request: pb.ExportJournalRequest, context: Context
    ) -> AsyncGenerator[pb.ExportJournalResponse]:
        """Sends the journal as a file that can be proved."""
        return self._desk.watch(request, context, self._exports.journal)
