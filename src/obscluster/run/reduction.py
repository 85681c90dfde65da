"""The steps of a run that need Gammapy."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from obscluster.files.checksums import checksum
from obscluster.files.records import versions
from obscluster.reduction.config import ReduceConfig

if TYPE_CHECKING:
    from obscluster.run.work import Work

__all__ = ["DATASETS", "reduce_and_fit"]

DATASETS, FIT = "datasets", "fit"


def reduce_and_fit(work: Work, settings: ReduceConfig) -> Any:
    """Do the steps ``reduce`` and ``fit``, as far as they are not kept.

    Parameters
    ----------
    work : `~obscluster.run.work.Work`
        The run.
    settings : `~obscluster.reduction.config.ReduceConfig`
        What is asked.

    Returns
    -------
    found : `~obscluster.reduction.examination.Examination` or None
        The fit and what is to be said of it, if it was done now.
    """
    from obscluster.reduction import (
        join_reductions,
        read_reduction,
        reduce_groups,
        write_fit,
    )

    datasets, fits = work.output / DATASETS, []
    unread: dict[int, str] = {}

    def do_reduce() -> list[str]:
        work.steps.discard("fit")
        reduce_groups(work.output, settings, datasets, None, work.progress, overwrite=True)
        reduction = read_reduction(datasets)
        unread.update(reduction.unread)
        for line in reduction.record["advice"]:
            work.say(f"reduce: {line}")
        return [f"{DATASETS}/{name}" for name in reduction.record["files"]]

    def do_fit() -> list[str]:
        joint = join_reductions(read_reduction(datasets), settings.fit)
        found = joint.examine(joint.fit())
        work.steps.discard("fit")
        fits.append(found)
        files = write_fit(
            found.fit,
            joint,
            work.output / FIT,
            overwrite=True,
            plots=work.plots,
            examination=found,
        )
        return [f"{FIT}/{name}" for name in files]

    mask = settings.exclusion.file
    inputs = {
        "group": work.group_key,
        "reduce": settings.model_dump(exclude={"workers", "fit"}),
        "exclusion": None if mask is None else checksum(Path(mask)),
        "versions": versions() | {"gammapy": version("gammapy")},
    }
    work.step("reduce", inputs, do_reduce, lambda: unread)
    fit_inputs = {"reduce": work.steps.key("reduce"), "fit": settings.fit.model_dump()}
    work.step("fit", fit_inputs | {"plots": work.plots}, do_fit)
    return fits[0] if fits else None
