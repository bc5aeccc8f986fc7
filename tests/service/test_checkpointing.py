"""When the server makes checkpoints: by age, on duty, and never of a journal that contradicts the last one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from points_grpc.cli.checkpoint_folder import CheckpointFolder
from points_grpc.domain.checkpoint import CheckpointHead, from_text
from points_grpc.service.checkpointing import Checkpointing
from points_grpc.service.keyring import KEY_BYTES, Keyring, is_signed
from points_grpc.service.ports import StorageUnavailable

SECOND = 1_000_000
HOUR = 3_600
START = 1_800_000_000 * SECOND
HEADS = (CheckpointHead(1, 0, 7, b"h" * 32), CheckpointHead(1, 3, 2, b"i" * 32))
ONE, OTHER = (name.encode().ljust(KEY_BYTES, b".") for name in ("one", "other"))


class World:
    """A folder, a journal of which is said what it lacks, and a clock that is set by hand."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = START
        self.on_duty = True
        self.heads_now: Sequence[CheckpointHead] = HEADS
        self.gone: Sequence[CheckpointHead] = ()
        self.error: Exception | None = None
        self.told: list[str] = []
        self.compared: list[Sequence[CheckpointHead]] = []
        self.keyring = Keyring({"k1": ONE}, "k1")
        self.checkpoints = self.started()

    def started(self) -> Checkpointing:
        """As after a start of the server; its thread is left out."""
        return Checkpointing(
            self,
            CheckpointFolder(self.folder, lambda name: self.told.append(f"unreadable {name}")),
            sign=self.keyring.checkpoint,
            now_us=lambda: self.now,
            observer=self,
            interval_s=HOUR,
            on_duty=lambda: self.on_duty,
        )

    def heads(self) -> Sequence[CheckpointHead]:
        if self.error:
            raise self.error
        return self.heads_now

    def lacking(self, heads: Sequence[CheckpointHead]) -> Sequence[CheckpointHead]:
        self.compared.append(heads)
        return self.gone

    def made(self, name: str, streams: int, key_id: str) -> None:
        self.told.append(f"made {streams} {key_id}")

    def failed(self, error: str) -> None:
        self.told.append(f"failed {error}")

    def contradicted(self, head: CheckpointHead) -> None:
        self.told.append(f"contradicted {head.org_id} {head.stream} {head.position}")

    @property
    def files(self) -> list[Path]:
        """What is in the folder, oldest first."""
        return sorted(self.folder.iterdir())

    def after(self, seconds: float) -> None:
        """Looks some time later."""
        self.now += int(seconds * SECOND)
        self.checkpoints.look()


def test_one_in_each_interval(tmp_path: Path) -> None:
    """The first at once, the next when that is an interval old; the files are never touched again."""
    world = World(tmp_path)
    world.after(0)
    first = world.files[0].read_bytes()
    counts = []
    for seconds in (1, HOUR - 2, 1, 1, HOUR):
        world.after(seconds)
        counts.append(len(world.files))

    assert [1, 1, 2, 2, 3] == counts
    assert first == world.files[0].read_bytes()
    assert ["journal-20270115T080000.000000Z.json"] == [one.name for one in world.files][:1]
    assert ["made 2 k1"] * 3 == world.told
    assert {"made": 3, "failed": 0, "contradicted": 0} == world.checkpoints.outcomes


def test_what_is_signed(tmp_path: Path) -> None:
    """Where all streams stand, and when."""
    World(tmp_path).after(0)
    made, signature = from_text(next(tmp_path.iterdir()).read_text())

    assert (START, "k1", HEADS, True) == (made.made_at, made.key_id, made.heads, is_signed(made, signature))


def test_a_restart_does_not_hurry(tmp_path: Path) -> None:
    """The folder says when the last one was made, whoever made it."""
    world = World(tmp_path)
    world.after(0)
    world.checkpoints = world.started()
    world.after(HOUR - 1)
    before = len(world.files)
    world.after(1)

    assert (1, 2) == (before, len(world.files))
    assert [HEADS] == world.compared


def test_off_duty(tmp_path: Path) -> None:
    """Another server makes them: here none is made and none is overdue, and what that one made is known."""
    world = World(tmp_path)
    world.on_duty = False
    world.after(2 * HOUR)
    off = (world.files, world.checkpoints.standing().overdue_us)
    world.on_duty = True
    world.checkpoints = world.started()
    world.after(0)
    world.on_duty = False
    other = world.started()
    other.look()

    assert ([], 0) == off
    last = other.standing().last
    assert last is not None
    assert world.now == last.made_at


