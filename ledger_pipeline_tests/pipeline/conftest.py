"""The company's week, booked once for all tests that only look at it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ledger_pipeline.orchestration.runtime import Runtime
from ledger_pipeline.store.database import Database
from ledger_pipeline_tests.conftest import SandboxCompany
from ledger_pipeline_tests.pipeline.books import WEEK, differences, run_days


@pytest.fixture(scope="session")
def week(
    tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], Database], sandbox: SandboxCompany
) -> Runtime:
    """Seven nights, one after the other; the books were held against the company's own after each."""
    runtime = sandbox.runtime(tmp_path_factory.mktemp("week"), new_database())
    for day in WEEK:
        run_days(runtime, sandbox, [day])
        assert differences(runtime, sandbox, day) == []
    return runtime
