"""A commented description of a run or of a reduction, for an archive as it is.

Three kinds of lines: YAML; options, behind ``# ``, which are valid as soon as this is taken away;
and explanations, behind ``## ``. An option that would name a key again says so: it stands instead
of the block above it.
"""

from __future__ import annotations

import os
import textwrap
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable
from numpy.typing import NDArray

from obscluster.archive.description import open_archive
from obscluster.archive.kinds import Kind, kind_of, settled
from obscluster.archive.obs_table import ObservationTable, livetime_text, several_rows
from obscluster.archive.quantities import column_of
from obscluster.archive.selection import pointing, resolve_target, target_names
from obscluster.archive.store import DataStore
from obscluster.exceptions import DataError, ObsClusterWarning, RequestError
from obscluster.features.table import get_features
from obscluster.files.output import check_file, write_file
from obscluster.files.records import UNSEALED
from obscluster.gadf.index import expand_path
from obscluster.values.columns import is_numeric
from obscluster.workflow.runs import default_features

__all__ = [
    "MANY_RUNS",
    "ArchiveFacts",
    "describe_reduction",
    "describe_run",
    "feature_blocks",
    "first_blocks",
    "grouping_blocks",
    "last_blocks",
    "look_at",
    "mean_pointing",
    "nice",
    "reduction_blocks",
    "write_description",
]

# So many runs are looked at, evenly over the archive.
_LOOKED_AT = 20
_FEWEST_RUNS = 4
_MOST_TARGETS = 6
# In the order of what groups are mostly made by; the second are for archives with one response.
_RESPONSES = ("psf-r68", "edisp-res68", "aeff", "bkg-rate")
_CONDITIONS = ("zenith", "muoneff", "nsb", "event-rate", "n-tels")
_MOST_FEATURES = 3
# What varies less does not tell runs apart.
_VARIES = 0.02
_NICE = np.array([1.0, 2.0, 5.0])
MANY_RUNS = 2000
"""For more runs than these, trying all numbers of groups takes long."""


@dataclass(frozen=True, eq=False)
class ArchiveFacts:
    """What a description needs to know of an archive.

    Parameters
    ----------
    data_store : `~obscluster.archive.store.DataStore`
        The archive.
    names : dict
        Names of targets to their numbers of runs, most first.
    target : str or None
        The one of these that has most runs around it, with coordinates.
    obs_table : `~obscluster.archive.obs_table.ObservationTable`
        The runs around it, or all.
    energy : str
        An energy in the middle of what the responses cover.
    limits : tuple of str
        The range that they cover.
    features : list of str
        What tells the runs apart.
    within : list of str
        Columns whose values should not be mixed.
    kind : `~obscluster.archive.kinds.Kind`
        What most of the runs that were looked at are.
    has_background : bool
        Whether all of these have a background response.
    psf_radius : float
        In degrees: how far 68 % of their PSF reach at the energy; NaN where nobody knows.
    offset : float
        In degrees: median distance of their pointings from the target; NaN without one.
    verified : bool
        Whether livetimes are those of the good time intervals, rather than of the index.
    """

    data_store: DataStore
    names: dict[str, int]
    target: str | None
    obs_table: ObservationTable
    energy: str
    limits: tuple[str, str]
    features: list[str]
    within: list[str]
    kind: Kind
    has_background: bool
    psf_radius: float
    offset: float
    verified: bool = False

    @property
    def n_obs(self) -> int:
        """Number of runs."""
        return len(self.obs_table)

    @property
    def hours(self) -> float:
        """Their live time."""
        return float(np.nansum(self.livetimes_of(self.obs_table)))

    def livetimes_of(self, table: ObservationTable) -> NDArray[np.float64]:
        """Live times in hours, by the index or, if they are verified, by the good time."""
        known = column_of(table, "livetime", files=self.verified)
        return np.asarray(known.value.to_value(u.h))


