"""One module per topic of the command line: plain functions that `cli.py` registers. What they need is imported when they run."""
