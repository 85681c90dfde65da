"""What a grouping is worth, and what it costs.

=========================================  ====================================================
you ask                                    use
=========================================  ====================================================
how different are the runs that I stack?   `spreads`: range of every feature in every group;
                                           `worst_spreads`: the largest over all groups
how many groups?                           `labels_of_tree` or any method, then `quality`: indices
                                           and spreads against the number of groups;
                                           `suggest_n_groups`: one number, with its reason
would other runs, or slightly different    `stability`: resampling of runs, and noise
features, give the same groups?
which runs are like no other?              `outliers`: runs far from every group
do two groupings agree?                    `compare`: contingency table and adjusted Rand index
=========================================  ====================================================

No number here says how many groups are right. The indices ask whether runs come in clumps; the
spreads say what is lost by stacking runs that differ. Where conditions vary without a gap, as the
zenith angle usually does, the spreads are the better guide.

Labels may be given as a `~obscluster.grouping.base.Grouping`, whose runs are then found by their
``obs_id``, or as integers, one per row: from 1, and -1 for runs that belong to no group.
"""

from obscluster.assessment.comparison import Comparison, compare
from obscluster.assessment.distance import outliers
from obscluster.assessment.n_groups import Suggestion, labels_of_tree, quality, suggest_n_groups
from obscluster.assessment.robustness import Stability, stability
from obscluster.assessment.within_groups import spreads, worst_spreads

__all__ = [
    "Comparison",
    "Stability",
    "Suggestion",
    "compare",
    "labels_of_tree",
    "outliers",
    "quality",
    "spreads",
    "stability",
    "suggest_n_groups",
    "worst_spreads",
]
