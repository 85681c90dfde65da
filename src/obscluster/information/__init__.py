"""The information that stacking runs loses.

======================  ===========================================================================
you want                use
======================  ===========================================================================
to say what is          `make_source`: spectrum, size and parameters of interest
measured
expected counts and     `get_scores`, in bins of `make_binning`; or `Scores`, from counts of your
their derivatives       own
what a grouping costs   `information_loss`, `error_inflation`, or `loss_summary` for all at once
errors that a fit will  `fisher_matrix`
have
======================  ===========================================================================

groups that lose least   `cluster_by_information`, `information_partitions`
"""

from obscluster.information.cluster import cluster_by_information, information_partitions
from obscluster.information.counts import Binning, make_binning
from obscluster.information.loss import (
    LossSummary,
    error_inflation,
    fisher_matrix,
    information_loss,
    loss_summary,
)
from obscluster.information.scores import Scores, get_scores
from obscluster.information.source import CRAB, Source, make_source

__all__ = [
    "CRAB",
    "Binning",
    "LossSummary",
    "Scores",
    "Source",
    "cluster_by_information",
    "error_inflation",
    "fisher_matrix",
    "get_scores",
    "information_loss",
    "information_partitions",
    "loss_summary",
    "make_binning",
    "make_source",
]