def test_a_journal_that_contradicts_the_last_one(tmp_path: Path) -> None:
    """It is told and not vouched for, each time that it is looked at."""
    world = World(tmp_path)
    world.after(0)
    world.gone = HEADS[1:]
    world.after(HOUR)
    world.after(60)

    assert ["made 2 k1", *["contradicted 1 3 2"] * 2] == world.told
    assert (1, 2) == (len(world.files), world.checkpoints.outcomes["contradicted"])
    assert 60 * SECOND == world.checkpoints.standing().overdue_us


def test_a_disk_that_fails(tmp_path: Path) -> None:
    """It is told and counted, and tried again; so is a database that cannot be reached."""
    folder = tmp_path / "checkpoints"
    world = World(folder)
    world.after(HOUR + 5)
    overdue = world.checkpoints.standing().overdue_us
    folder.write_text("no folder")
    world.after(1)
    folder.unlink()
    folder.mkdir()
    world.error = StorageUnavailable()
    world.after(1)
    world.error = None
    world.after(1)

    assert ["failed FileNotFoundError", "failed NotADirectoryError", "failed StorageUnavailable"] == world.told[:3]
    assert "made 2 k1" == world.told[3]
    assert (5 * SECOND, 0) == (overdue, world.checkpoints.standing().overdue_us)


def test_a_clock_that_was_put_back(tmp_path: Path) -> None:
    """A checkpoint of the future does not stop those of the present."""
    world = World(tmp_path)
    world.after(0)
    world.after(-5 * HOUR)

    assert 2 == len(world.files)


def test_a_clock_that_was_ahead_for_a_moment(tmp_path: Path) -> None:
    """What it made does not count as made, for as long as its time has not come: one in each interval, and overdue."""
    world = World(tmp_path)
    world.after(0)
    world.after(9 * HOUR)
    world.after(-9 * HOUR + 60)
    for _ in range(2 * 60):
        world.after(60)
    made = len(world.files)
    world.error = StorageUnavailable()
    world.after(HOUR + 5)

    assert 2 + 2 == made
    assert (60 * 61 + 5 - HOUR) * SECOND == world.checkpoints.standing().overdue_us


def test_all_that_may_be_newest_is_compared(tmp_path: Path) -> None:
    """The furthest position of each stream, whether a file with the time of today has it or one of the future."""
    world = World(tmp_path)
    world.after(9 * HOUR)
    world.heads_now = (CheckpointHead(1, 0, 8, b"k" * 32), HEADS[1])
    world.after(-9 * HOUR)
    world.after(HOUR)

    assert [HEADS, (world.heads_now[0], HEADS[1])] == world.compared


def test_what_nobody_foresaw(tmp_path: Path) -> None:
    """It is told and counted like any failure, and tried again."""
    world = World(tmp_path)
    world.error = RuntimeError()
    world.after(0)
    world.error = None
    world.after(60)

    assert ["failed RuntimeError", "made 2 k1"] == world.told


def test_files_that_were_changed(tmp_path: Path) -> None:
    """They are told once; the last that is right is what counts."""
    world = World(tmp_path)
    world.after(0)
    world.after(HOUR)
    newest = world.files[-1]
    newest.write_text(newest.read_text().replace('"position": 7', '"position": 8'))
    (tmp_path / "journal-9.json").write_text("{}")
    (tmp_path / "notes.txt").write_text("not ours")
    world.checkpoints = world.started()
    world.after(1)
    world.after(1)

    assert ["unreadable journal-9.json", f"unreadable {newest.name}", "made 2 k1"] == world.told[2:]


def test_rotated_keys(tmp_path: Path) -> None:
    """The key of the moment signs; what an earlier one signed stays as good, also when that was retired."""
    world = World(tmp_path)
    world.after(0)
    public = world.keyring.checkpoint_keys()["k1"]
    world.keyring.take(Keyring({"k1": ONE, "k2": OTHER}, "k2"))
    world.after(HOUR)
    both = world.keyring.checkpoint_keys()
    world.keyring.take(Keyring({"k2": OTHER}, "k2"))
    world.checkpoints = world.started()
    world.after(HOUR)
    found = [from_text(one.read_text()) for one in world.files]

    assert ["k1", "k2", "k2"] == [made.key_id for made, _ in found]
    assert [public, both["k2"], both["k2"]] == [made.public_key for made, _ in found]
    assert all(is_signed(*one) for one in found)
    assert public == both["k1"]
    assert ("k2", both["k2"]) == world.keyring.checkpoint_key()
