"""What characterises each run: one row of numbers per observation.

`~obscluster.features.table` makes the table, `~obscluster.features.catalog` lists what there is,
and `~obscluster.features.base` says how to add a feature of one's own.
"""

from obscluster.features.base import Feature, NotComputableError, Run, feature

__all__ = ["Feature", "NotComputableError", "Run", "feature"]
