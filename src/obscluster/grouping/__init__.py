"""Which runs belong together.

===============================  ================================================================
you want                         use
===============================  ================================================================
groups that you can say in one   `obscluster.grouping.cuts`: split quantities at values, edges,
sentence                         quantiles, in bins of equal width or livetime, by categories, or
                                 by the combinations of several
bins with enough exposure each   `~obscluster.grouping.cuts.group_adaptive`, of the cosine of the
                                 zenith angle; or any method with a minimum livetime
groups of alike response         `obscluster.grouping.hierarchical`: Ward's tree on scaled features
                                 of the response; the tree shows how much each merge costs
compact groups around centres    `~obscluster.grouping.partition.group_kmeans`
long, thin, overlapping groups   `~obscluster.grouping.partition.group_mixture`
dense regions, and what is odd   `~obscluster.grouping.partition.group_hdbscan`: finds the number
                                 of groups itself, leaves odd runs as noise
the fewest groups in which       `obscluster.grouping.spread`: for one feature the optimum
features vary little
a joint fit that loses little    `obscluster.information`: groups that lose least
                                 information on a source, by number or within a budget
epochs                           `obscluster.grouping.epochs`, or any method, contiguous in time
===============================  ================================================================

With all of them, groups can be kept from mixing values of a column, and from holding too little
(`obscluster.grouping.constraints`). `~obscluster.workflow.group.group_runs` puts method and
constraints together; it is what the command line calls.

For a joint fit of a faint source, take the information; without a source in mind, the tree or a
tolerance on features at the energies of the fit. For background
models, take adaptive bins within telescope patterns. For quality monitoring, take HDBSCAN, or the
outliers of any grouping (`obscluster.assessment`). How many groups there should be, and whether
others would have been found with other runs, is told there, too.

Every method returns a `Grouping`: labels from 1, -1 for runs that belong nowhere with the reason,
the tree if there is one, and the rule by which new runs find their group
(`obscluster.grouping.rules`). Clustering takes features that are scaled
(`obscluster.features.scaling.scale_features`); how much a difference counts is a choice, and often
the most important one.
"""

from obscluster.grouping.base import UNASSIGNED, Grouping

__all__ = ["UNASSIGNED", "Grouping"]
