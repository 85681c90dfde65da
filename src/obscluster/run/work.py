"""The steps of a run, one after the other."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Column, QTable

from obscluster.assess import Assessment, assess_grouping, write_assessment
from obscluster.characterise import Runs, Selected, characterise, select_runs, with_features
from obscluster.config import AssessConfig, ReportConfig, RunConfig
from obscluster.engine import Progress
from obscluster.exceptions import ObsClusterError, ObsClusterWarning, RequestError
from obscluster.files.checksums import checksum
from obscluster.files.exchange import link_or_copy
from obscluster.files.output import results_directory
from obscluster.files.records import versions
from obscluster.files.yaml import plain, read_yaml, write_yaml
from obscluster.gadf.index import expand_path
from obscluster.grouping.base import RECORD_FILE, Grouping
from obscluster.pipeline import (
    GroupResult,
    drop_incomplete,
    group_observations,
    recorded,
    write_results,
)
from obscluster.run.inputs import feature_inputs, group_inputs
from obscluster.run.plan import Plan, check_names, missing_for_report
from obscluster.run.reduction import DATASETS, reduce_and_fit
from obscluster.run.steps import STEPS_DIRECTORY, Steps, fingerprint, opened_steps

__all__ = ["RunOutcome", "run_plan"]

FEATURES_FILE = f"{STEPS_DIRECTORY}/features.ecsv"
ASSESSMENT = "assessment"
# Trials for the stability take long for more runs than these: only if they are asked for.
_MANY_RUNS = 5000
_RESAMPLES = 50

Say = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class RunOutcome:
    """What a run has led to.

    Parameters
    ----------
    result : `~obscluster.pipeline.GroupResult`
        The groups.
    steps : mapping
        Step to "kept", "done" or why it was left out.
    fit : `~obscluster.reduction.examination.Examination` or None
        The joint fit and what is to be said of it, if it was done now.
    unread : mapping
        Runs of which a file could not be read, in any of the steps, and why; see
        `~obscluster.pipeline.GroupResult`.
    """

    result: GroupResult
    steps: Mapping[str, str] = field(default_factory=dict)
    fit: Any = None
    unread: Mapping[int, str] = field(default_factory=dict)


def run_plan(
    plan: Plan,
    output: Path,
    overwrite: bool = False,
    plots: bool = True,
    progress: Progress | None = None,
    say: Say | None = None,
) -> RunOutcome:
    """Do the steps whose inputs have changed since they were done, and keep the others.

    Parameters
    ----------
    plan : `Plan`
        What to do.
    output : `~pathlib.Path`
        Directory of the results.
    overwrite : bool
        Do all steps; needed where there is something else in the output.
    plots : bool
        Draw plots as PNG.
    progress : callable, optional
        ``progress(iterable, total, what)`` wraps long loops.
    say : callable, optional
        Takes a line of text for each step.

    Raises
    ------
    RequestError
        If the archive cannot be read, the selection leaves no run, or the request cannot be met.
    """
    say = say or _silent
    # Quick, and it finds what cannot be met before anything is written.
    selected = select_runs(plan.config)
    plan = replace(plan, config=with_features(plan.config, selected.obs_table))
    check_names(plan, selected)
    archive = expand_path(plan.config.archive_path)
    with opened_steps(output, overwrite, archive) as steps:
        say(f"select: {len(selected.obs_table)} of {len(selected.data_store.obs_table)} runs")
        return Work(plan, steps.output, steps, plots, progress, say).run(selected)


@dataclass(eq=False)
class Work:
    """One run, and how each step went.

    Parameters
    ----------
    plan : `~obscluster.run.plan.Plan`
        What to do.
    output : `~pathlib.Path`
        Directory that will take the place of the output.
    steps : `~obscluster.run.steps.Steps`
        What is there already.
    plots : bool
        Draw plots as PNG.
    progress : callable or None
        ``progress(iterable, total, what)`` wraps long loops.
    say : callable
        Takes a line of text for each step.
    went : dict
        Step to how it went.
    assessment : `~obscluster.assess.Assessment` or None
        What the groups are worth, if that was found out now.
    n_obs : int
        Number of runs.
    """

    plan: Plan
    output: Path
    steps: Steps
    plots: bool
    progress: Progress | None
    say: Say
    went: dict[str, str] = field(default_factory=dict)
    assessment: Assessment | None = None
    n_obs: int = 0

    def run(self, selected: Selected) -> RunOutcome:
        """All steps, in their order."""
        config, self.n_obs = self.plan.config, len(selected.obs_table)
        result = self.group(self.features(selected))
        if config.assess is not False:
            self.assess()
        fit = None
        if self.plan.reduction is not None:
            try:
                fit = reduce_and_fit(self, self.plan.reduction)
            except ObsClusterError:
                # The page tells what the fit says, and is there without one, too.
                self.report()
                raise
        elif self.steps.input("reduce", "group") not in (None, fingerprint(self.group_key)):
            # Hours of work, which only whoever asked for it may throw away.
            self.say(f"reduce: not asked for; {DATASETS}/ is of earlier groups")
        self.report()
        unread = dict(result.unread)
        for name in self.went:
            unread |= self.steps.unread(name)
        return RunOutcome(result, self.went, fit, unread)

    def step(
        self,
        name: str,
        inputs: Mapping[str, Any],
        do: Callable[[], list[str]],
        unread: Callable[[], Mapping[int, str]] = dict,
    ) -> bool:
        """Do a step unless it is kept; whether it was done.

        It is not kept if it was done without runs that could not be read; ``unread`` tells which
        these are, once it is done.
        """
        prints = {key: fingerprint(value) for key, value in inputs.items()}
        changes, lost = self.steps.changes(name, prints), self.steps.unread(name)
        if changes == [] and not lost:
            self.went[name] = "kept"
            self.say(f"{name}: kept")
            return False
        start = time.perf_counter()
        files = do()
        self.steps.finish(name, prints, files, unread())
        self.went[name] = "done"
        why = f" ({', '.join(changes[:3])} changed)" if changes else ""
        again = ""
        if lost and not changes:
            runs = "1 run" if len(lost) == 1 else f"{len(lost)} runs"
            again = f" again, {runs} could not be read before"
        self.say(f"{name}: done{again}, {time.perf_counter() - start:.1f} s{why}")
        return True

    @property
    def group_key(self) -> str:
        """What tells these groups from others."""
        return self.steps.key("group")

    def features(self, selected: Selected) -> Runs:
        """Compute the features, or read those that are kept."""
        config, path = self.plan.config, self.output / FEATURES_FILE
        unread: dict[int, str] = {}

        def do() -> list[str]:
            features = characterise(config, self.progress, selected).features
            unread.update(features.meta.get("unread", {}))
            # Not into the file itself, which may be that of earlier results, too.
            path.unlink(missing_ok=True)
            path.parent.mkdir(exist_ok=True)
            features.write(path, format="ascii.ecsv")
            return [FEATURES_FILE]

        self.step("features", feature_inputs(config, selected), do, lambda: unread)
        # Read back also if they were just computed: what follows does not depend on which.
        return characterise(config, None, selected, _read_features(path))

    def group(self, runs: Runs) -> GroupResult:
        """Group the runs, or read the groups that are kept."""
        config = self.plan.config
        found: list[GroupResult] = []

        def do() -> list[str]:
            result = group_observations(config, self.progress, runs)
            # What is of the earlier groups must not be taken for that of these.
            for later in ("assess", "report", "fit"):
                self.steps.discard(later)
            found.append(result)
            return write_results(result, self.output, overwrite=True, plots=self.plots)

        lost = runs.features.meta.get("unread", {})
        # The same inputs may have led to other features, if runs could not be read before.
        features = fingerprint([self.steps.key("features"), checksum(self.output / FEATURES_FILE)])
        self.step(
            "group",
            group_inputs(config, runs, features) | {"plots": self.plots},
            do,
            # Of those without features it is done again when these change, and only then.
            lambda: {i: why for i, why in found[0].unread.items() if i not in lost},
        )
        if found:
            return found[0]
        self._update_record(config)
        if config.features.missing == "drop-feature" and config.grouping.method != "cuts":
            with warnings.catch_warnings():
                # Said when the step was done.
                warnings.simplefilter("ignore", ObsClusterWarning)
                runs = drop_incomplete(runs)
        return GroupResult(config, runs, Grouping.read(self.output), lost)

    def _update_record(self, config: RunConfig) -> None:
        """Groups that are kept, under a description that differs in what they do not depend on."""
        record = read_yaml(self.output / RECORD_FILE)
        asked = plain(recorded(config))
        if record["config"] == asked:
            return
        entry = self.steps.entry("group")
        with results_directory(self.output, "group", overwrite=True) as staging:
            for name in entry["files"]:
                link_or_copy(self.output / name, staging / name)
            (staging / RECORD_FILE).unlink()
            write_yaml(staging / RECORD_FILE, record | {"config": asked})
        self.steps.finish("group", entry["inputs"], entry["files"], entry.get("unread"))

    @property
    def assess_settings(self) -> AssessConfig:
        """How the groups are judged."""
        asked = self.plan.config.assess
        return asked if isinstance(asked, AssessConfig) else AssessConfig()

    def assessed(self) -> Assessment:
        """What the groups are worth."""
        settings, n_resamples = self.assess_settings, self.assess_settings.n_resamples
        if n_resamples is None and self.n_obs > _MANY_RUNS:
            text = f"no stability for more than {_MANY_RUNS} runs, unless n_resamples asks for it"
            self.say(f"assess: {text}")
            n_resamples = 0
        elif n_resamples is None:
            n_resamples = _RESAMPLES
        return assess_grouping(self.output, settings.max_groups, n_resamples, self.progress)

    def assess(self) -> None:
        """Find out what the groups are worth, and write it."""
        asked, settings = self.plan.config.assess, self.assess_settings
        parts = ("source", "counts", "target", "radius", "frame", "selection")
        unread: dict[int, str] = {}

        def do() -> list[str]:
            assessment = self.assessment = self.assessed()
            unread.update(assessment.unread)
            self.steps.discard("assess")
            files = write_assessment(assessment, self.output / ASSESSMENT, overwrite=True)
            return [f"{ASSESSMENT}/{name}" for name in files]

        dump = self.plan.config.model_dump(include=set(parts))
        inputs = {
            "group": self.group_key,
            "assess": settings.model_dump(),
            "source": dump,
            "versions": versions(),
        }
        try:
            self.step("assess", inputs, do, lambda: unread)
        except RequestError as error:
            if asked:
                raise
            self.leave_out("assess", str(error))

    def report(self) -> None:
        """Write the page."""
        asked = self.plan.config.report
        if asked is False:
            return
        settings = asked if isinstance(asked, ReportConfig) else ReportConfig()
        if asked is None and missing_for_report():
            self.leave_out("report", missing_for_report())
            return

        def do() -> list[str]:
            # Loads bokeh, which not everybody has.
            from obscluster.present import write_report

            assessment = self.assessment
            if assessment is None and "assess" in self.steps.names:
                # Kept; the page is the same as if it had just been done.
                assessment = self.assessed()
            path = write_report(
                self.output, assessment=assessment, progress=self.progress, force=True
            )
            return [path.relative_to(self.output).as_posix()]

        inputs = {
            "group": self.group_key,
            "assess": self.steps.key("assess"),
            "fit": self.steps.key("fit"),
            "report": settings.model_dump(),
            "description": recorded(self.plan.config),
            "versions": versions() | {"bokeh": version("bokeh")},
        }
        self.step("report", inputs, do)

    def leave_out(self, name: str, reason: str) -> None:
        """Go on without a step that nobody has asked for by name."""
        self.steps.discard(name)
        self.went[name] = reason
        self.say(f"{name}: left out: {reason}")


def _silent(text: str) -> None:
    del text


def _read_features(path: Path) -> QTable:
    """Feature table as it was computed: no text is missing, even where it is empty."""
    table = QTable.read(path, format="ascii.ecsv")
    notes = np.ma.filled(np.ma.asarray(table["notes"]), "")
    table["notes"] = Column([str(note) for note in notes], dtype=str)
    return table
