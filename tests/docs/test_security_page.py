"""docs/security.md names tests that are there, and commands and settings that are there."""

from __future__ import annotations

import re
from pathlib import Path

from click.testing import CliRunner

from points_grpc.cli.main import main
from points_grpc.settings import Settings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text()


def test_the_tests_that_are_named() -> None:
    """Each line of the threat model names a test that exists; `::name` alone is in the file named before it."""
    named, file = [], ""
    for found_file, name in re.findall(r"`(tests/[\w/]+\.py)?::(\w+)`", PAGE):
        file = found_file or file
        named.append((file, name))

    assert len(named) > 20
    assert [] == [one for one in named if f"def {one[1]}(" not in (ROOT / one[0]).read_text()]


def test_the_settings_that_are_named() -> None:
    """Each setting is one of the server's; `…_NAME` stands for those of tokens."""
    named = re.findall(r"POINTS_GRPC_([A-Z_]+)", PAGE) + [f"JWT_{one}" for one in re.findall(r"`…_([A-Z_]+)`", PAGE)]

    assert len(named) > 12
    assert [] == [one for one in named if one.lower() not in Settings.model_fields]


def test_the_flags_that_are_named() -> None:
    """Each flag of `serve` is one of its flags."""
    helped = CliRunner().invoke(main, ["serve", "--help"]).output
    named = re.findall(r"--(?:tls|jwt|plaintext|host)[\w-]*", PAGE)

    assert len(named) >= 8
    assert [] == [one for one in named if one not in helped]
