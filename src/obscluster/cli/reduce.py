"""``obscluster reduce``: every group to a dataset."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from obscluster.cli.common import (
    STRICT,
    add_archive,
    add_command,
    add_strict,
    add_trust,
    archive_config,
    progress_bar,
)
from obscluster.cli.terminal import say

EXAMPLES = """\
examples:
  spectra of the groups that `obscluster group` has found, with two processes:
    obscluster reduce groups/ --config reduce.yaml --workers 2 -o datasets/
  a description to begin with, for these data:
    obscluster init $GAMMAPY_DATA/hess-dl3-dr1 --reduce -o reduce.yaml
  without one, the datasets of the single runs beside:
    obscluster reduce groups/ --target "329.717 -30.226" --on-radius "0.1 deg" \\
        --energy-range "0.1 TeV" "100 TeV" --bins-per-decade 5 --keep-runs -o datasets/

A reduction that was interrupted goes on from the groups that are complete when it is started again.
"""

_SHOWN = 10
_RUNS = 5


class _WithKeys(argparse.RawDescriptionHelpFormatter):
    """Help that ends with the keys of the description, which are loaded for it alone."""

    def add_text(self, text: str | None) -> None:
        """Add the keys behind the examples."""
        if text == EXAMPLES:
            from obscluster.reduction.config import describe_keys

            keys = "\n".join(f"  {line}" for line in describe_keys())
            text = f"keys of the description, with their defaults:\n{keys}\n\n{text}"
        super().add_text(text)


def add(commands: Any) -> None:
    """Describe the arguments."""
    command = add_command(
        commands,
        "reduce",
        "reduce the runs of each group to one dataset",
        EXAMPLES,
        run,
        interrupted="complete groups are kept, the same command goes on from them",
    )
    command.formatter_class = _WithKeys
    command.add_argument("groups", type=Path, help="groups.yaml, or the directory that has it")
    command.add_argument("--config", type=Path, help="YAML description, also of a whole run")
    command.add_argument("-o", "--output", required=True, type=Path, help="directory for datasets")
    command.add_argument("--overwrite", action="store_true", help="replace results in the output")
    add_archive(command, optional=True)
    command.add_argument("--target", help='"RA DEC" in degrees, or a name; that of the groups')
    command.add_argument("--kind", choices=["1d", "3d"], help="spectra or maps (default: 1d)")
    command.add_argument(
        "--on-radius",
        metavar="ANGLE",
        help='1d: radius of the region around the target (default: "0.11 deg"; point-like runs '
        "bring their own)",
    )
    command.add_argument(
        "--energy-range",
        nargs=2,
        metavar=("LOW", "HIGH"),
        help='reconstructed energies (default: "0.1 TeV" "100 TeV")',
    )
    command.add_argument(
        "--bins-per-decade", type=int, metavar="N", help="bins in energy (default: 10)"
    )
    command.add_argument(
        "--background",
        choices=["auto", "reflected", "wobble", "ring", "fov"],
        help="how it is found (default: auto, what fits)",
    )
    command.add_argument(
        "--off-regions", type=int, metavar="N", help="1d: at most so many reflected regions"
    )
    command.add_argument("--keep-runs", action="store_true", help="write the single runs too")
    command.add_argument("--workers", type=int, metavar="N", help="processes (default: 1)")
    add_trust(command)
    add_strict(command)


def run(arguments: argparse.Namespace) -> int:
    """Reduce, write, and tell."""
    from obscluster.reduction import make_reduce_config, read_reduce_config, require_gammapy

    require_gammapy()
    from obscluster.reduction import reduce_groups
    from obscluster.reduction.stack import describe_deviation
    from obscluster.summary import describe_unread

    content: dict[str, Any] = {}
    if arguments.config is not None:
        content = read_reduce_config(arguments.config).model_dump(exclude_unset=True)
    for names, value in _asked(arguments).items():
        *parts, key = names.split(".")
        part = content
        for name in parts:
            part = part.setdefault(name, {})
        part[key] = value
    config = make_reduce_config(content)
    fit = arguments.output / "fit" / "fit.yaml"
    had_fit = fit.exists()
    reduction = reduce_groups(
        arguments.groups,
        config,
        arguments.output,
        archive_config(arguments),
        progress_bar,
        arguments.overwrite,
        arguments.trust,
    )
    for line in describe_unread(reduction.unread, reduction.obs_ids, reduction.unread, "datasets"):
        say(line)
    deviations = {
        name: describe_deviation(group["deviation"])
        for name, group in reduction.groups.items()
        if group["obs_ids"]
    }
    _print_groups(reduction.groups, deviations)
    for line in reduction.record["advice"]:
        say("", line)
    if had_fit and not fit.exists():
        say("", f"the fit in {fit.parent} was of earlier datasets and is removed; fit again")
    n_files = sum(len(group["checksums"]) for group in reduction.groups.values())
    files = f"datasets.yaml, models.yaml, reduction.yaml, and {n_files} files of data"
    say("", f"results in {arguments.output}: {files}")
    return STRICT if arguments.strict and reduction.unread else 0


def _asked(arguments: argparse.Namespace) -> dict[str, Any]:
    """Keys of the description that options replace."""
    low, high = arguments.energy_range or (None, None)
    options = {
        "target": arguments.target,
        "kind": arguments.kind,
        "workers": arguments.workers,
        "keep_runs": arguments.keep_runs or None,
        "region.radius": arguments.on_radius,
        "energy.min": low,
        "energy.max": high,
        "energy.bins_per_decade": arguments.bins_per_decade,
        "background.method": arguments.background,
        "background.off_regions": arguments.off_regions,
    }
    return {key: value for key, value in options.items() if value is not None}


def _print_groups(groups: dict[str, Any], deviations: dict[str, str]) -> None:
    for name, group in groups.items():
        left_out = f", {len(group['skipped'])} left out" if group["skipped"] else ""
        if not group["obs_ids"]:
            say(f"{name}: no dataset{left_out}")
            continue
        say(
            f"{name}: {len(group['obs_ids'])} runs{left_out}, {group['livetime']}, "
            f"{group['counts']} counts, {group['background']:.1f} of them expected background"
            + (f", from {group['energy_min']}" if "energy_min" in group else "")
        )
        say(f"  {deviations[name]}")
    skipped = {i: why for group in groups.values() for i, why in group["skipped"].items()}
    if skipped:
        say("", f"left out: {len(skipped)} runs")
        runs: dict[str, list[str]] = {}
        for obs_id, why in skipped.items():
            runs.setdefault(why, []).append(str(obs_id))
        for why, some in list(runs.items())[:_SHOWN]:
            more = f" and {len(some) - _RUNS} more" if len(some) > _RUNS else ""
            say(f"  {', '.join(some[:_RUNS])}{more}: {why}")
        if len(runs) > _SHOWN:
            say(f"  and for {len(runs) - _SHOWN} more reasons, see reduction.yaml")
    said = sum(sum(group["messages"].values()) for group in groups.values())
    if said:
        say("", f"Gammapy gave {said} warnings, which are in reduction.yaml under messages")