def look_at(data_store: DataStore, verify: bool = False) -> ArchiveFacts:
    """Look at the index, and at the responses of a few runs."""
    names = target_names(data_store.obs_table)
    target, obs_table = _target(data_store.obs_table, names)
    rows = np.unique(
        np.linspace(0, len(obs_table) - 1, min(len(obs_table), _LOOKED_AT)).astype(int)
    )
    observations = list(data_store.get_observations(obs_table[rows], skip_missing=True))
    energy, limits = _energies(observations)
    position = None if target is None else resolve_target(data_store.obs_table, target).position
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ObsClusterWarning)
        about = get_features(observations, ["psf-r68", "offset"], energy, position)
    kinds = Counter(settled([kind_of(obs.passing()) for obs in observations]))
    return ArchiveFacts(
        data_store=data_store,
        names=names,
        target=target,
        obs_table=obs_table,
        energy=energy,
        limits=limits,
        features=_features(obs_table, observations, energy, position),
        within=[name for name in ("N_TELS", "EPOCH") if _is_category(obs_table, name)],
        kind=kinds.most_common(1)[0][0] if kinds else Kind(),
        has_background=all("bkg" in obs.available_irfs for obs in observations),
        psf_radius=_median(about["psf-r68"]),
        offset=float("nan") if position is None else _median(about["offset"]),
        verified=verify,
    )


def _target(table: ObservationTable, names: Iterable[str]) -> tuple[str | None, ObservationTable]:
    """The target with most runs around it, and these; none and all runs, if there is no such."""
    for name in list(names)[:_MOST_TARGETS]:
        try:
            target = resolve_target(table, name)
            selected = table.select_observations(dict(target.selection))
        except RequestError:
            continue
        if len(selected) >= _FEWEST_RUNS:
            return name, selected
    return None, table


def _energies(observations: Sequence[Any]) -> tuple[str, tuple[str, str]]:
    """An energy in the middle of what the responses cover, near 1 TeV, and a range."""
    low, high = 0.1, 100.0
    with warnings.catch_warnings():
        # Only a few runs are looked at; what cannot be read is told when they are used.
        warnings.simplefilter("ignore", ObsClusterWarning)
        table = get_features(observations, ["aeff-threshold"]) if observations else QTable()
    for obs in observations:
        try:
            axis = None if obs.aeff is None else obs.aeff.axes.get("energy_true")
        except DataError:
            continue
        if axis is not None:
            low, high = float(axis.center[0]), float(axis.center[-1])
            break
    if len(table):
        thresholds = table["aeff-threshold"].to_value(u.TeV)
        if np.isfinite(thresholds).any():
            low = max(low, float(np.nanmedian(thresholds)))
    low, high = nice(low), nice(high * 1.001)
    best = min(max(1.0, 3 * low), high / 3)
    return _energy_text(nice(best * 1.001)), (_energy_text(low), _energy_text(high))


def _median(values: u.Quantity) -> float:
    """Median of angles in degrees; NaN if none is known."""
    found = values.to_value(u.deg)
    found = found[np.isfinite(found)]
    return float(np.median(found)) if len(found) else float("nan")


def nice(value: float) -> float:
    """The next lower of 1, 2 and 5 times a power of ten."""
    power = 10.0 ** np.floor(np.log10(value))
    steps = _NICE[_NICE * power <= value]
    return float(f"{(steps[-1] if len(steps) else 1.0) * power:.6g}")


def _energy_text(tev: float) -> str:
    return f"{tev * 1000:.6g} GeV" if tev < 0.1 else f"{tev:.6g} TeV"


def _features(
    obs_table: ObservationTable,
    observations: Sequence[Any],
    energy: str,
    position: SkyCoord | None,
) -> list[str]:
    """Features that tell the runs of an archive apart, those of `group` first."""
    found: list[str] = []
    for names in (default_features(obs_table), _RESPONSES, _CONDITIONS):
        if len(found) > 1 or not observations:
            break
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ObsClusterWarning)
            table = get_features(observations, list(names), energy=energy, position=position)
        varying = [name for name in names if _varies(np.asarray(table[name].value))]
        found += [name for name in varying if name not in found]
    return found[:_MOST_FEATURES] or ["livetime"]


def _varies(values: Any) -> bool:
    finite = values[np.isfinite(values)]
    if len(finite) < max(2, 0.9 * len(values)):
        return False
    return bool(np.ptp(finite) > _VARIES * np.abs(finite).max())


def _is_category(table: ObservationTable, name: str) -> bool:
    return name in table.colnames and len(np.unique(np.asarray(table[name]))) <= len(table) / 4


def mean_pointing(table: ObservationTable) -> str:
    """Where the runs point, on average, in degrees."""
    try:
        directions = pointing(table)
        directions = directions[np.isfinite(directions.ra.deg) & np.isfinite(directions.dec.deg)]
        mean = SkyCoord(directions.cartesian.mean(), frame="icrs").spherical
        return f"{mean.lon.deg:.3f} {mean.lat.deg:.3f}"
    except (RequestError, ValueError):
        return "83.633 22.014"


