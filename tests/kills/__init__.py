"""Writers that are killed: what is left, and what the next start makes of it.

``tracer.c`` stops a command before an operation that changes files, from outside: astropy, pyarrow
and Gammapy write past any function that could be patched. ``server.py`` forks commands from a
process that has loaded everything, so that a kill takes less than a second. ``writers.py`` lists
what is killed, ``campaign.py`` kills and judges. `tests/files/test_crashes.py` takes a sample of
the points, `benchmarks/crashes.py` all of them, and random moments.
"""
