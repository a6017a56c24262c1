"""The documents say what the code does: the mapping page, the chart, the keys, the commands, and links that lead somewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main
from typer.testing import CliRunner

from ledger_pipeline import config, sources
from ledger_pipeline.cli import app
from ledger_pipeline.model.accounts import DEFAULT_CHART
from ledger_pipeline.operations.settings import CHANNELS, FreshnessConfig, HealthConfig, RetriesConfig
from ledger_pipeline.sandbox.company.planted import _NOTES
from ledger_pipeline.sandbox.faults import KINDS

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(
    [*ROOT.glob("*.md"), *DOCS.glob("**/*.md"), *(ROOT / "ledger_pipeline").glob("sources/*/NOTES.md")],
    key=str,
)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def links(page: Path) -> Iterator[str]:
    """Relative links of a page, code blocks left out."""
    for target in LINK.findall(FENCE.sub("", page.read_text())):
        if "://" not in target and not target.startswith("mailto:"):
            yield target


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in HEADING.findall(FENCE.sub("", page.read_text())))
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_relative_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for target in links(page):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name}: {target}"
        assert not anchor or anchor in anchors(file), f"{page.name}: {target} has no such heading"


def test_the_link_check_finds_links() -> None:
    assert {"docs/architecture.md", "docs/images/lineage.png"} <= set(links(ROOT / "README.md"))
    assert "money" in anchors(ROOT / "CONTRIBUTING.md")


def test_the_mapping_page_is_what_the_command_prints() -> None:
    printed = CliRunner().invoke(app, ["mapping"])
    assert printed.exit_code == 0
    assert (DOCS / "mapping.md").read_text() == printed.output, "run `ledger-pipeline mapping > docs/mapping.md`"


def test_the_mapping_of_one_source_is_a_part_of_the_page() -> None:
    page = (DOCS / "mapping.md").read_text()
    for name in sources.known():
        printed = CliRunner().invoke(app, ["mapping", name])
        assert printed.output.partition("\n## ")[2] in page


def test_an_unknown_source_is_refused_with_the_known_ones() -> None:
    refused = CliRunner().invoke(app, ["mapping", "strip"])
    assert refused.exit_code == 1
    assert "unknown source 'strip'; known are bank_file" in refused.output


def test_the_configuration_page_holds_the_default_chart() -> None:
    page = (DOCS / "configuration.md").read_text()
    for account in DEFAULT_CHART:
        assert f"| {account.code} | {account.name} | {account.type} | `{' '.join(account.roles)}` |" in page


def test_the_configuration_page_explains_every_key() -> None:
    page = (DOCS / "configuration.md").read_text()
    models = (
        config.LedgerConfig, config.EntityConfig, config.AccountConfig, config.ScheduleConfig, config.AlertsConfig,
        *CHANNELS.values(), FreshnessConfig, RetriesConfig, HealthConfig,
        *(sources.load(name).options for name in sources.known() if name != "delimited_file"),
    )  # fmt: skip
    keys = {key for model in models for key in model.model_fields} | {
        "entity",
        "source",
        "is_enabled",
        "quarantine_limit",
    }
    assert {key for key in keys if f"`{key}`" not in page} == set()


def test_the_configuration_page_shows_every_command() -> None:
    page = (DOCS / "configuration.md").read_text()
    assert {name for name in commands() if f"`{name}`" not in page} == set()


def commands() -> set[str]:
    """`sync`, `config check`, …"""
    found = set()
    for name, command in vars(typer.main.get_command(app))["commands"].items():
        inner = vars(command).get("commands")
        found |= {f"{name} {one}" for one in inner} if inner else {name}
    assert {"sync", "config check"} <= found
    return found


def test_the_sandbox_page_lists_every_planted_fault_and_every_transport_fault() -> None:
    page = (DOCS / "sandbox.md").read_text()
    assert {kind for kind in (*_NOTES, *KINDS) if f"`{kind}`" not in page} == set()
