"""The text of a description, block by block."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import yaml
from astropy import units as u

from obscluster.columns import is_numeric
from obscluster.init.look import MANY_RUNS, ArchiveFacts, mean_pointing, nice
from obscluster.obs_table import ObservationTable, livetime_text

__all__ = [
    "feature_blocks",
    "first_blocks",
    "grouping_blocks",
    "last_blocks",
    "reduction_blocks",
]

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