_MOST_NAMES = 6
_NO_BREAK = "\N{NO-BREAK SPACE}"


def first_blocks(
    archive: str | os.PathLike[str] | Mapping[str, str], looked_at: ArchiveFacts
) -> list[str]:
    """What it is, which archive, and which of its runs."""
    table = looked_at.data_store.obs_table
    hours = looked_at.livetimes_of(table)
    source = "in good time intervals" if looked_at.verified else "by the index"
    blocks = [
        _said(
            "A run, as `obscluster init` describes it. It is ready for:",
            "    obscluster run FILE -o results/",
            "Lines with ## explain. Lines with # are options: take the # and the blank behind it "
            "away to use one. Where it says INSTEAD, it takes the place of the block of that name.",
        ),
        _said(
            f"The archive: {len(table)} runs, {livetime_text(hours)} {source}; $NAMES and ~ are "
            "expanded."
        )
        + f"\n{_archive_lines(archive)}",
    ]
    names = [f"{_plain(name)} ({n})" for name, n in looked_at.names.items()]
    names = [name.replace(" ", _NO_BREAK) for name in names]
    more = ", ..." if len(names) > _MOST_NAMES else ""
    known = f" Runs by name: {', '.join(names[:_MOST_NAMES])}{more}" if names else ""
    place = _said(
        f"Where the source is: RA and DEC in degrees, or a name that the archive knows.{known}"
    )
    if looked_at.target is not None:
        place += f"\ntarget: {_scalar(looked_at.target)}"
        options = ["radius: 2 deg"]
        what = f"Runs that point no further from it: {looked_at.n_obs} of {len(table)}."
        blocks += [place, _said(what) + "\n" + "\n".join(options)]
    else:
        place += f"\n# target: {_scalar(mean_pointing(table))}"
        blocks += [place, _said("Runs that point no further from it.") + "\n# radius: 2 deg"]
    return [*blocks, *_selection_block(looked_at.obs_table)]


def _selection_block(table: ObservationTable) -> list[str]:
    steps = []
    zenith = table.quantity("ZEN_PNT").value.to_value(u.deg)
    if np.isfinite(zenith).any():
        highest = np.nanmax(zenith)
        limit = int(np.ceil(highest / 10) * 10 + 10)
        steps.append(f"{{type: par_box, variable: ZEN_PNT, value_range: [0 deg, {limit} deg]}}")
    first = int(table["OBS_ID"][0])
    if len(table) > 1:
        steps.append(
            f"{{type: par_box, variable: OBS_ID, value_range: [{first}, {first}], inverted: true}}"
        )
    if not steps:
        return []
    what = "Which of these runs; steps are applied one after the other, and counted."
    return [_said(what) + "\n" + _option("selection:", *(f"  - {step}" for step in steps))]


def feature_blocks(looked_at: ArchiveFacts) -> list[str]:
    """What characterises a run, and how much a difference counts."""
    names = ", ".join(looked_at.features)
    columns = [
        name
        for name in looked_at.obs_table.colnames
        if name != "OBS_ID" and is_numeric(looked_at.obs_table[name])
    ]
    active = _said(
        "What characterises a run; `obscluster features` lists all. Columns of the index are "
        f"features too: {', '.join(columns)}."
    )
    lines = [
        active,
        "features:",
        f"  names: [{names}]",
        "  ## (True) energies at which the response is looked at; several make several features.",
        f"  energy: [{looked_at.energy}]",
        "  ## Offset from the pointing, in place of that of the target.",
        "  # offset: 0.5 deg",
        "  ## Where a run lacks a feature, leave out the feature rather than the run.",
        "  # missing: drop-feature",
    ]
    tolerances = ", ".join(f"{name}: 10%" for name in looked_at.features)
    scaling = _said(
        "How much a difference counts: in units of the scatter (standard; robust: of quantiles), "
        "or of a tolerance."
    )
    options = _option("scaling:", "  method: tolerance", f"  tolerances: {{{tolerances}}}")
    return ["\n".join(lines), f"{scaling}\n{options}"]


