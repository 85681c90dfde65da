"""``obscluster info``: what is in an archive.

``obscluster check``: what is wrong with an archive.

``obscluster index``: write the index files of an archive.

``obscluster features``: what can characterise a run.

``obscluster init``: an example description for an archive.

``obscluster simulate``: an archive whose truth is known.
"""

from __future__ import annotations

import argparse
import io
import shutil
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from obscluster.cli.terminal import (
    add_archive,
    add_command,
    add_overwriting_of_file,
    archive_config,
    archive_of,
    progress_bar,
    say,
)

if TYPE_CHECKING:
    from astropy.table import Table

    from obscluster.gadf.discover import Discovery

_INFO_EXAMPLES = """\
examples:
  obscluster info $GAMMAPY_DATA/hess-dl3-dr1
  the same, with the livetimes of the index held against the good time intervals of all runs:
    obscluster info $GAMMAPY_DATA/hess-dl3-dr1 --all
"""


def add_info(commands: Any) -> None:
    """Describe the arguments."""
    command = add_command(commands, "info", "say what is in an archive", _INFO_EXAMPLES, run_info)
    add_archive(command)
    command.add_argument(
        "--all", action="store_true", help="verify livetimes by the good time intervals of all runs"
    )


def run_info(arguments: argparse.Namespace) -> int:
    """Print the description of an archive."""
    from obscluster.archive.store import DataStore
    from obscluster.workflow.info import describe_archive

    data_store = DataStore.from_dir(*archive_of(arguments))
    total = len(data_store.obs_table)
    wrap = partial(progress_bar, total=total, what="headers")
    print(describe_archive(data_store, wrap, arguments.all))
    return 0


_CHECK_EXAMPLES = """\
examples:
  obscluster check $GAMMAPY_DATA/hess-dl3-dr1
  obscluster check archive/ --workers 4 --all --output findings.ecsv

exit code: 0 without errors (there may be warnings), 1 with errors, 2 if the archive cannot be
opened.
"""


def add_check(commands: Any) -> None:
    """Describe the arguments."""
    summary = "check every run and every HDU of an archive"
    command = add_command(commands, "check", summary, _CHECK_EXAMPLES, run_check)
    add_archive(command)
    command.add_argument(
        "--workers", type=int, default=1, metavar="N", help="files read at once (default: 1)"
    )
    command.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="write the findings as an ECSV table"
    )
    add_overwriting_of_file(command)
    command.add_argument(
        "--all", action="store_true", help="list each finding, not one line for many runs"
    )


def run_check(arguments: argparse.Namespace) -> int:
    """Check, tell, and write."""
    from obscluster.archive.store import DataStore
    from obscluster.check import check_archive, describe_findings, severity_counts
    from obscluster.files.output import check_file
    from obscluster.gadf.index import expand_path
    from obscluster.parallel.engine import get_engine

    engine = get_engine(arguments.workers)
    # Before the work, not after it.
    data_store = DataStore.from_dir(*archive_of(arguments), strict=False)
    if arguments.output is not None:
        manner = arguments.overwrite, arguments.force, expand_path(arguments.archive)
        check_file(arguments.output, *manner)
    total = len(data_store.obs_ids)
    findings = check_archive(
        data_store, engine, lambda results: progress_bar(results, total, "checked")
    )
    width = min(max(shutil.get_terminal_size((100, 24)).columns, 80), 120)
    print(describe_findings(findings, every=arguments.all, width=width))
    if arguments.output is not None:
        _write(findings, arguments.output, *manner)
        say("", f"findings in {arguments.output}")
    return 1 if severity_counts(findings)["error"] else 0


def _write(findings: Table, output: Path, overwrite: bool, force: bool, archive: Path) -> None:
    from obscluster.files.output import write_file
    from obscluster.files.records import UNSEALED

    content = io.StringIO()
    findings.meta["seal"] = UNSEALED
    findings.write(content, format="ascii.ecsv")
    write_file(output, content.getvalue(), overwrite, force, archive)


_INDEX_EXAMPLES = """\
examples:
  index the FITS files in a directory and below it:
    obscluster index archive/
  with one response file for all runs, and the index files in another directory:
    obscluster index $GAMMAPY_DATA/fact-crab --irf $GAMMAPY_DATA/fact-crab/fact_irf.fits \\
        --output my-index/
"""
_MAX_LINES = 50


def add_index(commands: Any) -> None:
    """Describe the arguments."""
    command = add_command(
        commands, "index", "write the index files of an archive", _INDEX_EXAMPLES, run_index
    )
    command.add_argument("directory", help="directory with FITS files, also further down in it")
    command.add_argument(
        "-o", "--output", type=Path, help="directory for the index files (default: the same)"
    )
    command.add_argument(
        "--irf",
        nargs="+",
        metavar="FILE",
        help="file with the responses of all runs, or one per run (default: found by headers)",
    )
    command.add_argument("--overwrite", action="store_true", help="replace index files")


def run_index(arguments: argparse.Namespace) -> int:
    """Read the headers, write, and tell."""
    from obscluster.gadf.discover import check_index_files, discover, write_index_files
    from obscluster.gadf.index import expand_path

    directory = _existing_directory(arguments.directory)
    output = directory if arguments.output is None else expand_path(arguments.output)
    # Before the work, not after it.
    check_index_files(output, arguments.overwrite)
    found = discover(
        directory,
        arguments.irf,
        base_dir=output,
        progress=lambda files: progress_bar(files, len(files), "headers"),
    )
    written = write_index_files(found, output, arguments.overwrite)
    _print(found)
    say(f"{' and '.join(path.name for path in written)} written to {output}")
    return 0


