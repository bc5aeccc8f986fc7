"""docs/codes.md: what the catalogue says of each code, and what the service answered when it was asked for it.

Made of codes.py (and so of codes.proto) and of the committed recordings, of nothing else; test_page.py compares.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from conformance_failures import ROWS as FAILURE_ROWS
from conformance_recording import Recorded
from conformance_rows import ROWS
from conformance_table import BASE, Do, Elapse, Row, Step, Wait

from points_grpc import codes
from points_grpc.codes import CATALOGUE, Code, Table

PAGE = Path(__file__).parents[2] / "docs" / "codes.md"
LINE = 120

HEAD = """\
# Every coded outcome

What the service can answer, when it does, what to do then, and what it really said when it was asked.
The examples are recordings: a test plays each of them against a running server and fails if one word differs.

- [How to read an answer](#how-to-read-an-answer)
{contents}
## How to read an answer

A **refusal** is a gRPC status. Its details hold an `ErrorInfo` with the *reason* and the numbers behind it, and a
`StatusPayload` with the documented *code*. A **warning** comes with an answer that was given all the same, in
`warnings[]` and in the trailers. The reason is the key: numbers repeat between tables, and the texts are the documented
ones, oddities included.

What to do about sending a request again:

| advice | meaning |
| --- | --- |
| `NONE` | Nothing to repeat: it was done. |
| `CHANGE_REQUEST` | As it stands it will never be accepted. Change it; use a new `request_id`. |
| `SAME_REQUEST_ID_LATER` | Send the same again, with the same `request_id`, after a pause. |
| `NEW_REQUEST_ID_LATER` | Send it under a new `request_id` once time has passed. |
| `NEW_REQUEST_ID_WHEN_STATE_CHANGED` | New `request_id`, once somebody changed what it was refused for. |
| `NEW_REQUEST_ID_WITH_RIGHT_CODE` | New `request_id`, with the code asked for once more. |

In the examples `<…>` stands for what differs from call to call. There is one program, 10; customer 1 has 1000 points in
it and customer 2 has none, unless "Given" says otherwise. In lists `"ID 1"` is short for
`{{"type": "ID", "value": "1"}}`. `CatalogService.ListCodes` serves the catalogue to programs.
"""

TITLES = {
    Table.SUCCESS: ("Success", "The one code of success."),
    Table.POINTS: ("Points", "Answered by everything but transfers; 412 to 419, 808 and 860 by transfers too."),
    Table.TRANSFER: ("Transfer", "Answered by the check, the code, the transfer and its reversal."),
    Table.WARNING: ("Warnings", "The main action was done."),
    Table.SERVICE: ("Service", "Ours: for what the documented tables have no row."),
}


def page(recorded: Mapping[str, Recorded]) -> str:
    """The whole page."""
    contents = "".join(f"- [{title}](#{title.lower()}): {_numbers(table)}\n" for table, (title, _) in TITLES.items())
    parts = [HEAD.format(contents=contents)]
    comments = _comments()
    rows: dict[str, list[Row]] = {}
    for row in (*ROWS, *FAILURE_ROWS):
        rows.setdefault(row.reason, []).append(row)
    for table, (title, about) in TITLES.items():
        of_table = [code for code in CATALOGUE if code.table is table]
        parts.append(f"\n## {title}\n\n{about}\n\n")
        parts.append("| code | reason | gRPC | send again | when |\n| ---: | --- | --- | --- | --- |\n")
        parts += [_summary(code, comments[code.reason]) for code in of_table]
        parts += [_section(code, comments[code.reason], rows.get(code.reason, ()), recorded) for code in of_table]
    return "".join(parts)


def _numbers(table: Table) -> str:
    numbers = [code.number for code in CATALOGUE if code.table is table]
    return str(numbers[0]) if len(numbers) == 1 else f"{len(numbers)} codes, {min(numbers)} to {max(numbers)}"


def _comments() -> Mapping[str, Mapping[str, str]]:
    """What codes.py says below each constant: the trigger, and the paragraphs that begin with their names."""
    body = ast.parse(Path(codes.__file__).read_text(encoding="utf-8")).body
    found: dict[str, Mapping[str, str]] = {}
    for constant, below in pairwise(body):
        match constant, below:
            case ast.Assign(targets=[ast.Name(id=name)]), ast.Expr(value=ast.Constant(value=str(text))):
                pieces = re.split(r"(?:^|\n)(Remedy|Odd): ", text.strip())
                named = dict(zip(("when", *pieces[1::2]), pieces[::2], strict=True))
                found[name] = {key: " ".join(value.split()) for key, value in named.items()}
            case _:
                pass
    return found


def _anchor(code: Code) -> str:
    """As the page's readers make it of the heading: small letters, hyphens for spaces."""
    return f"{code.number}-{code.reason.lower()}"


def _summary(code: Code, comment: Mapping[str, str]) -> str:
    first = re.split(r"(?<=[.;:]) ", comment["when"])[0].rstrip(".;:").replace("|", "\\|")
    return (
        f"| {code.number} | [{code.reason}](#{_anchor(code)}) | `{code.grpc.name}` | `{code.retry.value}` | {first} |\n"
    )


def _section(code: Code, comment: Mapping[str, str], rows: Sequence[Row], recorded: Mapping[str, Recorded]) -> str:
    parts = [f"\n### {code.number} {code.reason}\n\n", f"> {code.message}\n\n", f"{comment['when']}\n\n"]
    if "Remedy" in comment:
        parts.append(f"**What to do:** {comment['Remedy']}\n\n")
    if "Odd" in comment:
        parts.append(f"*Odd:* {comment['Odd']}\n\n")
    facts = [f"`{code.grpc.name}`", f"`{code.retry.value}`", f"from {_operations(code)}"]
    if code.metadata_keys:
        facts.append("metadata " + ", ".join(f"`{key}`" for key in code.metadata_keys))
    parts.append(" · ".join(facts) + "\n")
    shown = [(row, recorded[row.name]) for row in rows if row.name in recorded]
    parts += [_example(*one) for one in shown[:1]]
    parts += _others(shown[1:])
    return "".join(parts)


def _operations(code: Code) -> str:
    if "*" not in code.operations:
        return ", ".join(f"`{one}`" for one in code.operations) or "nothing yet"
    without = [f"`{one[1:]}`" for one in code.operations if one.startswith("!")]
    return "every RPC" + (f" but {', '.join(without)}" if without else "")


def _example(row: Row, recorded: Recorded) -> str:
    answer = {name: recorded[name] for name in recorded if name not in {"rpc", "request"}}
    request = f"{recorded['rpc']} {_json(recorded['request'])}"
    return f"\n**{_capital(row.case)}.** {_given(row)}".rstrip() + f"\n\n```text\n{request}\n\n→ {_json(answer)}\n```\n"


def _others(shown: Sequence[tuple[Row, Recorded]]) -> Iterator[str]:
    """The further ways to the code, one line each: what differs from the example."""
    if not shown:
        return
    yield "\nAlso:\n\n" if len(shown) < 4 else f"\n<details><summary>{len(shown)} more ways to it</summary>\n\n"
    for row, recorded in shown:
        told = [f"`{key}` {_code(value)}" for key, value in recorded.get("metadata", {}).items()]
        if "field" in recorded:
            told.insert(0, f"field `{recorded['field']}`")
        line = f"- **{row.case}**: {_code(_flat(recorded['rpc'], recorded['request']))}"
        before = _given(row)
        yield line + (f". {before}" if before else "") + (f" → {', '.join(told)}" if told else "") + "\n"
    if len(shown) >= 4:
        yield "\n</details>\n"


def _given(row: Row) -> str:
    """What is so before, as far as it is not the usual."""
    caller = "" if row.caller == "admin" else f"The caller: {row.caller}. "
    if not row.setup:
        return caller
    told = [one for step in _unusual(row.setup) if (one := _step(step))]
    return caller + ("Given " + "; ".join(told) + "." if told else "")


def _unusual(setup: Sequence[Step]) -> Iterator[Step]:
    """The steps of a setup without those that all have in common."""
    rest = list(setup)
    if rest[1 : len(BASE)] == list(BASE[1:]):
        del rest[1 : len(BASE)]
    if rest[:1] == list(BASE[:1]) and len(rest) < len(setup):
        del rest[:1]
    yield from rest


def _step(step: Step) -> str:
    """A step in words, or as the call that it is."""
    if isinstance(step, Elapse | Wait):
        return f"{step.seconds:,} s pass"
    if not isinstance(step, Do):
        return "**" + step.name.lower().replace("_", " ") + "**"
    times = f", {step.times:,} times" if step.times > 1 else ""
    return _in_words(step) + times + (f" (refused: {step.refused})" if step.refused else "")


def _in_words(step: Do) -> str:
    fields = dict(_named(step.fields))
    match step.rpc:
        case "CreateProgram":
            number = fields.pop("program_id")
            fields.pop("name")
            return f"program {number}" + (f" with {_code(_short(fields))}" if fields else "")
        case "CreateCustomer":
            number, programs = fields.pop("customer_id"), fields.pop("enrolled_program_ids", [])
            enrolled = f" of program {', '.join(map(str, programs))}" if programs else ""
            return f"customer {number}{enrolled}" + (f" with {_code(_short(fields))}" if fields else "")
        case "IssuePoints":
            points, whose = fields.pop("points"), fields.pop("customer_identifier")["value"]
            fields = {name: value for name, value in fields.items() if value != "LOYALTY_PLUS"}
            return f"{points} points for customer {whose}" + (f" with {_code(_short(fields))}" if fields else "")
        case "SetConfigKey" if "value" in fields:
            return f"`{fields['key']}` is `{fields['value']}`"
        case "SetConfigKey":
            return f"`{fields['key']}` is not set"
        case _:
            return _code(_flat(step.rpc, step.fields))


def _flat(rpc: str, request: Any) -> str:
    """A request on one line."""
    if isinstance(request, str):
        return f"{rpc} {request}"
    shown = {name: value for name, value in request.items() if name != "request_id" or value != "conformance"}
    return f"{rpc} {_short(_named(shown))}"


def _short(value: Any) -> str:
    """JSON on one line, with an identifier as one text."""
    return re.sub(r'\{"type": "(\w+)", "value": "([^"]*)"\}', r'"\1 \2"', json.dumps(value, ensure_ascii=False))


def _named(value: Any) -> Any:
    """A value with what a step saves called as in the recordings."""
    if isinstance(value, Mapping):
        return {name: _named(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_named(one) for one in value]
    if isinstance(value, str) and value.startswith("$"):
        return "<" + value[1:].replace(":", " ").replace("_", " ") + ">"
    return value


def _json(value: Any, indent: str = "") -> str:
    """JSON that keeps on one line what fits there."""
    flat = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict | list) or len(indent) + len(flat) <= LINE - 20:
        return flat
    inner = indent + "  "
    pieces: Iterable[str]
    if isinstance(value, dict):
        pieces = (f"{inner}{json.dumps(name)}: {_json(one, inner)}" for name, one in value.items())
        return "{\n" + ",\n".join(pieces) + f"\n{indent}}}"
    pieces = (f"{inner}{_json(one, inner)}" for one in value)
    return "[\n" + ",\n".join(pieces) + f"\n{indent}]"


def _code(text: str) -> str:
    return f"`{text}`"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
