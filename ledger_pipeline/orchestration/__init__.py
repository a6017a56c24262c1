"""Dagster's side: assets, checks, jobs, schedules, sensors; and the steps that they call, which know nothing of Dagster."""
