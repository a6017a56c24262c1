"""The resource that assets work with: a Runtime, made once per process and configuration."""

from functools import cache
from pathlib import Path

import dagster as dg

from ledger_pipeline.orchestration.runtime import Runtime


@cache
def runtime_of(config_path: str) -> Runtime:
    """One Runtime per configuration file and process, so that a run of many steps connects and compiles once."""
    return Runtime.from_file(Path(config_path) if config_path else None)


class Ledger(dg.ConfigurableResource[Runtime]):
    """Gives steps their Runtime. `config_path` is empty for ledger.yaml of the working folder."""

    config_path: str = ""

    @property
    def runtime(self) -> Runtime:
        """Starts or joins the embedded server at the first use."""
        return runtime_of(self.config_path)
