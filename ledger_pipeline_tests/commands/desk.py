"""A command line at work on a configuration, as a test calls it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import typer
from typer.testing import CliRunner, Result

from ledger_pipeline.cli import app


class Desk:
    """`desk("verify", "--entity", "acme")` runs the command with this configuration."""

    app: ClassVar[typer.Typer] = app
    more: tuple[str, ...] = ()
    """Arguments that every call gets."""
    catches: ClassVar[bool] = False
    """An error of the command is in the result; else it is raised here."""

    def __init__(self, config: Path) -> None:
        self.config = config

    def __call__(self, *arguments: str, answer: str | None = None) -> Result:
        line = [*arguments, *self.more, "--config", str(self.config)]
        return CliRunner().invoke(self.app, line, answer, env={"COLUMNS": "80"}, catch_exceptions=self.catches)

    def json(self, *arguments: str, code: int = 0) -> Any:
        """What the command says as JSON when it ends with `code`."""
        result = self(*arguments, "--json")
        assert result.exit_code == code, result.output
        return json.loads(result.stdout)
