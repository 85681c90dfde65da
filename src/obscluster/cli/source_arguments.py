"""The arguments that say what source is measured, for information losses."""

from __future__ import annotations

import argparse
from typing import Any

__all__ = ["SOURCE", "add_source", "source_config"]

# Option to the part of the configuration and its key there.
SOURCE = {
    "flux": ("source", "amplitude"),
    "index": ("source", "index"),
    "reference": ("source", "reference"),
    "model": ("source", "model"),
    "cutoff": ("source", "cutoff"),
    "curvature": ("source", "curvature"),
    "size": ("source", "size"),
    "parameters": ("source", "parameters"),
    "energy_range": ("counts", "energy"),
    "bins_per_decade": ("counts", "bins_per_decade"),
    "safe_energy": ("counts", "safe_energy"),
    "aeff_fraction": ("counts", "aeff_fraction"),
    "background": ("counts", "background"),
    "fit_background": ("counts", "fit_background"),
}


def add_source(command: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    source = command.add_argument_group("the source that is measured, for the information loss")
    source.add_argument(
        "--flux", help='at the reference energy: "0.6 %% Crab" or "2e-13 cm-2 s-1 TeV-1" '
        '(default: "1 %% Crab")'
    )  # fmt: skip
    source.add_argument("--index", type=float, metavar="N", help="spectral index (default: 2.7)")
    source.add_argument("--reference", metavar="E", help='reference energy (default: "1 TeV")')
    source.add_argument(
        "--model",
        choices=["power-law", "cutoff-power-law", "log-parabola"],
        help="spectrum (default: power-law)",
    )
    source.add_argument("--cutoff", metavar="E", help="energy of the cut-off")
    source.add_argument("--curvature", type=float, metavar="N", help="of a log parabola")
    source.add_argument("--size", help='sigma of a Gaussian source (default: "0 deg", a point)')
    source.add_argument(
        "--parameters",
        nargs="+",
        metavar="NAME",
        help="what is measured: amplitude, index, lambda_, curvature, size (default: amplitude "
        "index)",
    )
    source.add_argument(
        "--energy-range",
        nargs=2,
        metavar=("LOW", "HIGH"),
        help='reconstructed energies (default: "0.1 TeV" "100 TeV")',
    )
    source.add_argument(
        "--bins-per-decade", type=int, metavar="N", help="bins in energy (default: 8)"
    )
    source.add_argument(
        "--safe-energy",
        choices=["aeff-max", "index", "none"],
        help="lowest energy of a run: by its effective area (default), from the obs-index, or none",
    )
    source.add_argument(
        "--aeff-fraction", type=float, metavar="F", help="of its maximum (default: 0.1)"
    )
    source.add_argument(
        "--background",
        help='"irf", "events" (of the run itself), "auto" (the first that there is, default), or a '
        'rate such as "100 s-1 sr-1", in all energies (falling as E^-2.7) or per bin, separated '
        "by commas",
    )
    source.add_argument(
        "--fit-background",
        action="store_true",
        default=None,
        help="the normalisation of the background of each group is fitted",
    )


def source_config(arguments: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """The parts of the configuration that were asked for."""
    config: dict[str, dict[str, Any]] = {}
    for option, (part, key) in SOURCE.items():
        value = getattr(arguments, option)
        if value is not None:
            config.setdefault(part, {})[key] = value
    return config
