"""How source and target systems are spoken to: one HTTP client, auth flows, pagers, cursors, and the mapping engine.

No Dagster, no database and no environment here: whoever builds a client passes keys and stores in. Nothing is
imported eagerly, so that loading a source's declaration costs nothing; import from the modules (`connect.client`…).
"""
