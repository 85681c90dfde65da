"""Whether a spectrum has OFF counts enough for the statistic of its fit.

The W statistic profiles over an unknown background in every bin, of which few OFF counts say
little, so that its best fit is biased, however many bins there are (Neyman and Scott). In the limit
of many bins, from the sum over all outcomes of a bin with signal s, background b and the given
number of expected OFF counts, at alpha = 0.2:

=====  ====  ===  ===  ======  ===
s / b  0.5   1    2    5       10
=====  ====  ===  ===  ======  ===
0.3    lost  lost 36 % 4 %     0.5 %
1      lost  12 % 6 %  0.7 %   0.1 %
5      2 %   1 %  0 %  0 %     0 %
10     0 %   0 %  0 %  0 %     0 %
=====  ====  ===  ===  ======  ===

The manual of XSPEC asks for one background count in every bin, and spectra are often grouped to
five. Five are enough here, too, and fewer are where there is little background.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import isotonic_regression
from scipy.special import xlogy

from obscluster.reduction.config import ReduceConfig

__all__ = ["ENOUGH", "expected_off", "off_advice", "plain_reason", "sparse_counts"]

ENOUGH = 5.0
"""Expected OFF counts per bin from which on the statistic is as good as unbiased."""
# Of the counts in bins with fewer: as little background hardly matters, down to 0.2 OFF counts.
_LITTLE = 0.1
# Of all counts: so few in such bins hardly count.
_FEW = 0.1
_SHOWN = 3

NO_REGION = (
    "no OFF region fits: the target is too close to the pointing, or the exclusion leaves no room; "
    "take background.method ring, a smaller region.radius or background.min_distance, or exclude "
    "less"
)


def plain_reason(reason: str) -> str:
    """Why a run has no dataset: without its name where that is a lack of OFF regions."""
    return NO_REGION if "No OFF region found" in reason else reason


def expected_off(counts: ArrayLike) -> NDArray[np.float64]:
    """OFF counts that are expected where some were counted.

    A bin must not be judged by its own fluctuation. The background falls with energy above its
    peak and rises below it, so that the curve of that kind which is nearest to the counts tells
    more than each of them does (isotonic regression, which for Poisson counts is the most likely
    one; Barlow et al. 1972, Statistical Inference under Order Restrictions).

    Parameters
    ----------
    counts : array-like
        OFF counts, shape (n_energies,).

    Returns
    -------
    expected : `~numpy.ndarray`
        Shape (n_energies,), with the same sum.
    """
    values = np.asarray(counts, dtype=float)
    fits = (
        np.concatenate(
            [
                isotonic_regression(values[:top]).x if top else [],
                isotonic_regression(values[top:], increasing=False).x,
            ]
        )
        for top in range(len(values))
    )
    return np.asarray(max(fits, key=lambda fit: float(xlogy(values, fit).sum())))


def sparse_counts(dataset: Any, n_parts: int = 1) -> dict[str, float]:
    """Counts in bins with few expected OFF counts.

    Parameters
    ----------
    dataset : `gammapy.datasets.SpectrumDatasetOnOff`
        A spectrum.
    n_parts : int
        Into how many runs its OFF counts are divided.

    Returns
    -------
    found : dict
        ``counts`` of all bins that are used; ``sparse``, those in bins with fewer than `ENOUGH`
        expected OFF counts per part, see `expected_off`; ``background``, what is expected of these.
    """
    used = dataset.mask_safe.data.ravel()
    counts, off, background = (
        np.where(used, np.nan_to_num(values.data.ravel()), 0.0)
        for values in (dataset.counts, dataset.counts_off, dataset.background)
    )
    expected = np.zeros(len(off))
    expected[used] = expected_off(off[used])
    sparse = used & (expected < ENOUGH * n_parts)
    return {
        "counts": float(counts.sum()),
        "sparse": float(counts[sparse].sum()),
        "background": round(float(background[sparse].sum()), 3),
    }


def off_advice(groups: Mapping[str, Mapping[str, Any]], config: ReduceConfig) -> list[str]:
    """What to know of the OFF counts of a reduction, and what to do.

    Parameters
    ----------
    groups : mapping
        Name of a group to its record, with ``few_off`` as `sparse_counts` has it, of the group
        (``group``) and of its runs apart (``runs``).
    config : `~obscluster.reduction.config.ReduceConfig`
        What was asked for. Runs apart are looked at if ``keep_runs`` is.

    Returns
    -------
    lines : list of str
        Sentences; none if all is well.
    """
    more = "fewer" if config.background.method == "ring" else "more OFF regions, fewer"
    remedies = {
        "group": f"take {more} groups, or wider bins (energy.bins_per_decade below "
        f"{config.energy.bins_per_decade})",
        "runs": "fits of the runs apart are no reference, fit the groups",
    }
    lines = []
    if not config.keep_runs:
        del remedies["runs"]
    for part, remedy in remedies.items():
        found = {name: group.get("few_off", {}).get(part) for name, group in groups.items()}
        few = {name: values for name, values in found.items() if values and _matters(values)}
        if not few:
            continue
        names = ", ".join(list(few)[:_SHOWN])
        names += f" and {len(few) - _SHOWN} more groups" if len(few) > _SHOWN else ""
        share = sum(v["sparse"] for v in few.values()) / sum(v["counts"] for v in few.values())
        of = "" if part == "group" else "the runs of "
        lines.append(
            f"{share:.0%} of the counts in {of}{names} are in energy bins with fewer than "
            f"{ENOUGH:g} expected OFF counts, where the W statistic is biased: {remedy}"
        )
    return lines


def _matters(found: Mapping[str, float]) -> bool:
    """Whether so many counts are in such bins, and so much of them is background."""
    counts, sparse = found["counts"], found["sparse"]
    return sparse > _FEW * counts and found["background"] > _LITTLE * sparse
