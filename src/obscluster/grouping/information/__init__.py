"""Groups that lose least information: agglomeration, then refinement.

Merging two groups costs information, where their scores differ: see
`~obscluster.features.information.loss`. `cluster_by_information` merges the two groups that cost
least, again and again, then moves single runs while the loss falls, and gives the fewest groups
within a budget, or the best ones of a number. `information_partitions` gives them for many numbers.

=====================================================  ===========================================
module                                                 what
=====================================================  ===========================================
`~obscluster.grouping.information.kept`                the arithmetic of stacking
`~obscluster.grouping.information.tree`                agglomeration
`~obscluster.grouping.information.refine`              moves and exchanges of single runs
`~obscluster.grouping.information.partitions`          both, for several numbers of groups
`~obscluster.grouping.information.premerge`            more runs than fit into memory
`~obscluster.grouping.information.cluster`             what a user calls
=====================================================  ===========================================
"""

from obscluster.grouping.information.cluster import cluster_by_information, information_partitions

__all__ = ["cluster_by_information", "information_partitions"]
