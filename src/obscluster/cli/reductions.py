"""``obscluster reduce``: every group to a dataset.

``obscluster fit``: the joint fit of reduced groups.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from obscluster.cli.terminal import (
    STRICT,
    add_archive,
    add_command,
    add_strict,
    add_trust,
    archive_config,
    progress_bar,
    say,
    writing,
)
from obscluster.exceptions import ArchiveError, RequestError

_REDUCE_EXAMPLES = """\
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
        if text == _REDUCE_EXAMPLES:
            from obscluster.config.reduction import describe_keys

            keys = "\n".join(f"  {line}" for line in describe_keys())
            text = f"keys of the description, with their defaults:\n{keys}\n\n{text}"
        super().add_text(text)


def add_reduce(commands: Any) -> None:
    """Describe the arguments."""
    command = add_command(
        commands,
        "reduce",
        "reduce the runs of each group to one dataset",
        _REDUCE_EXAMPLES,
        run_reduce,
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


def run_reduce(arguments: argparse.Namespace) -> int:
    """Reduce, write, and tell."""
    from obscluster.reduction import make_reduce_config, read_reduce_config, require_gammapy

    require_gammapy()
    from obscluster.reduction import reduce_groups
    from obscluster.reduction.stack import describe_deviation
    from obscluster.views.text import describe_unread

    content: dict[str, Any] = {}
    if arguments.config is not None:
        content = read_reduce_config(arguments.config).model_dump(exclude_unset=True)
    for names, value in _asked_of_reduction(arguments).items():
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


def _asked_of_reduction(arguments: argparse.Namespace) -> dict[str, Any]:
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


_FIT_EXAMPLES = """\
examples:
  fit what `obscluster reduce` has written, as its description says:
    obscluster fit datasets/
  another spectrum, to somewhere else:
    obscluster fit datasets/ --model log-parabola -o log-parabola/
  several telescopes, each from its own archive and description, with flux points of a third:
    obscluster fit hess/ fact/ --flux-points hawc.ecsv --normalisation per-instrument -o joint/
  the same fit with runs apart, in groups, and all stacked (needs the datasets of the runs):
    obscluster fit datasets/ --compare
"""


def add_fit(commands: Any) -> None:
    """Describe the arguments."""
    command = add_command(commands, "fit", "fit the reduced groups jointly", _FIT_EXAMPLES, run_fit)
    command.add_argument(
        "datasets", type=Path, nargs="+", help="what `obscluster reduce` has written"
    )
    command.add_argument(
        "-o", "--output", type=Path, help="directory for results (default: fit/ in the datasets)"
    )
    command.add_argument(
        "--flux-points",
        nargs="+",
        type=Path,
        default=[],
        metavar="FILE",
        help="flux points of others to fit, too: FITS or ECSV in the format of GADF",
    )
    command.add_argument("--overwrite", action="store_true", help="replace results in the output")
    command.add_argument(
        "--config", type=Path, help="YAML description, of which the part fit counts"
    )
    command.add_argument("--model", choices=["power-law", "cutoff-power-law", "log-parabola"])
    command.add_argument("--spatial", choices=["point", "gaussian"], help="for maps")
    command.add_argument("--reference", metavar="E", help='reference energy (default: "1 TeV")')
    command.add_argument(
        "--energy-range", nargs=2, metavar=("LOW", "HIGH"), help="energies of the fit"
    )
    command.add_argument(
        "--normalisation",
        choices=["shared", "per-group", "per-instrument"],
        help="one for all (default), or one of each group or instrument",
    )
    command.add_argument(
        "--parameters",
        choices=["shared", "per-group"],
        help="one spectrum for all (default), or a whole one of each group",
    )
    command.add_argument(
        "--light-curve",
        choices=["run", "night", "none"],
        help="flux against time (default: night; needs the datasets of the runs)",
    )
    command.add_argument("--no-plots", action="store_true", help="draw no plots")
    command.add_argument(
        "--compare", action="store_true", help="compare with runs apart and all stacked"
    )
    command.add_argument(
        "--losses", type=Path, help="losses.ecsv of `obscluster assess`, to go beside"
    )
    add_trust(command)


def run_fit(arguments: argparse.Namespace) -> int:
    """Fit, write, and tell."""
    from obscluster.reduction import make_reduce_config, read_reduce_config, require_gammapy

    require_gammapy()
    from obscluster.reduction import compare_groupings, join_reductions, read_reduction, write_fit
    from obscluster.reduction.comparison import describe_comparison

    several = len(arguments.datasets) > 1
    if several and arguments.output is None:
        raise RequestError("say where the fit of several reductions goes: --output DIR")
    if several and arguments.compare:
        raise RequestError("--compare is for one reduction; fit each of them with it")
    reductions = [read_reduction(path, arguments.trust) for path in arguments.datasets]
    config, asked = None, _asked_of_fit(arguments)
    if arguments.config is not None or asked:
        settings = make_reduce_config(reductions[0].record["config"])
        if arguments.config is not None:
            settings = read_reduce_config(arguments.config)
        content = settings.fit.model_dump()
        if several and arguments.config is None:
            # Each is fitted in the energies of its own description.
            content |= {"min": None, "max": None}
        config = make_reduce_config({"fit": content | asked}).fit
    joint = join_reductions(reductions, config, arguments.flux_points)
    output = arguments.output or arguments.datasets[0] / "fit"
    with writing(output, arguments.overwrite, reductions[0].archive):
        # What is missing is told before the work, not after.
        losses = _losses(arguments.losses)
        if arguments.compare:
            reductions[0].require_runs()
        found = joint.examine(joint.fit())
        comparison = None
        if arguments.compare:
            comparison = compare_groupings(
                reductions[0], joint.config, losses=losses, progress=progress_bar
            )
        files = write_fit(
            found.fit,
            joint,
            output,
            arguments.overwrite,
            not arguments.no_plots,
            comparison,
            found,
        )
    print(found)
    fit = found.fit
    if fit.messages:
        say(f"  Gammapy gave {sum(fit.messages.values())} warnings, see fit.yaml")
    if comparison is not None:
        print("", describe_comparison(comparison), sep="\n")
    say("", f"results in {output}: {', '.join(sorted(files))}")
    return 0 if fit.success else 1


def _asked_of_fit(arguments: argparse.Namespace) -> dict[str, Any]:
    names = ("model", "spatial", "reference", "normalisation", "parameters", "light_curve")
    asked = {name: getattr(arguments, name) for name in names}
    if arguments.energy_range is not None:
        asked["min"], asked["max"] = arguments.energy_range
    return {name: value for name, value in asked.items() if value is not None}


def _losses(path: Path | None) -> Any:
    """Predicted growths of errors, None if nobody names them."""
    from obscluster.files.ecsv import read_ecsv

    try:
        return None if path is None else read_ecsv(path)
    except ArchiveError as error:
        raise RequestError(f"losses {error}") from None
