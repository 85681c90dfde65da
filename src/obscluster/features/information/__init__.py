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

`obscluster.grouping.information` finds the groups that lose least.
"""

from obscluster.features.information.binning import Binning, make_binning
from obscluster.features.information.loss import (
    LossSummary,
    error_inflation,
    fisher_matrix,
    information_loss,
    loss_summary,
)
from obscluster.features.information.runs import get_scores
from obscluster.features.information.scores import Scores
from obscluster.features.information.source import CRAB, Source, make_source

__all__ = [
    "CRAB",
    "Binning",
    "LossSummary",
    "Scores",
    "Source",
    "error_inflation",
    "fisher_matrix",
    "get_scores",
    "information_loss",
    "loss_summary",
    "make_binning",
    "make_source",
]
