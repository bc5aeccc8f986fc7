"""What a decision gets besides the snapshot: who asked, fresh ids, and the keyed hash of one-time codes.

Everything that is not pure was made before (ids, random bytes, keys) and arrives here as plain values and functions.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from points_grpc.domain.commands import Submission
from points_grpc.domain.model import Channel

CodeHash = Callable[[str, bytes], str | None]
"""(key id, content) -> hex of the keyed hash; None if the key is not at hand any more."""


class Context(Struct, frozen=True):
    """The surroundings of one command's decision.

    `next_id` gives ids that rise; `channels` are those for which a sender is configured.
    """

    submission: Submission
    next_id: Callable[[], int]
    code_hash: CodeHash
    code_key_id: str
    channels: frozenset[Channel]

    @property
    def request_id(self) -> str:
        """The request id of the command."""
        return self.submission.request_id

    @property
    def actor(self) -> str:
        """The API client that asked."""
        return self.submission.actor
