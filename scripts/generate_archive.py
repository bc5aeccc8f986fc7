"""The archive of a release for clients in any language: the protos, what they are compiled to, and how to use both.

Runs in the environment of scripts/generate, whose compiler is pinned: what it writes depends on nothing but the
repository. Nothing but sources of the protos, the licence and the text below goes in.
"""

from __future__ import annotations

import gzip
import io
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

WRITTEN_AT_S = 315_532_800
"""The time of every file, 1 January 1980: when an archive is made must not change its bytes."""

# What the services are made of, and what only their refusals carry, so that no proto of ours imports it.
COMPILED = ("points/v1/*.proto", "google/rpc/error_details.proto")

DESCRIPTORS = "points.binpb"

README = """# points-grpc {version} for clients

- `protos/`: the sources of `points.v1`, of what they import, and of the details that refusals carry
  (`google/rpc/error_details.proto`). It is the one folder that a compiler has to be told: `google/protobuf` comes with
  every compiler. No file says `go_package`; buf's managed mode does, or `protoc-gen-go` with `M` options.
- `points.binpb`: the same, compiled, `google/protobuf` included and comments too; a
  `google.protobuf.FileDescriptorSet`, for tools that take one instead of reflection.

With grpcurl:

```
grpcurl -protoset points.binpb -plaintext -H "authorization: Bearer $TOKEN" \\
  -d '{{"customer_identifier": {{"type": "MOBILE", "value": "9148574269"}}}}' \\
  127.0.0.1:50051 points.v1.WalletService/GetWallet
```

With buf:

```
buf curl --schema points.binpb --protocol grpc --http2-prior-knowledge -H "authorization: Bearer $TOKEN" \\
  -d '{{"customer_identifier": {{"type": "MOBILE", "value": "9148574269"}}}}' \\
  http://127.0.0.1:50051/points.v1.WalletService/GetWallet
```

Points and ids are 64-bit integers, which JSON has as strings. Put a `request_id` (a UUID) into every write, and send
the same request again where an answer got lost. `codes.proto` has every coded outcome, each with its text, its gRPC
code and what a caller may do about it; branch on the reason in `google.rpc.ErrorInfo`.
"""


def write_archive(root: Path, folder: Path) -> Path:
    """Writes the archive of the version that the sources name into a folder; its path."""
    name = f"points-grpc-protos-{version_of(root)}"
    protos = root / "protos"
    files = {
        "LICENSE": (root / "LICENSE").read_bytes(),
        "README.md": README.format(version=version_of(root)).encode(),
        DESCRIPTORS: compiled(protos),
        **{f"protos/{path.relative_to(protos).as_posix()}": path.read_bytes() for path in protos.rglob("*.proto")},
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.tar.gz"
    path.write_bytes(packed({f"{name}/{place}": content for place, content in files.items()}))
    return path


def version_of(root: Path) -> str:
    """The version of the package, read from its source."""
    found = re.search(r'^__version__ = "(.+)"$', (root / "src/points_grpc/__init__.py").read_text(), re.MULTILINE)
    if found is None:
        raise SystemExit("generate: src/points_grpc/__init__.py names no version")
    return found[1]


def compiled(protos: Path) -> bytes:
    """The descriptors of the protos and of all that they import, with comments."""
    names = sorted(path.relative_to(protos).as_posix() for pattern in COMPILED for path in protos.glob(pattern))
    with tempfile.TemporaryDirectory(prefix="points-archive-") as work:
        output = Path(work) / DESCRIPTORS
        command = [
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            f"--proto_path={protos}",
            f"--descriptor_set_out={output}",
        ]
        done = subprocess.run([*command, "--include_imports", "--include_source_info", *names], check=False)
        if done.returncode != 0:
            raise SystemExit("generate: protoc failed, see above")
        return output.read_bytes()


def packed(files: dict[str, bytes]) -> bytes:
    """A compressed archive of files by name: sorted, of nobody, of no time."""
    packed_files = io.BytesIO()
    with (
        gzip.GzipFile(filename="", mode="wb", fileobj=packed_files, mtime=WRITTEN_AT_S) as stream,
        tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for name, content in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime, entry.mode = len(content), WRITTEN_AT_S, 0o644
            archive.addfile(entry, io.BytesIO(content))
    return packed_files.getvalue()