def grouping_blocks(looked_at: ArchiveFacts) -> list[str]:
    """How the runs are put into groups, and what these keep to."""
    few, by = min(3, looked_at.n_obs), looked_at.features[0]
    many = looked_at.n_obs > MANY_RUNS
    number = "auto" if not many else "4"
    spread = ", ".join(f"{name}: 10%" for name in looked_at.features)
    active = [
        _said("How the runs are put into groups. auto: the number that the quality suggests."),
        "grouping:",
        "  method: hierarchical",
        "  linkage: ward",
        f"  n_groups: {number}",
    ]
    instead = [
        ("cuts at values of a feature or column", [f"by: {by}", "quantiles: 2"]),
        ("compact groups", ["method: kmeans", f"n_groups: {few}"]),
        ("a Gaussian mixture", ["method: mixture", f"n_groups: {min(2, few)}"]),
        ("dense regions, and runs that belong to none", ["method: hdbscan", "cluster_runs: 3"]),
    ]
    blocks = ["\n".join(active)]
    for what, lines in instead:
        method = [] if lines[0].startswith("method") else ["method: cuts"]
        content = _option("grouping:", *(f"  {line}" for line in [*method, *lines]))
        blocks.append(f"{_said(f'INSTEAD of grouping: {what}.')}\n{content}")
    if looked_at.target is not None:
        lossy = _option("grouping:", "  method: information", "  max_loss: 1%")
        what = "INSTEAD of grouping: the fewest groups that lose so little on the source below."
        blocks.append(f"{_said(what)}\n{lossy}")
    together = _option(
        "grouping:", "  method: spread", "constraints:", f"  max_spread: {{{spread}}}"
    )
    what = "INSTEAD of grouping and constraints: the fewest groups that vary no more than this."
    blocks.append(f"{_said(what)}\n{together}")
    least = nice(max(looked_at.hours / 8, 0.01))
    keep = [f"  min_livetime: {least:g} h"]
    keep += [f"  within: [{', '.join(looked_at.within)}]"] if looked_at.within else []
    what = "What groups must keep to: so much livetime each, and no mixing of different values."
    return [*blocks, f"{_said(what)}\n{_option('constraints:', *keep)}"]


def last_blocks(looked_at: ArchiveFacts) -> list[str]:
    """What is done with the groups."""
    low, high = looked_at.limits
    blocks = []
    if looked_at.target is not None:
        blocks = [
            _said(
                "On what the lost information is told: the flux may also be 2e-13 cm-2 s-1 TeV-1."
            )
            + "\n"
            + _option("source:", "  amplitude: 1 % Crab", "  index: 2.7", "  size: 0 deg"),
            _said("Range and bins of the counts from which the information is taken.")
            + "\n"
            + _option("counts:", f"  energy: [{low}, {high}]", "  bins_per_decade: 8"),
        ]
    resamples = 50 if looked_at.n_obs <= MANY_RUNS else 0
    blocks += [
        _said("How the groups are judged: numbers of groups to look at, trials for the stability.")
        + f"\nassess:\n  max_groups: {min(10, looked_at.n_obs)}\n  n_resamples: {resamples}",
        _said("A page to look at (false: none); made anyway if the extra `report` is installed.")
        + "\n"
        + _option("report:", "  title: " + _scalar(f"Groups of {looked_at.target or 'all runs'}")),
    ]
    if looked_at.target is not None:
        what = (
            "Each group to one dataset of Gammapy, and their joint fit; needs the extra `reduce`."
        )
        lines = _option(
            "reduce:",
            "  kind: 1d",
            f"  energy: {_energy_axis(looked_at)}",
            f"  region: {{radius: {_on_radius(looked_at)}}}",
            f"  background: {_off_regions(looked_at)}",
            "  fit: {model: power-law, reference: " + looked_at.energy + "}",
        )
        blocks.append(f"{_said(what)}\n{lines}")
    return [*blocks, _said("Runs that are read at once.") + "\n# workers: 4"]


