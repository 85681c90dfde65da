"""How a new run finds its group: the part of a grouping that lasts.

==================  ===============================================================================
rule                a run belongs to the group
==================  ===============================================================================
`Cells`             whose intervals and categories it falls into (cuts, epochs)
`NearestRun`        of the run that is most like it (trees, density, information, spread)
`NearestCentroid`   whose centre is nearest (k-means)
`Mixture`           that most probably made it (Gaussian mixture)
`Nested`            that another rule finds among those of its epoch, telescope pattern, ...
==================  ===============================================================================

A run that is unlike all that were there when the groups were made fits none: it is labelled -1, and
the note says why.
"""

from obscluster.grouping.rules.base import Rule
from obscluster.grouping.rules.cells import Bins, Categories, Cells
from obscluster.grouping.rules.mixture import Mixture
from obscluster.grouping.rules.nearest import NearestCentroid, NearestRun
from obscluster.grouping.rules.nested import RULES, Nested, rule_from_record

__all__ = [
    "RULES",
    "Bins",
    "Categories",
    "Cells",
    "Mixture",
    "NearestCentroid",
    "NearestRun",
    "Nested",
    "Rule",
    "rule_from_record",
]
