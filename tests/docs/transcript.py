"""A page of commands with what they answer, and its comparison with another run.

The page is a transcript of one run. Ids, times, tokens and one-time codes of another run differ: they are compared by
kind, and a command that uses an id that an earlier answer told is given the one of this run. A call by grpcurl stands
there for buf as well; both tools print the same answer, in different spellings.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

EXAMPLE = re.compile(
    r"<!-- command(?:: (\d+))? -->\n```\n(.*?)\n```\n\n(?:```\n(buf curl .*?)\n```\n\n)?```\n(.*?)\n```", re.DOTALL
)
CUT = "…"
COLUMNS = 120
VARIABLE = {
    "id": re.compile(r'(?<=")\d{15,}(?=")'),
    "request id": re.compile(r'(?<=")[0-9a-f]{32}(?=")'),
    "name": re.compile(r'(?<="redemption_id": ")[^"]+|(?<="hold_id": ")[^"]+|(?<="reversal_id": ")[^"]+'),
    "token": re.compile(r'(?<=_token": ")[^"]+'),
    "time": re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z"),
}
_CODE = re.compile(r'(?<=code": ")\d{6}(?=")')
_BLANK = re.compile(r"[ \t\xa0]+")
_CALLED = re.compile(r"(127\.0\.0\.1:50051) ([\w.]+/\w+)$")
_CAMEL_CASE = re.compile(r"[a-z][a-zA-Z0-9]*")


@dataclass(frozen=True, slots=True)
class Example:
    """A command and what the page shows of its answer: all of it, or its first lines and a mark that it is cut.

    `for_buf` is the same call by buf, where the page has one.
    """

    command: str
    output: str
    lines_shown: int | None
    for_buf: str | None = None

    @property
    def tool(self) -> str:
        """The program that is run."""
        return self.command.split()[0]

    def shown_of(self, output: str) -> str:
        """What a page shows of an answer."""
        lines = output.rstrip().splitlines()
        if self.lines_shown is None or len(lines) <= self.lines_shown:
            return "\n".join(lines)
        return "\n".join([*lines[: self.lines_shown], CUT])

    def by_buf(self) -> str | None:
        """The call of this example by buf; None where it is no call of grpcurl, or one that is refused."""
        if self.tool != "grpcurl" or not _CALLED.search(self.command) or self.output.startswith("ERROR:"):
            return None
        command = self.command.replace("grpcurl -plaintext", "buf curl --protocol grpc --http2-prior-knowledge", 1)
        command = re.sub(r"-max-time (\d+)", r"--timeout \1s", command)
        command = _CALLED.sub(r"http://\1/\2", command)
        if len(command.splitlines()[-1]) > COLUMNS:
            command = re.sub(r" (\S+)$", r" \\\n  \1", command)
        return command

    def written(self) -> str:
        """This example as a page has it."""
        lines = "" if self.lines_shown is None else f": {self.lines_shown}"
        commands = [command for command in (self.command, self.by_buf()) if command]
        return f"<!-- command{lines} -->\n" + "\n\n".join(f"```\n{text}\n```" for text in (*commands, self.output))


def examples_of(page: str) -> list[Example]:
    """The examples of a page, in their order."""
    return [
        Example(command, output, int(lines) if lines else None, for_buf or None)
        for lines, command, for_buf, output in EXAMPLE.findall(page)
    ]


class Translation:
    """From the ids of the page to those of this run."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def learn(self, shown: str, answered: str) -> None:
        """Takes over the ids of an answer, from the lines that read like those of the page."""
        lines, here = shown.splitlines(), answered.splitlines()
        matcher = SequenceMatcher(None, list(map(settled, lines)), list(map(settled, here)), autojunk=False)
        for block in matcher.get_matching_blocks():
            for offset in range(block.size):
                for pattern in VARIABLE.values():
                    there = pattern.findall(lines[block.a + offset])
                    self._known.update(zip(there, pattern.findall(here[block.b + offset]), strict=True))

    def of_command(self, command: str, code: str) -> str:
        """A command with the ids of this run, and with the one-time code that was sent last in place of a new one."""
        for there in _CODE.findall(command):
            self._known.setdefault(there, code)
        for there, here in self._known.items():
            command = command.replace(f'"{there}"', f'"{here}"')
        return command


def settled(text: str) -> str:
    """A text with what differs from run to run replaced by its kind."""
    for kind, pattern in VARIABLE.items():
        text = pattern.sub(kind, text)
    return _BLANK.sub(" ", text)


def spelt_by_grpcurl(output: str) -> str:
    """What buf printed, as grpcurl prints it: names of fields as in the protos, the fields of an Any in the alphabet's
    order. What is no JSON stays.
    """
    decoder = json.JSONDecoder(object_pairs_hook=_spelt)
    printed, rest = [], output.strip()
    while rest.startswith("{"):
        document, end = decoder.raw_decode(rest)
        printed.append(json.dumps(document, indent=2, ensure_ascii=False))
        rest = rest[end:].lstrip()
    return "\n".join([*printed, rest]).rstrip()


def _spelt(fields: list[tuple[str, object]]) -> dict[str, object]:
    spelt = {
        re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", name) if _CAMEL_CASE.fullmatch(name) else name: value
        for name, value in fields
    }
    return dict(sorted(spelt.items())) if "@type" in spelt else spelt


def rewritten(page: str, examples: Sequence[Example]) -> str:
    """A page with other commands and outputs in place of its own, one for one; with its own where only ids differ."""
    own = examples_of(page)
    only_ids = all(settled(old.output) == settled(new.output) for old, new in zip(own, examples, strict=True))
    following = iter(own if only_ids else examples)
    return EXAMPLE.sub(lambda _: next(following).written(), page)
