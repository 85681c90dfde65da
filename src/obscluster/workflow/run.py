"""Everything that a description asks for, step by step, each kept until its inputs change.

============  ==================================================================================
step          outcome in the output
============  ==================================================================================
``features``  ``steps/features.ecsv``
``group``     ``groups.yaml`` and the files beside it
``assess``    ``assessment/``
``report``    ``report.html``
``reduce``    ``datasets/``
``fit``       ``fit/``
============  ==================================================================================

The index of the archive is read and the runs are selected each time: this tells what has changed.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Column, QTable

from obscluster.config import (
    AssessConfig,
    ReportConfig,
    RunConfig,
    make_config,
    read_description,
)
from obscluster.config.reduction import ReduceConfig
from obscluster.exceptions import DataError, ObsClusterError, ObsClusterWarning, RequestError
from obscluster.features.cache_keys import file_states
from obscluster.features.catalog import FEATURES, load_features, parse_energies, parse_requests
from obscluster.files.exchange import link_or_copy
from obscluster.files.output import results_directory
from obscluster.files.records import checksum, versions
from obscluster.files.yaml import Document, plain, read_yaml, write_yaml
from obscluster.gadf.index import expand_path
from obscluster.gadf.remote import is_remote
from obscluster.grouping.base import RECORD_FILE, Grouping
from obscluster.parallel.engine import Progress
from obscluster.reduction import make_reduce_config, require_gammapy
from obscluster.values.tolerance import parse_tolerance
from obscluster.workflow.assess import Assessment, assess_grouping, write_assessment
from obscluster.workflow.group import (
    GroupResult,
    drop_incomplete,
    group_observations,
    recorded,
    write_results,
)
from obscluster.workflow.report import write_report
from obscluster.workflow.runs import (
    Runs,
    Selected,
    characterise,
    feature_requests,
    select_runs,
    with_features,
)
from obscluster.workflow.steps import STEPS_DIRECTORY, Steps, fingerprint, opened_steps

__all__ = [
    "DATASETS",
    "Plan",
    "RunOutcome",
    "check_names",
    "feature_inputs",
    "group_inputs",
    "missing_for_report",
    "read_plan",
    "reduce_and_fit",
    "run_plan",
]


def feature_inputs(config: RunConfig, selected: Selected) -> dict[str, Any]:
    """What the features depend on.

    Files of runs are told by size and time of change, at URLs by what the server says of them
    (``ETag``, ``Last-Modified``, size): to read all of them would be the work that is to be saved.

    Parameters
    ----------
    config : `~obscluster.config.RunConfig`
        What is asked.
    selected : `~obscluster.workflow.runs.Selected`
        The observations.
    """
    asked, store, target = config.features, selected.data_store, selected.target
    obs_ids = np.asarray(selected.obs_table["OBS_ID"]).tolist()
    clustered, beside = feature_requests(config, selected.obs_table)
    position = None
    if target is not None and asked.offset is None:
        position = [float(target.position.ra.deg), float(target.position.dec.deg)]
    # Name, size and time of change of the files of the runs; at URLs, what the server says.
    index = selected.data_store.hdu_index
    known = set(index.obs_ids.tolist())
    locations = {
        location.path: location
        for obs_id in obs_ids
        if obs_id in known
        for location in index.locations(obs_id).values()
    }
    states: list[list[Any]] = []
    remote = file_states(path for path in locations if is_remote(path))
    for path, location in sorted(locations.items(), key=lambda item: str(item[0])):
        if is_remote(path):
            states.append([str(path), remote[path]])
            continue
        try:
            state = location.existing_path.stat()
            states.append([path.name, state.st_size, state.st_mtime_ns])
        except (DataError, OSError):
            states.append([path.name, None, None])
    return {
        "index": list(store.index_checksums.values()),
        "runs": obs_ids,
        "files": states,
        "position": position,
        "features": {
            "names": clustered,
            "beside": beside,
            **asked.model_dump(include={"energy", "offset", "containment_fraction"}),
        },
        "feature files": {name: checksum(Path(name)) for name in asked.files},
        "versions": versions(),
    }


def group_inputs(config: RunConfig, runs: Runs, features: str) -> dict[str, Any]:
    """What the groups depend on.

    Parameters
    ----------
    config : `~obscluster.config.RunConfig`
        What is asked.
    runs : `~obscluster.workflow.runs.Runs`
        The observations and their features.
    features : str
        Fingerprint of the features.
    """
    inputs = {
        "features": features,
        "archive": str(runs.data_store.base_dir.absolute()),
        "selection": [runs.selections, [list(row) for row in runs.cut_flow.iterrows()]],
        "missing": config.features.missing,
        "grouping": config.grouping.model_dump(),
        "scaling": config.scaling.model_dump(),
        "constraints": config.constraints.model_dump(),
    }
    for file in config.grouping.files:
        if Path(file).is_file():
            inputs["labels"] = checksum(Path(file))
    if config.grouping.needs_scores:
        inputs["source"] = config.model_dump(include={"source", "counts", "target", "frame"})
    return inputs


@dataclass(frozen=True, eq=False)
class Plan:
    """A description that can be met, as far as one can say before the work.

    Parameters
    ----------
    config : `~obscluster.config.RunConfig`
        What is asked.
    reduction : `~obscluster.config.reduction.ReduceConfig` or None
        Its part ``reduce``.
    document : `~obscluster.files.yaml.Document`
        Where it stands.
    """

    config: RunConfig
    reduction: ReduceConfig | None
    document: Document


def read_plan(path: Path, settings: Iterable[str] = ()) -> Plan:
    """Read a description, and check all that can be checked without the archive.

    Parameters
    ----------
    path : `~pathlib.Path`
        YAML file, also the groups.yaml of results.
    settings : iterable of str
        What replaces values of the file, such as ``grouping.n_groups=3``.

    Raises
    ------
    ArchiveError
        If the file cannot be read, or is not YAML.
    RequestError
        If a key is unknown, a value is not usable, or what it needs is not installed.
    """
    document = read_description(path, settings)
    config = make_config(document.content, document)
    _check_tolerances(config, document)
    reduction = None
    if config.reduce is not None:
        reduction = make_reduce_config(config.reduce, document, ("reduce",))
        require_gammapy()
        if reduction.target is None and config.target is None:
            where = document.origin(("reduce",))
            raise RequestError(f"{where}: reduce: needs a target, where the source is")
    if config.report and missing_for_report():
        raise RequestError(f"{document.origin(('report',))}: report: {missing_for_report()}")
    return Plan(config, reduction, document)


def missing_for_report() -> str:
    """What is to be installed for a report; empty if all is there."""
    missing = [name for name in ("bokeh", "jinja2") if not _is_installed(name)]
    if not missing:
        return ""
    return (
        f"a report needs {' and '.join(missing)}, which is not installed; "
        'get it by: pip install "obscluster[report]"'
    )


def _is_installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ValueError:
        # What is in `sys.modules` without being a proper module.
        return False


def check_names(plan: Plan, selected: Selected) -> None:
    """Check that the features are known, now that one knows the columns of the archive.

    Raises
    ------
    RequestError
        If one is not; the message names its place in the description.
    """
    asked = plan.config.features
    if plan.config.grouping.columns(plan.config.constraints):
        # They name what they need themselves.
        return
    own = load_features([Path(name) for name in asked.files])
    energies = parse_energies(list(asked.energy)) if asked.energy else None
    for place, name in enumerate(asked.names or ()):
        try:
            parse_requests(name, energies, selected.obs_table, own)
        except RequestError as error:
            raise _at(plan.document, ("features", "names", place), str(error)) from None


def _check_tolerances(config: RunConfig, document: Document) -> None:
    """Check the units of tolerances on features whose unit is known."""
    asked = {
        ("scaling", "tolerances"): config.scaling.tolerances,
        ("constraints", "max_spread"): config.constraints.max_spread,
    }
    for path, tolerances in asked.items():
        for name, value in tolerances.items():
            feature = FEATURES.get(name.partition("@")[0])
            if feature is None:
                continue
            try:
                parse_tolerance(value, feature.unit, name)
            except RequestError as error:
                raise _at(document, (*path, name), str(error)) from None


def _at(document: Document, path: tuple[str | int, ...], text: str) -> RequestError:
    where = ".".join(str(part) for part in path)
    return RequestError(": ".join(filter(None, [document.origin(path), where, text])))


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
    result : `~obscluster.workflow.group.GroupResult`
        The groups.
    steps : mapping
        Step to "kept", "done" or why it was left out.
    fit : `~obscluster.reduction.examination.Examination` or None
        The joint fit and what is to be said of it, if it was done now.
    unread : mapping
        Runs of which a file could not be read, in any of the steps, and why; see
        `~obscluster.workflow.group.GroupResult`.
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
    plan : `~obscluster.workflow.run.Plan`
        What to do.
    output : `~pathlib.Path`
        Directory that will take the place of the output.
    steps : `~obscluster.workflow.steps.Steps`
        What is there already.
    plots : bool
        Draw plots as PNG.
    progress : callable or None
        ``progress(iterable, total, what)`` wraps long loops.
    say : callable
        Takes a line of text for each step.
    went : dict
        Step to how it went.
    assessment : `~obscluster.workflow.assess.Assessment` or None
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
        table = QTable.read(path, format="ascii.ecsv")
        notes = np.ma.filled(np.ma.asarray(table["notes"]), "")
        table["notes"] = Column([str(note) for note in notes], dtype=str)
        return characterise(config, None, selected, table)

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
        if config.features.missing == "drop-feature" and config.grouping.completeness == "all":
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


DATASETS, FIT = "datasets", "fit"


def reduce_and_fit(work: Work, settings: ReduceConfig) -> Any:
    """Do the steps ``reduce`` and ``fit``, as far as they are not kept.

    Parameters
    ----------
    work : `~obscluster.workflow.run.Work`
        The run.
    settings : `~obscluster.config.reduction.ReduceConfig`
        What is asked.

    Returns
    -------
    found : `~obscluster.reduction.examination.Examination` or None
        The fit and what is to be said of it, if it was done now.
    """
    from obscluster.reduction import join_reductions, read_reduction, reduce_groups, write_fit

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