def reduction_blocks(looked_at: ArchiveFacts) -> list[str]:
    """What makes datasets of the groups, as a description of its own."""
    pointlike, energy = looked_at.kind.response == "point-like", looked_at.energy
    targets = [_plain(name).replace(" ", _NO_BREAK) for name in list(looked_at.names)[:_MOST_NAMES]]
    known = f", or a name such as {', '.join(targets)}" if targets else ""
    target = _scalar(looked_at.target or mean_pointing(looked_at.data_store.obs_table))
    region = f"  radius: {_on_radius(looked_at)}"
    if pointlike:
        what = "The region in which is counted: the responses are point-like and bring their own"
        size = f" ({looked_at.kind.cut})" if looked_at.kind.cut else ""
        regions = f"{_said(f'{what}{size}; this is for other runs.')}\n{_option('region:', region)}"
    else:
        what = "The circle around the target in which is counted, and the correction for what of "
        what += f"the PSF is outside; 68 % of it are within {looked_at.psf_radius:.2g} deg."
        lines = ["region:", region, "  containment_correction: true"]
        regions = "\n".join([_said(what), *lines])
    background = f"background: {_off_regions(looked_at)}"
    method = "as many regions as fit at the same distance from the pointing as the target"
    if "ring" in background:
        method = f"a ring, as the runs point {looked_at.offset:.2g} deg from the target"
    elif "wobble" in background:
        method = "regions in regular steps around the pointing, as the cut depends on energy"
    blocks = [
        _said(
            "A reduction, as `obscluster init --reduce` describes it: spectra of groups. It is "
            "ready for:",
            "    obscluster reduce results/ --config FILE -o datasets/",
            "Lines with ## explain. Lines with # are options: take the # and the blank behind it "
            "away to use one. `obscluster reduce --help` lists all keys.",
        ),
        _said(f"Where the source is, in place of the target of the groups: RA DEC{known}.")
        + f"\n# target: {target}",
        _said("Spectra (1d) or maps (3d, which need a background response).") + "\nkind: 1d",
        _said(
            "Reconstructed energies. The edges are 10^(k/10) TeV, so that all groups, also those "
            "of other instruments, have edges in common; where a run is not sensitive, its safe "
            "mask takes them away. With few counts take 5 bins per decade."
        )
        + f"\nenergy: {_energy_axis(looked_at)}",
        _said("True energies (unless told, twice as far and as fine).")
        + f"\n# energy_true: {_energy_axis(looked_at, 2)}",
        regions,
        _said(f"How the background is found: {method}.") + f"\n{background}",
        _said("What the background must not see, beside the target: other sources.")
        + "\n"
        + _option("exclusion:", '  regions: ["icrs;circle(83.633, 22.014, 0.3)"]'),
        _said("Energies from where the area of a run reaches so much of its maximum.")
        + "\nsafe_mask: {methods: [aeff-max], aeff_percent: 10}",
        _said("Write the datasets of the single runs, too; `obscluster fit --compare` needs them.")
        + "\n# keep_runs: true",
        _said("What `obscluster fit` fits to all groups together.")
        + f"\nfit: {{model: power-law, reference: {energy}, flux_points_per_decade: 5}}",
        _said("Processes.") + "\n# workers: 2",
    ]
    if looked_at.has_background and not pointlike:
        lines = ["kind: 3d", "background: {method: fov}", "map: {width: 4 deg, binsz: 0.02 deg}"]
        what = "INSTEAD of kind and background: maps, with the background response."
        blocks.append(f"{_said(what)}\n{_option(*lines)}")
    return blocks


def _energy_axis(looked_at: ArchiveFacts, finer: int = 1) -> str:
    """Axis that holds the responses, between powers of ten; or one beyond it, and finer."""
    low, high = (u.Quantity(limit).to_value(u.TeV) for limit in looked_at.limits)
    ends = [10.0 ** np.floor(np.log10(low) + 1e-9), 10.0 ** np.ceil(np.log10(high) - 1e-9)]
    low, high = ends[0] / finer, ends[1] * finer
    return f"{{min: {low:g} TeV, max: {high:g} TeV, bins_per_decade: {10 * finer}}}"


def _on_radius(looked_at: ArchiveFacts) -> str:
    """Radius of the region: about that of most signal to noise for a Gaussian PSF."""
    if not np.isfinite(looked_at.psf_radius):
        return "0.11 deg"
    # 1.585 sigma, and 68 % of it are within 1.515 sigma.
    return f"{max(round(1.05 * looked_at.psf_radius, 2), 0.02):g} deg"


def _off_regions(looked_at: ArchiveFacts) -> str:
    """How the background is found around the target."""
    if looked_at.kind.cut == "by energy":
        return "{method: wobble, off_regions: 3}"
    radius = u.Quantity(_on_radius(looked_at)).to_value(u.deg)
    # Closer to the pointing, no region fits beside the target.
    if looked_at.offset < 2 * radius and looked_at.has_background:
        return "{method: ring}"
    return "{method: reflected}"


