"""What keeps the nights running: alerts and their channels, the heartbeat from outside, health. No Dagster and no sources in here."""
