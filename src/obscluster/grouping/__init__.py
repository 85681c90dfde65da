"""Which runs belong together.

=======================  ======================================================================
you want                 use
=======================  ======================================================================
groups that you can say  `obscluster.grouping.cuts`: split an observing quantity at a value, at
in one sentence          edges or at quantiles ("zenith angle below 30 deg")
groups of alike          `obscluster.grouping.hierarchical`: Ward's tree on scaled features of
response                 the response; the tree shows how much each merge costs
=======================  ======================================================================

Every method returns a `Grouping`: labels from 1, and -1 for runs that belong nowhere.
"""

from obscluster.grouping.base import UNASSIGNED, Grouping

__all__ = ["UNASSIGNED", "Grouping"]
