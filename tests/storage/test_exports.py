"""What the commands export of a real journal is proved with a checkpoint, and not with what somebody changed.

The database is that of test_verify.py: every kind of movement is in it. The commands run as an operator runs them.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from test_verify import ORG, QUIET_ORG, World, live

from databases import ATestsDatabase, named
from points_grpc.cli.main import main
from points_grpc.storage.engine import Database
from points_grpc.storage.exports import SqlExports


@pytest.fixture(scope="module")
def lived(empty: ATestsDatabase) -> ATestsDatabase:
    """A database with some days of life in it."""
    found = empty.copy()
    world = World(found.url)
    live(world)
    world.close()
    return found


def run(*arguments: str | Path) -> Result:
    """Runs a command."""
    return CliRunner().invoke(main, [str(one) for one in arguments])


@pytest.fixture
def files(lived: ATestsDatabase, tmp_path: Path) -> tuple[Path, Path]:
    """An export and a checkpoint of it, as the commands write them."""
    exported, checkpoint = tmp_path / "journal.pgx", tmp_path / "checkpoint.json"
    keys = tmp_path / "keys.json"
    for arguments in (
        ("secrets", "create", "--keys-file", keys),
        ("journal", "export", "--database", lived.url, "--org", ORG, exported),
        ("journal", "checkpoint", "--database", lived.url, "--keys-file", keys, checkpoint),
    ):
        done = run(*map(str, arguments))
        assert done.exit_code == 0, done.output
    return exported, checkpoint


def prove(exported: Path, checkpoint: Path, *more: str) -> Result:
    """Proves an export, with no database."""
    return run("verify", "--export", exported, "--checkpoint", checkpoint, *more)


def test_an_export_is_proved(lived: ATestsDatabase, files: tuple[Path, Path]) -> None:
    """All its entries; the points are those of the wallets."""
    done = prove(*files)
    database = Database(lived.url)
    [head] = SqlExports(database).heads(ORG)
    database.close()
    with named(lived.url).connection() as connection:
        [(points,)] = connection.execute("SELECT SUM(current) FROM wallets").fetchall()

    assert done.exit_code == 0, done.output
    assert f"{head.position} entries, of which the checkpoint vouches for {head.position}" in done.output
    assert f"with {points} points" in done.output


def test_an_export_in_small_pages_is_the_same(
    lived: ATestsDatabase, files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages follow each other without a gap."""
    monkeypatch.setattr("points_grpc.storage.exports.PAGE_ENTRIES", 3)
    monkeypatch.setattr("points_grpc.storage.exports.PAGE_POSTINGS", 4)
    again = files[0].with_suffix(".again")

    assert run("journal", "export", "--database", lived.url, "--org", str(ORG), again).exit_code == 0
    assert again.read_bytes() == files[0].read_bytes()


def test_a_changed_export_is_not_proved(files: tuple[Path, Path]) -> None:
    """A byte in the middle; the exit code is 1 and the entry is named."""
    content = bytearray(files[0].read_bytes())
    content[len(content) // 2] ^= 4
    files[0].write_bytes(content)
    done = prove(*files)

    assert done.exit_code == 1
    assert "PROBLEM stream 0, position " in done.output or "PROBLEM after entry " in done.output


def test_a_journal_rewritten_in_the_database_is_not_proved(
    lived: ATestsDatabase, files: tuple[Path, Path], tmp_path: Path
) -> None:
    """The checkpoint was written before; the export says what the database says now."""
    rewritten = lived.copy()
    named(rewritten.url).tamper("UPDATE transactions SET points = points + 1 WHERE position = 7")
    now = tmp_path / "now.pgx"
    done = run("journal", "export", "--database", rewritten.url, "--org", str(ORG), now)
    proved = prove(now, files[1])
    rewritten.drop()

    assert done.exit_code == 0, done.output
    assert "PROBLEM stream 0, position 7, transaction " in proved.output
    assert proved.exit_code == 1


def test_a_checkpoint_is_believed_by_its_signature_and_key(files: tuple[Path, Path]) -> None:
    """A changed one is refused, and one by another key than expected."""
    text = files[1].read_text()
    key = text.partition('"public_key": "')[2].partition('"')[0]
    proved, other = prove(*files, "--public-key", key), prove(*files, "--public-key", "00" * 32)
    files[1].write_text(text.replace('"position": ', '"position": 1'))
    changed = prove(*files)
    files[1].write_text("{}")
    none = prove(*files)

    assert (0, 1, 1, 1) == (proved.exit_code, other.exit_code, changed.exit_code, none.exit_code)
    assert "another key" in other.output
    assert "its signature is not that of its key" in changed.output
    assert "is no checkpoint" in none.output


def test_heads_that_the_journal_does_not_hold(lived: ATestsDatabase) -> None:
    """A head whose hash is another, or behind the end; what was there when the journal was shorter is held."""
    database = Database(lived.url)
    exports = SqlExports(database)
    [head] = exports.heads(ORG)
    [page, *_] = exports.pages(ORG, head.stream, after=0, until=3)
    earlier = head._replace(position=3, hash=page[2].data[-32:])
    wrong = [head._replace(hash=bytes(32)), head._replace(position=head.position + 1), head._replace(stream=9)]
    found = exports.lacking([head, earlier, *wrong, head._replace(position=0)])
    database.close()

    assert wrong == found


def test_one_organisation_has_a_checkpoint_of_its_own(lived: ATestsDatabase, tmp_path: Path) -> None:
    """With its own streams alone; one that has booked nothing has none."""
    keys = ("--keys-file", tmp_path / "keys.json")
    run("secrets", "create", *keys)
    ordered = ("journal", "checkpoint", "--database", lived.url, *keys)
    made = {org_id: tmp_path / f"checkpoint-{org_id}.json" for org_id in (ORG, QUIET_ORG)}
    counts = [run(*ordered, "--org", str(org_id), file).output.split()[1] for org_id, file in made.items()]

    assert counts == ["1", "0"]


def test_export_and_checkpoint_go_together(files: tuple[Path, Path]) -> None:
    """One without the other is misuse."""
    assert run("verify", "--export", files[0]).exit_code == 2