def _said(*texts: str) -> str:
    """Explanation."""
    lines = []
    for text in texts:
        indent = " " * (len(text) - len(text.lstrip()))
        wrapped = textwrap.wrap(text.strip(), 96, initial_indent=indent, break_on_hyphens=False)
        lines += [line.replace(_NO_BREAK, " ") for line in wrapped]
    return "\n".join(f"## {line}" for line in lines)


def _option(*lines: str) -> str:
    return "\n".join(f"# {line}" for line in lines)


def _scalar(text: str) -> str:
    """A text as YAML, on one line."""
    # Quotes of the other kind would let a line end in the middle.
    style = None if text.isprintable() else '"'
    dumped = yaml.safe_dump(text, default_style=style, width=10_000, allow_unicode=False)
    return dumped.removesuffix("...\n").strip()


def _plain(text: str) -> str:
    """Text of the archive, for an explanation: on one line."""
    return "".join(char if char.isprintable() else " " for char in text)


def _archive_lines(archive: str | os.PathLike[str] | Mapping[str, str]) -> str:
    """The key ``archive``: a place, or a block with the names of the index files, too."""
    if not isinstance(archive, Mapping):
        return f"archive: {_scalar(_lasting(os.fspath(archive)))}"
    block = {**archive, "path": _lasting(archive["path"])}
    return "\n".join(["archive:", *(f"  {key}: {_scalar(block[key])}" for key in block)])


def _lasting(archive: str) -> str:
    """The archive also for somebody who stands in another directory."""
    known = archive.startswith(("$", "~")) or "://" in archive
    return archive if known else str(Path(archive).absolute())


Archive = str | os.PathLike[str] | Mapping[str, str]


def write_description(
    archive: Archive,
    path: str | os.PathLike[str],
    overwrite: bool = False,
    verify: bool = False,
    force: bool = False,
    reduction: bool = False,
) -> str:
    """Write a description that `obscluster.workflow.run.run_plan` takes as it is.

    Parameters
    ----------
    archive : str, path or mapping
        Directory of the archive, or a block with ``path``, ``obs_index`` and ``hdu_index``.
    path : str or path
        The YAML file, which appears whole or not at all.
    overwrite : bool
        Replace a file that is there, if nobody has changed it.
    verify : bool
        Take livetimes from the good time intervals of all runs, rather than from the index.
    force : bool
        Replace any file that is there.
    reduction : bool
        Write one for `obscluster.reduction.read_reduce_config` instead.

    Returns
    -------
    text : str
        What was written, but for the last line, which has its checksum.

    Raises
    ------
    ArchiveError
        If the archive cannot be read.
    RequestError
        If the file is there already, or cannot be written.
    """
    path = Path(path)
    place = expand_path(archive["path"] if isinstance(archive, Mapping) else os.fspath(archive))
    check_file(path, overwrite, force, place)
    text = describe_reduction(archive) if reduction else describe_run(archive, verify)
    seal = f"\n# As `obscluster init` wrote it: {UNSEALED}\n"
    write_file(path, text + seal, overwrite, force, place)
    return text


def describe_run(archive: Archive, verify: bool = False) -> str:
    """Commented description of a run, as YAML.

    Parameters
    ----------
    archive : str, path or mapping
        Directory of the archive, or a block with ``path``, ``obs_index`` and ``hdu_index``.
    verify : bool
        Take livetimes from the good time intervals of all runs, rather than from the index.

    Raises
    ------
    ArchiveError
        If the archive cannot be read.
    RequestError
        If it holds no run.
    """
    looked_at = look_at(_opened(archive), verify)
    blocks = [
        *first_blocks(archive, looked_at),
        *feature_blocks(looked_at),
        *grouping_blocks(looked_at),
        *last_blocks(looked_at),
    ]
    return "\n\n".join(blocks) + "\n"


def describe_reduction(archive: Archive) -> str:
    """Commented description of a reduction, as YAML.

    Parameters
    ----------
    archive : str, path or mapping
        Directory of the archive, or a block with ``path``, ``obs_index`` and ``hdu_index``.

    Raises
    ------
    ArchiveError
        If the archive cannot be read.
    RequestError
        If it holds no run.
    """
    return "\n\n".join(reduction_blocks(look_at(_opened(archive)))) + "\n"


def _opened(archive: Archive) -> DataStore:
    data_store = open_archive(archive)
    if len(data_store.obs_table) == 0:
        raise RequestError(f"{data_store.base_dir}: the archive has no run")
    if text := several_rows(data_store.obs_table):
        raise RequestError(f"{data_store.base_dir}: {text}")
    return data_store
