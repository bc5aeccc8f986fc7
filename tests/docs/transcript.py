"""A page of commands with what they answer, and its comparison with another run.

The page is a transcript of one run. Ids, times, tokens and one-time codes of another run differ: they are compared by
kind, and a command that uses an id that an earlier answer told is given the one of this run.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

EXAMPLE = re.compile(r"<!-- command(?:: (\d+))? -->\n```\n(.*?)\n```\n\n```\n(.*?)\n```", re.DOTALL)
CUT = "…"
VARIABLE = {
    "id": re.compile(r'(?<=")\d{15,}(?=")'),
    "request id": re.compile(r'(?<=")[0-9a-f]{32}(?=")'),
    "name": re.compile(r'(?<="redemption_id": ")[^"]+|(?<="hold_id": ")[^"]+|(?<="reversal_id": ")[^"]+'),
    "token": re.compile(r'(?<=_token": ")[^"]+'),
    "time": re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z"),
}
_CODE = re.compile(r'(?<=code": ")\d{6}(?=")')
_BLANK = re.compile(r"[ \t\xa0]+")


@dataclass(frozen=True, slots=True)
class Example:
    """A command and what the page shows of its answer: all of it, or its first lines and a mark that it is cut."""

    command: str
    output: str
    lines_shown: int | None

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


def examples_of(page: str) -> list[Example]:
    """The examples of a page, in their order."""
    return [Example(command, output, int(lines) if lines else None) for lines, command, output in EXAMPLE.findall(page)]


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


def rewritten(page: str, examples: Sequence[Example]) -> str:
    """A page with other commands and outputs in place of its own, one for one; the same where only ids differ."""
    if all(settled(old.output) == settled(new.output) for old, new in zip(examples_of(page), examples, strict=True)):
        return page
    following = iter(examples)

    def next_one(match: re.Match[str]) -> str:
        example = next(following)
        return (
            match[0]
            .replace(f"\n{match[2]}\n", f"\n{example.command}\n", 1)
            .replace(f"\n```\n{match[3]}\n```", f"\n```\n{example.output}\n```")
        )

    return EXAMPLE.sub(next_one, page)
