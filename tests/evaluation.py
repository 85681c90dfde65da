"""Features of responses that tests build by hand."""

from obscluster.features.base import Run
from obscluster.features.catalog import FEATURES


def evaluate(name, irf, energy=1.0, offset=0.5, containment_fraction=0.68):
    """Value of a feature of the response, and what is remarked."""
    feature = FEATURES[name]
    run = Run(None, dict.fromkeys(feature.needs, irf), offset)
    run.containment_fraction = containment_fraction
    arguments = (energy,) if feature.per_energy else ()
    return feature.function(run, *arguments), "; ".join(run.remarks)
