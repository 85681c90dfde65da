"""A commented description of a run or of a reduction, for an archive as it is.

Three kinds of lines: YAML; options, behind ``# ``, which are valid as soon as this is taken away;
and explanations, behind ``## ``. An option that would name a key again says so: it stands instead
of the block above it.

- `look`: what the archive holds.
- `blocks`: the text.
- `write`: both together.
"""

from __future__ import annotations

from obscluster.init.write import describe_reduction, describe_run, write_description

__all__ = ["describe_reduction", "describe_run", "write_description"]
