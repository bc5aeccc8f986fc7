"""The tables that scripts/generate writes into pages: every code, setting, metric, panel and planted bug.

Read from the sources themselves, so that nothing has to be installed for it: the settings from the syntax of
settings.py, whose defaults and bounds are literals, codes, metrics and bugs by running files that import nothing of
ours.
"""

from __future__ import annotations

import ast
import json
import re
import runpy
from pathlib import Path

PACKAGE = Path("src/points_grpc")
REGION = re.compile(r"(<!-- generated: (\w+) -->\n).*?(?=<!-- end -->)", re.DOTALL)


def render_pages(root: Path) -> dict[str, str]:
    """The pages that hold tables, by name, with their tables as they have to be."""
    return {
        "README.md": render_page(root / "README.md", {"codes": codes_table(root)}),
        "docs/operations.md": render_page(
            root / "docs" / "operations.md", {"settings": settings_table(root), "metrics": metrics_table(root)}
        ),
        "docs/dashboard.md": render_page(root / "docs" / "dashboard.md", {"panels": panels_table(root)}),
        "docs/proof.md": render_page(root / "docs" / "proof.md", {"planted": planted_table(root)}),
    }


def render_page(path: Path, tables: dict[str, str]) -> str:
    """A page with its tables."""
    page = path.read_text(encoding="utf-8")
    found = [name for _, name in REGION.findall(page)]
    if found != list(tables):
        raise SystemExit(f"generate: {path.name} has places for {found}, wanted are {list(tables)}")
    return REGION.sub(lambda match: match[1] + tables[match[2]] + "\n", page)


def codes_table(root: Path) -> str:
    """A row for each code, in the order of the catalogue."""
    catalogue = runpy.run_path(str(root / PACKAGE / "codes.py"))["CATALOGUE"]
    rows = [
        (
            one.table.value,
            str(one.number),
            f"[{one.reason}](docs/codes.md#{one.number}-{one.reason.lower()})",
            f"`{one.grpc.name}`",
            one.message,
        )
        for one in catalogue
    ]
    return table(("table", "code", "reason", "gRPC", "message"), rows)


def planted_table(root: Path) -> str:
    """A row for each planted bug, in their order."""
    planted = runpy.run_path(str(root / "tests" / "planted" / "planted_bugs.py"))["PLANTED"]
    rows = [(bug.name, bug.breaks, f"`{bug.test}`") for bug in planted]
    return table(("planted bug", "what it breaks", "found by"), rows)


def settings_table(root: Path) -> str:
    """A row for each field of Settings, in their order."""
    flags = read_flags(root / PACKAGE / "cli" / "main.py")
    rows = [
        (f"`{name}`", f"`{flags[name]}`" if name in flags else "", default, bounds, text)
        for name, default, bounds, text in read_settings(root / PACKAGE / "settings.py")
    ]
    return table(("setting", "flag", "default", "allowed", "what it is"), rows)


def read_settings(path: Path) -> list[tuple[str, str, str, str]]:
    """Name, default, bounds and description of each field."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not (isinstance(node, ast.ClassDef) and node.name == "Settings"):
            continue
        for field in node.body:
            if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
                continue
            call = field.value
            if not (isinstance(call, ast.Call) and call.args):
                raise SystemExit(f"generate: {path.name}: {field.target.id} is no Field(default, description=…)")
            said = {one.arg: ast.literal_eval(one.value) for one in call.keywords if one.arg}
            default = ast.literal_eval(call.args[0])
            found.append((field.target.id, literal(default), bounds_of(said), str(said["description"])))
    return found


def read_flags(path: Path) -> dict[str, str]:
    """The flag of `serve` for each setting that has one."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    [serve] = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "serve"]
    flags = {}
    for call in serve.decorator_list:
        if isinstance(call, ast.Call) and call.args:
            flag = str(ast.literal_eval(call.args[0]))
            flags[flag.removeprefix("--").replace("-", "_")] = flag
    return flags


def bounds_of(said: dict[str, object]) -> str:
    """What a field allows, in words."""
    if "pattern" in said:
        return str(said["pattern"]).strip("^()$").replace("|", ", ")
    lowest = f"from {said['ge']}" if "ge" in said else f"above {said['gt']}" if "gt" in said else ""
    highest = f"to {said['le']}" if "le" in said else f"below {said['lt']}" if "lt" in said else ""
    return f"{lowest} {highest}".strip()


def literal(value: object) -> str:
    """A default as it is written in a file."""
    if value is None:
        return ""
    return f"`{str(value).lower()}`" if isinstance(value, bool) else f"`{value}`"


def metrics_table(root: Path) -> str:
    """A row for each metric, in their order, with its name as it is scraped."""
    measures = runpy.run_path(str(root / PACKAGE / "rpc" / "measures.py"))["MEASURES"]
    rows = [
        (
            f"`{one.name}{'_total' if one.kind == 'counter' else ''}`",
            one.kind,
            ", ".join(f"`{label}`" for label in one.labels),
            one.over_servers,
            one.help,
        )
        for one in measures
    ]
    return table(("metric", "kind", "labels", "several servers", "what it is"), rows)


def panels_table(root: Path) -> str:
    """A row for each panel of the dashboard, in their order, with its queries as Grafana shows them on all servers."""
    rows, group = [], ""
    for panel in json.loads((root / "deploy" / "grafana" / "points-grpc.json").read_text(encoding="utf-8"))["panels"]:
        if panel["type"] == "row":
            group = panel["title"]
            continue
        queries = [f"{legend(one['legendFormat'])}: `{without_choice(one['expr'])}`" for one in panel["targets"]]
        rows.append((group, panel["title"], panel["description"], "<br>".join(queries)))
    return table(("group", "panel", "what it tells", "curves and their queries"), rows)


def without_choice(query: str) -> str:
    """A query without the choice of servers, which every query has."""
    return query.replace('{instance=~"$instance"}', "").replace('{instance=~"$instance", ', "{")


def legend(text: str) -> str:
    """How Grafana names a curve; a label in italics stands for its value."""
    return re.sub(r"\{\{(\w+)\}\}", r"*\1*", text)


def table(names: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A table of Markdown."""
    lines = [names, tuple("---" for _ in names), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
