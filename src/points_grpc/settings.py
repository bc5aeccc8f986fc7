"""The settings of a server process: environment, then flags. Every limit has its unit in its name and a reason here.

Flags of the command line win over the environment (prefix POINTS_GRPC_).
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """What a server process can be told."""

    model_config = SettingsConfigDict(env_prefix="POINTS_GRPC_", frozen=True, extra="forbid")

    database: str = Field("sqlite:///points.db", description="Database URL.")
    host: str = Field("127.0.0.1", description="Address to bind. Loopback unless told otherwise.")
    port: int = Field(50051, ge=0, le=65535, description="Port to bind; 0 lets the system choose.")
    keys_file: Path | None = Field(
        None, description="File with the secret keys; beside a SQLite database if unset. Made with mode 0600 if absent."
    )
    ready_file: Path | None = Field(None, description="File that is written when the server serves.")
    otp_sender: str = Field("none", pattern="^(none|console)$", description="How one-time codes leave the server.")
    deadline_default_s: float = Field(10.0, gt=0, le=300, description="Deadline of calls that come without one.")
    drain_s: float = Field(10.0, ge=0, le=300, description="How long calls in flight may go on after SIGTERM.")
    batch_max: int = Field(256, ge=1, le=1000, description="Commands that share a commit.")
    waiting_max: int = Field(8192, ge=1, description="Commands that may wait; more are shed with RetryInfo.")
    queue_age_max_s: float = Field(5.0, gt=0, description="Age of the queue from which on callers are shed.")
    readers: int = Field(4, ge=1, le=64, description="Reads and checks that run at once.")
    client_reads_per_s: int = Field(20_000, ge=1, description="Reads a second of one client.")
    client_writes_per_s: int = Field(
        20_000, ge=1, description="Other calls a second of one client; items of a batch count each."
    )
    org_calls_per_s: int = Field(
        40_000, ge=1, description="Calls a second of one organisation; items of a batch count each."
    )
    quota_burst_ms: int = Field(1_000, ge=1, le=60_000, description="How much of a rate may come at once.")
    org_calls_in_flight_max: int = Field(2_048, ge=1, description="Calls of one organisation at once.")
    org_items_in_flight_max: int = Field(
        4_096, ge=1, description="The same with the items of batches; at most half of waiting_max."
    )
    org_watches_max: int = Field(64, ge=1, description="Watches of one organisation at once.")
    watches_max: int = Field(1_024, ge=1, description="Watches of all organisations at once.")
    watch_poll_ms: int = Field(100, ge=5, le=10_000, description="How often the journal is looked at for all watches.")
    watch_bookmark_ms: int = Field(10_000, ge=100, le=600_000, description="How long a watch is silent at most.")
    sweep_interval_s: float = Field(
        60.0, ge=0, description="Pause between the runs that book what is due on untouched wallets; 0 for none."
    )
    sweep_wallets_max: int = Field(20_000, ge=1, description="Wallets that one such run looks at.")
    workers: int = Field(
        1, ge=1, le=64, description="Processes that serve the port, each with a writer; PostgreSQL only."
    )
    metrics_port: int = Field(
        0, ge=0, le=65535, description="Port of the Prometheus endpoint on loopback, of worker 1; 0 for none."
    )
    log_calls: bool = Field(True, description="One structured line per call on standard error.")

    def keys_path(self, database: Path | None) -> Path:
        """Where the secret keys are."""
        return keys_path(self.keys_file, database)


def keys_path(keys_file: Path | None, database: Path | None) -> Path:
    """Where the secret keys are: the file named, or one beside the database file.

    Where the database is no file, several servers may share it, and each needs the same keys: they have to be named.
    """
    if keys_file is not None:
        return keys_file
    if database is None:
        raise ValueError("name the file with the secret keys (--keys-file): all servers of a database share it")
    return database.with_name(f"{database.name}.keys.json")
