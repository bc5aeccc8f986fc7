"""The settings of a server process. Every limit has its unit in its name and a reason here.

Flags of the command line win over the environment (prefix POINTS_GRPC_), and that over a file: `cli/configuring.py`.
An empty variable sets nothing: compose writes one where `${X:-}` has no value.
The table in docs/operations.md is generated from here: defaults and bounds are literals.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from points_grpc.service.ports import SettingWrong


class Settings(BaseSettings):
    """What a server process can be told."""

    model_config = SettingsConfigDict(env_prefix="POINTS_GRPC_", env_ignore_empty=True, frozen=True, extra="forbid")

    database: str = Field("sqlite:///points.db", description="Database URL.")
    host: str = Field("127.0.0.1", description="Address to bind. Loopback unless told otherwise.")
    port: int = Field(50051, ge=0, le=65535, description="Port to bind; 0 lets the system choose.")
    tls_certificate: Path | None = Field(
        None, description="PEM file with the certificate of the server and those that chain it to its CA; see tls_key."
    )
    tls_key: Path | None = Field(None, description="PEM file with its key. Both are read anew when they change.")
    tls_client_ca: Path | None = Field(
        None, description="PEM file with the CA of clients: then every connection must show a certificate of it."
    )
    plaintext: bool = Field(
        False, description="Serves without TLS also on an address that is not loopback, where the network encrypts."
    )
    jwt_keys: str = Field(
        "", description="Where the public keys of an issuer of tokens are, as a JWK set: a file or an https URL."
    )
    jwt_issuer: str = Field(
        "", description="The `iss` of its tokens. jwt_keys, jwt_issuer and jwt_audience go together."
    )
    jwt_audience: str = Field("", description="The `aud` that names this service.")
    jwt_leeway_s: int = Field(30, ge=0, le=300, description="How far the issuer's clock may be off.")
    jwt_lifetime_max_s: int = Field(
        3_600, ge=1, le=604_800, description="Tokens that live longer are refused: a stolen one is worth as much."
    )
    jwt_keys_refresh_s: int = Field(300, ge=1, le=86_400, description="How often the keys are read anew.")
    jwt_client_claim: str = Field("sub", min_length=1, description="The claim that names the client.")
    jwt_org_claim: str = Field("org_id", min_length=1, description="The claim with the organisation's id.")
    jwt_role_claim: str = Field("role", min_length=1, description="The claim with the role, or a list of roles.")
    jwt_store_claim: str = Field("store", min_length=1, description="The claim that names the store, if there is one.")
    jwt_till_claim: str = Field("till", min_length=1, description="The claim that names the till, if there is one.")
    health_is_open: bool = Field(True, description="Health is told without a credential.")
    reflection_is_open: bool = Field(True, description="Reflection answers without a credential.")
    keys_file: Path | None = Field(
        None, description="File with the secret keys; beside a SQLite database if unset. Made with mode 0600 if absent."
    )
    checkpoint_folder: Path | None = Field(
        None,
        description="Folder for signed checkpoints of the journal, which is made if absent; none are made if unset.",
    )
    checkpoint_interval_s: float = Field(
        3_600.0, ge=1, le=604_800, description="How often; what is rewritten before the next one leaves no trace."
    )
    ready_file: Path | None = Field(None, description="File that is written when the server serves.")
    otp_sender: str = Field(
        "none", pattern="^(none|console)$", description="How one-time codes leave where nothing below is set."
    )
    otp_parallel: int = Field(8, ge=1, le=64, description="One-time codes that are sent at once.")
    otp_timeout_s: float = Field(10.0, gt=0, le=60, description="How long a relay or gateway may take for a message.")
    smtp_host: str = Field("", description="Relay that e-mails are handed to; none if empty.")
    smtp_port: int = Field(587, ge=1, le=65535, description="Its port.")
    smtp_security: str = Field(
        "starttls",
        pattern="^(starttls|tls|none)$",
        description="How the way there is protected; none on this host only.",
    )
    smtp_from: str = Field("", description="Sender of the e-mails, as in Points <no-reply@example.com>.")
    smtp_user: str = Field("", description="Whom to log in as; nobody logs in if empty.")
    smtp_password_file: Path | None = Field(None, description="File with the password, mode 0600.")
    smtp_ca_file: Path | None = Field(
        None, description="Authorities that the relay is believed by; this host's if unset."
    )
    otp_webhook_url: str = Field("", description="Gateway that codes for mobile numbers are posted to; none if empty.")
    otp_webhook_secret_file: Path | None = Field(
        None,
        description="File with the secret that posts are signed with, mode 0600; with a second one while it changes.",
    )
    otp_webhook_ca_file: Path | None = Field(
        None, description="Authorities that the gateway is believed by; this host's if unset."
    )
    events_webhook_url: str = Field(
        "", description="Where business events of organisations that want them are posted; nowhere if empty."
    )
    events_webhook_secret_file: Path | None = Field(
        None,
        description="File with the secret that these posts are signed with, mode 0600; with a second while it changes.",
    )
    events_webhook_ca_file: Path | None = Field(
        None, description="Authorities that this webhook is believed by; this host's if unset."
    )
    events_parallel: int = Field(8, ge=1, le=64, description="Business events that are posted at once.")
    deadline_default_s: float = Field(10.0, gt=0, le=300, description="Deadline of calls that come without one.")
    drain_s: float = Field(
        10.0, ge=0, le=300, description="How long calls in flight may go on after SIGTERM; then they are told."
    )
    batch_max: int = Field(512, ge=1, le=1000, description="Commands that share a commit.")
    waiting_max: int = Field(8192, ge=1, description="Commands that may wait; more are shed with RetryInfo.")
    queue_age_max_s: float = Field(
        5.0, gt=0, description="Age of the queue from which on organisations with a share are shed."
    )
    readers: int = Field(
        4, ge=1, le=64, description="Reads that run at once, of one organisation all but one; its checks are one read."
    )
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
    org_exports_max: int = Field(2, ge=1, description="Exports of one organisation's journal at once.")
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
        0, ge=0, le=65535, description="Port of the Prometheus endpoint, of worker 1; 0 for none."
    )
    metrics_host: str = Field(
        "127.0.0.1",
        description="Address of the Prometheus endpoint, which asks for no credential. Loopback unless told.",
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
        raise SettingWrong("name the file with the secret keys (--keys-file): all servers of a database share it")
    return database.with_name(f"{database.name}.keys.json")
