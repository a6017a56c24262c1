"""Where the steps of a run are executed: Dagster's own executors, chosen in ledger.yaml. Steps share nothing but PostgreSQL.

An engine's package is imported when it is chosen, and not before; what it is told is the configuration of Dagster's executor of that name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import dagster as dg
from dagster._config import validate_config  # no public way to validate an executor's configuration before a run

from ledger_pipeline.config import ConfigError, ExecutionConfig

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def executor(execution: ExecutionConfig) -> dg.ExecutorDefinition:
    """The executor of all jobs; raises ConfigError when its package is missing or its options don't fit. Reads no environment."""
    try:
        found = ENGINES[execution.engine]()
    except ModuleNotFoundError as error:
        hint = f"pip install 'ledger_pipeline[{execution.engine}]'"
        raise ConfigError([f"execution.engine: {execution.engine} needs {error.name}; {hint}"]) from None
    if not execution.options:
        return found
    options = deferred(execution.options)
    assert found.config_schema.config_type is not None  # noqa: S101 - every executor above has one
    result = validate_config(found.config_schema.config_type, options)
    if not result.success:
        raise ConfigError([f"execution.options: {error.message}" for error in result.errors or ()])
    return found.configured(options, name=execution.engine)


def deferred(value: Any) -> Any:
    """`${NAME}` as Dagster's `{env: NAME}`, which the process that runs reads; raises ConfigError where text stands around it."""
    if isinstance(value, Mapping):
        return {str(key): deferred(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [deferred(inner) for inner in value]
    if not isinstance(value, str):
        return value
    if match := _VARIABLE.fullmatch(value):
        return {"env": match.group(1)}
    if "${" in value:
        raise ConfigError([f"execution.options: {value!r}: write the whole value as one variable, ${{NAME}}"])
    return value


def _in_process() -> dg.ExecutorDefinition:
    return dg.in_process_executor


def _multiprocess() -> dg.ExecutorDefinition:
    return dg.multiprocess_executor


def _celery() -> dg.ExecutorDefinition:
    from dagster_celery import celery_executor

    executor: dg.ExecutorDefinition = celery_executor
    return executor


def _k8s() -> dg.ExecutorDefinition:
    from dagster_k8s import k8s_job_executor

    executor: dg.ExecutorDefinition = k8s_job_executor
    return executor


ENGINES: dict[str, Callable[[], dg.ExecutorDefinition]] = {
    "in_process": _in_process,
    "multiprocess": _multiprocess,
    "celery": _celery,
    "k8s": _k8s,
}
