"""The import rules and the folder shape of DESIGN.md, read from the code's own form."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "ledger_pipeline"
TESTS = ROOT / "ledger_pipeline_tests"
FILES = sorted(p for p in PACKAGE.rglob("*.py") if not any(part.startswith(".") for part in p.relative_to(ROOT).parts))
IDS = [str(p.relative_to(PACKAGE)) for p in FILES]


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """(imported module, stands inside a function); relative imports are made absolute, `from a import b` is a.b."""
    inside: set[ast.AST] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            inside.update(ast.walk(node))
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node in inside
        elif isinstance(node, ast.ImportFrom):
            above = module_of(path).split(".")[: -node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                yield f"{base}.{alias.name}", node in inside


def ours(path: Path) -> set[str]:
    """What a file imports of the package: `model.money.Int64s`, without the package's own name."""
    return {name.removeprefix("ledger_pipeline.") for name, _ in imports(path) if name.startswith("ledger_pipeline.")}


def is_in(name: str, *allowed: str) -> bool:
    return any(name == one or name.startswith(f"{one}.") for one in allowed)


def in_folder(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0]


def is_sandbox(path: Path) -> bool:
    """Plays a system: the sandbox itself, and the part of a source that it mounts."""
    return in_folder(path) == "sandbox" or path.stem.startswith("sandbox")


ALLOWED: dict[str, tuple[str, ...]] = {
    "model": ("model",),
    "connect": ("connect", "model"),
    "store": ("store", "model"),
    "secrets": ("secrets",),
    "checks": ("checks", "model", "store"),
    "reconcile": ("reconcile", "model", "store"),
    "reports": ("reports", "model", "store"),
    "webhooks": ("webhooks", "model", "store", "connect", "config", "sources"),
}


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_a_module_imports_only_what_its_folder_may(path: Path) -> None:
    relative = path.relative_to(PACKAGE).parts
    if relative[0] in ("sources", "targets") and len(relative) > 2 and not is_sandbox(path):
        allowed: tuple[str, ...] = ("model", "connect", f"{relative[0]}.{relative[1]}")
    elif is_sandbox(path):
        own = (f"{relative[0]}.{relative[1]}",) if relative[0] in ("sources", "targets") else ()
        found = {name for name in ours(path) if not is_in(name, "sandbox")}
        assert {
            n for n in found if not any(is_in(n, o) and n.split(".")[2].startswith("sandbox") for o in own)
        } == set()
        return
    elif relative[0] in ALLOWED:
        allowed = ALLOWED[relative[0]]
    elif relative[0] == "orchestration":
        assert not [name for name in ours(path) if is_in(name, "sandbox", "cli", "demo")]
        return
    else:
        return
    assert {name for name in ours(path) if not is_in(name, *allowed)} == set()


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_only_orchestration_knows_dagster(path: Path) -> None:
    if in_folder(path) in ("orchestration", "definitions.py"):
        return
    assert [name for name, _ in imports(path) if is_in(name, "dagster", "dagster_postgres")] == []


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_great_expectations_is_imported_inside_functions_only(path: Path) -> None:
    assert [name for name, inside in imports(path) if is_in(name, "great_expectations") and not inside] == []


@pytest.mark.parametrize("path", [p for p in FILES if in_folder(p) == "model"], ids=str)
def test_the_model_does_nothing_to_the_outside(path: Path) -> None:
    forbidden = (
        "os",
        "io",
        "socket",
        "requests",
        "psycopg",
        "pathlib",
        "subprocess",
        "logging",
        "threading",
        "random",
        "time",
    )
    assert [name for name, _ in imports(path) if is_in(name, *forbidden)] == []
    calls = {
        node.func.id for node in ast.walk(tree(path)) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert calls.isdisjoint({"open", "print", "input", "eval", "exec"})


@pytest.mark.parametrize("path", [p for p in FILES if in_folder(p) in ("model", "store")], ids=str)
def test_no_float_comes_near_money(path: Path) -> None:
    for node in ast.walk(tree(path)):
        assert not (isinstance(node, ast.Name) and node.id == "float"), f"float in line {node.lineno}"
        assert not (isinstance(node, ast.Constant) and isinstance(node.value, float)), f"a float in line {node.lineno}"
        assert not (isinstance(node, ast.Attribute) and node.attr.startswith("float")), (
            f"a float type in line {node.lineno}"
        )


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_no_error_is_swallowed(path: Path) -> None:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ExceptHandler):
            caught = ast.unparse(node.type) if node.type else "everything"
            is_wide = any(word in caught for word in ("everything", "Exception", "BaseException"))
            is_silent = all(isinstance(inner, ast.Pass | ast.Continue) for inner in node.body)
            assert not (is_wide and is_silent), f"line {node.lineno}: {caught}"
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
            assert not {ast.unparse(a) for a in node.args} & {"Exception", "BaseException"}, f"line {node.lineno}"


@pytest.mark.parametrize("path", [p for p in FILES if p.read_text().strip()], ids=str)
def test_every_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(tree(path)), path


@pytest.mark.parametrize("path", [p for p in FILES if in_folder(p) == "orchestration"], ids=str)
def test_no_postponed_annotations_where_dagster_reads_them(path: Path) -> None:
    """DESIGN.md, traps: Dagster looks at the annotations of what it decorates and of its configuration classes."""
    is_postponed = any(name == "__future__.annotations" for name, _ in imports(path))
    text = path.read_text()
    assert not (is_postponed and ("@dg." in text or "dg.ConfigurableResource" in text or "dg.Config" in text))


# folders ------------------------------------------------------------------------------------------------------

SOURCES = sorted(p.name for p in (PACKAGE / "sources").iterdir() if p.is_dir() and (p / "__init__.py").exists())


@pytest.mark.parametrize(
    "file", [f"sources/{name}/{file}" for name in SOURCES for file in ("spec.py", "mapping.py", "NOTES.md")]
)
def test_a_source_has_its_files(file: str) -> None:
    path = PACKAGE / file
    assert path.is_file()
    assert len(path.read_text()) > 200


def folders() -> list[str]:
    found = {p.parent.relative_to(PACKAGE) for p in FILES}
    return sorted(str(f) for f in found if str(f) != "." and "migrations" not in f.parts)


@pytest.mark.parametrize("folder", list(folders()))
def test_a_folder_has_its_tests(folder: str) -> None:
    within = {"model/rules": "model", "sandbox/company": "sandbox", "sources": "sources/shopify"}
    assert list((TESTS / within.get(folder, folder)).glob("test_*.py"))


def test_the_rules_find_what_they_look_for() -> None:
    """Guards the helpers above: a rule that sees no import would always hold."""
    assert ours(PACKAGE / "store" / "staging.py") >= {"model.records.RECORDS", "store.frames"}
    assert ("great_expectations", True) in set(imports(PACKAGE / "checks" / "suites.py"))
    assert len(FILES) > 60
    assert SOURCES == ["bank_file", "delimited_file", "plaid", "shopify", "stripe"] or len(SOURCES) > 5


@pytest.mark.xdist_group("week")
def test_grouped_tests_share_a_worker(request: pytest.FixtureRequest) -> None:
    """A test runner that ignores the groups books the sample company's week on every worker, silently."""
    if getattr(request.config.option, "loadgroup", False):
        assert request.node.nodeid.endswith("@week")
