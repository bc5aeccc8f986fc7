"""Resume tokens hold for one organisation, and cannot be made up."""

from __future__ import annotations

import pytest

from points_grpc.rpc.positions import TOKEN_LENGTH_MAX, Positions

POSITIONS = Positions(lambda: (b"k" * 32,))
PLACES = {0: 127, 3: 128, 1023: 2**63 - 1}
TOKEN = POSITIONS.token(1, PLACES)


@pytest.mark.parametrize("places", [{}, {0: 1}, PLACES, dict.fromkeys(range(1024), 2**63 - 1)])
def test_token(places: dict[int, int]) -> None:
    """A token holds its places, on every process with the key, however many streams there are."""
    token = POSITIONS.token(1, places)

    assert places == Positions(lambda: (b"k" * 32,)).places(1, token)
    assert len(token) <= TOKEN_LENGTH_MAX


@pytest.mark.parametrize(
    ("positions", "org_id", "token"),
    [
        (Positions(lambda: (b"l" * 32,)), 1, TOKEN),
        (POSITIONS, 2, TOKEN),
        (POSITIONS, 1, ""),
        (POSITIONS, 1, "x"),
        (POSITIONS, 1, "not base64!"),
        (POSITIONS, 1, "ü"),
        (POSITIONS, 1, TOKEN[:-4]),
        (POSITIONS, 1, "A" + TOKEN[1:] if TOKEN[0] != "A" else "B" + TOKEN[1:]),
        (POSITIONS, 1, "A" * 100_000),
    ],
)
def test_token_of_another(positions: Positions, org_id: int, token: str) -> None:
    """A token of another key or organisation is none, nor is anything made up."""
    assert positions.places(org_id, token) is None


def test_short_keys() -> None:
    """A key that is too short to be a secret is refused."""
    with pytest.raises(ValueError, match="16 bytes"):
        Positions(lambda: (b"short",))