def _existing_directory(name: str) -> Path:
    from obscluster.exceptions import ArchiveError
    from obscluster.gadf.index import expand_path

    directory = expand_path(name)
    if not directory.is_dir():
        what = "is a file; name its directory" if directory.exists() else "no such directory"
        raise ArchiveError(f"{directory}: {what}")
    return directory


def _print(found: Discovery) -> None:
    obs_ids = found.obs_table["OBS_ID"]
    kinds = Counter(str(kind) for kind in found.hdu_table["HDU_CLASS"])
    say(f"{len(obs_ids)} runs, OBS_ID {obs_ids[0]} to {obs_ids[-1]}")
    say(f"HDUs: {', '.join(f'{kind} ({n})' for kind, n in kinds.items())}")
    for remark in found.remarks:
        say(f"obscluster: warning: {remark}", error=True)
    for path, reason in list(found.skipped.items())[:_MAX_LINES]:
        say(f"left out: {path}: {reason}", error=True)
    if len(found.skipped) > _MAX_LINES:
        say(f"... and {len(found.skipped) - _MAX_LINES} more left out", error=True)


_FEATURES_EXAMPLES = """\
examples:
  obscluster features

Beside these, every numeric column of an archive's obs-index is a feature by its name. A feature
that depends on an energy takes it from --energy, or carries it: psf-r68@10TeV.
"""


def add_features(commands: Any) -> None:
    """Describe the arguments."""
    add_command(
        commands,
        "features",
        "list the features that a run can have",
        _FEATURES_EXAMPLES,
        run_features,
    )


def run_features(arguments: argparse.Namespace) -> int:
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


_INIT_EXAMPLES = """\
examples:
  a description of what can be done with an archive, with all options as comments, and a run of it:
    obscluster init $GAMMAPY_DATA/hess-dl3-dr1 -o run.yaml
    obscluster run run.yaml -o results/
  only what makes datasets of groups that are there already:
    obscluster init $GAMMAPY_DATA/hess-dl3-dr1 --reduce -o reduce.yaml
    obscluster reduce results/ --config reduce.yaml -o datasets/
"""


def add_init(commands: Any) -> None:
    """Describe the arguments."""
    command = add_command(
        commands,
        "init",
        "write a commented example description for an archive",
        _INIT_EXAMPLES,
        run_init,
    )
    add_archive(command)
    command.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="the description (default: run.yaml, or reduce.yaml)",
    )
    command.add_argument(
        "--reduce", action="store_true", help="describe a reduction of groups, not a whole run"
    )
    add_overwriting_of_file(command)
    command.add_argument(
        "--all",
        action="store_true",
        help="take livetimes from the good time intervals of all runs, rather than from the index",
    )


def run_init(arguments: argparse.Namespace) -> int:
    """Look at the archive, write, and say what to do next."""
    from obscluster.workflow.init import write_description

    reduction = arguments.reduce
    path = arguments.output or Path("reduce.yaml" if reduction else "run.yaml")
    write_description(
        archive_config(arguments),
        path,
        arguments.overwrite,
        arguments.all,
        arguments.force,
        reduction,
    )
    after = (
        f"reduce GROUPS --config {path} -o datasets/" if reduction else f"run {path} -o results/"
    )
    say(f"description in {path}; next: obscluster {after}")
    return 0


_SIMULATE_EXAMPLES = """\
examples:
  obscluster simulate demo-archive/ --n-obs 60 --seed 1
"""


def add_simulate(commands: Any) -> None:
    """Describe the arguments."""
    summary = "write a simulated archive whose true epochs are known"
    command = add_command(commands, "simulate", summary, _SIMULATE_EXAMPLES, run_simulate)
    command.add_argument("directory", type=Path, help="where the archive is to be")
    command.add_argument("--n-obs", type=int, default=60, metavar="N", help="runs (default: 60)")
    command.add_argument("--seed", type=int, default=1, help="same seed, same archive (default: 1)")
    command.add_argument(
        "--n-epochs", type=int, default=3, metavar="N", help="instrument epochs (default: 3)"
    )
    command.add_argument(
        "--psf",
        choices=["psf_table", "psf_3gauss", "psf_king"],
        default="psf_table",
        help="format of the PSF (default: psf_table)",
    )
    command.add_argument(
        "--bkg",
        choices=["bkg_3d", "bkg_2d"],
        default="bkg_3d",
        help="format of the background (default: bkg_3d)",
    )
    command.add_argument(
        "--size",
        choices=["full", "small"],
        default="full",
        help="binning of the responses (default: full)",
    )
    command.add_argument("--overwrite", action="store_true", help="replace an archive")


def run_simulate(arguments: argparse.Namespace) -> int:
    """Write the archive."""
    from obscluster.simulate import simulate

    simulate(
        arguments.directory,
        n_obs=arguments.n_obs,
        seed=arguments.seed,
        n_epochs=arguments.n_epochs,
        psf=arguments.psf,
        bkg=arguments.bkg,
        size=arguments.size,
        overwrite=arguments.overwrite,
        progress=lambda rows: progress_bar(rows, arguments.n_obs, "simulated runs"),
    )
    say(f"{arguments.n_obs} runs in {arguments.directory}; the column EPOCH holds the truth")
    return 0
