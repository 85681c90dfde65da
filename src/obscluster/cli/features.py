"""``obscluster features``: what can characterise a run."""

from __future__ import annotations

import argparse
from typing import Any

from obscluster.cli.common import add_command
from obscluster.cli.terminal import say

EXAMPLES = """\
examples:
  obscluster features

Beside these, every numeric column of an archive's obs-index is a feature by its name. A feature
that depends on an energy takes it from --energy, or carries it: psf-r68@10TeV.
"""


def add(commands: Any) -> None:
    """Describe the arguments."""
    add_command(commands, "features", "list the features that a run can have", EXAMPLES, run)


def run(arguments: argparse.Namespace) -> int:
    """Print name, unit and description of each feature."""
    del arguments
    from obscluster.features.catalog import FEATURES

    say(f"{'feature':18s} {'unit':9s} {'needs':8s} {'energy':6s}  description")
    for feature in FEATURES.values():
        energy = "yes" if feature.per_energy else ""
        needs = ", ".join(feature.needs)
        say(
            f"{feature.name:18s} {feature.unit.to_string('fits'):9s} {needs:8s} {energy:6s}  "
            f"{feature.description}"
        )
    return 0
