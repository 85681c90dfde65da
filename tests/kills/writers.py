"""Every command that writes, over nothing and over other results."""

from __future__ import annotations

import signal

from kills.campaign import Writer

__all__ = ["WRITERS"]

_ARCHIVE = ("simulate", "archive", "--n-obs", "8", "--seed", "1", "--size", "small")
_OTHER_ARCHIVE = ("simulate", "archive", "--n-obs", "6", "--seed", "2", "--size", "small")
_GROUP = ("group", "archive", "--offset", "0.5 deg", "--n-groups")
_GROUPS = (*_GROUP, "2", "-o", "groups", "--no-plots")
_OTHERS = (*_GROUP, "3", "--linkage", "single", "--features", "zenith", "aeff", "-o", "groups")
_VELA = ("group", "archive", "--target", "Vela X", "--radius", "5 deg", "--n-groups", "2")
_VELA = (*_VELA, "-o", "groups", "--no-plots")
_READ = ("-c", "from obscluster import Grouping; Grouping.read('groups')")
_OVER = ("--overwrite",)
_REPAIR = "from pathlib import Path; from obscluster.files.exchange import repair; repair(Path(%r))"
_OPENED = """import contextlib, warnings
from obscluster import DataStore
from obscluster.exceptions import ArchiveError
warnings.simplefilter("ignore")
with contextlib.suppress(ArchiveError):
    DataStore.from_dir("archive")"""
_OPEN = ("-c", _OPENED)


def _file(name: str, text: str) -> tuple[str, str]:
    """Command that writes a file into the box."""
    return ("-c", f"open({name!r}, 'w').write({text!r})")


_RUN = """\
archive: archive
target: Vela X
radius: 180 deg
grouping: {method: hierarchical, n_groups: NUMBER}
assess: {max_groups: 3, n_resamples: 1}
"""
_REPORT = "report: {title: simulated}\n"
_NO_REPORT = "report: false\n"
_REDUCE = """\
reduce:
  energy: {min: 1 TeV, max: 20 TeV, bins_per_decade: 4}
  fit: {flux_points_per_decade: 1}
"""
_RUN_REPORT = _file("run.yaml", _RUN.replace("NUMBER", "2") + _REPORT)
_RUN_GROUPS = _file("run.yaml", _RUN.replace("NUMBER", "2") + _NO_REPORT)
_RUN_OTHERS = _file("run.yaml", _RUN.replace("NUMBER", "3") + _NO_REPORT)
_RUN_REDUCE = _RUN.replace("180 deg", "5 deg").replace("NUMBER", "2") + _NO_REPORT + _REDUCE
_RUN_COMMAND = ("run", "run.yaml", "-o", "results", "--no-plots")
_SETTINGS = (
    "-c",
    """import yaml
yaml.safe_dump(yaml.safe_load(open("run.yaml"))["reduce"], open("reduce.yaml", "w"))""",
)
_REDUCTION = ("reduce", "groups", "--config", "reduce.yaml", "-o", "datasets")
_REDUCIBLE = (_ARCHIVE, _VELA, _file("run.yaml", _RUN_REDUCE), _SETTINGS)
_READ_DATASETS = (
    "-c",
    "from obscluster.reduction import read_reduction; read_reduction('datasets')",
)
_ASSESS = ("assess", "groups", "--max-groups", "4", "--resamples", "1", "-o", "assessment")
_FRONTIER = ("frontier", "archive", "--target", "Vela X", "--radius", "5 deg", "-o", "frontier")
_FRONTIER += ("--max-groups", "2")
_INDICES = ("archive/obs-index.fits.gz", "archive/hdu-index.fits.gz")
_NO_INDEX = ("-c", f"import os; [os.remove(name) for name in {_INDICES!r}]")
_LESS = ("-c", "import glob, os; os.remove(sorted(glob.glob('archive/data/*'))[0])")
_WRITE = """import os
from obscluster import Grouping
os.makedirs("groups", exist_ok=True)
Grouping.read("source").write("groups")"""
_PICTURE = """from matplotlib.figure import Figure
from obscluster.plots.scatter import save_figure
figure = Figure()
figure.subplots().plot([1, NUMBER, 2])
save_figure(figure, "picture.png")"""
_FIT = ("fit", "datasets", "--no-plots")

WRITERS = [
    Writer("group", _GROUPS, ("groups",), (_ARCHIVE,), reader=_READ),
    Writer(
        "group over others",
        (*_GROUPS[:-1], *_OVER),
        ("groups",),
        (_ARCHIVE, _OTHERS),
        reader=_READ,
        own="groups",
    ),
    Writer(
        "group with a cache",
        (*_GROUPS, *_OVER, "--cache", "cache"),
        ("groups",),
        (_ARCHIVE, (*_OTHERS, "--no-plots", "--cache", "cache")),
        loose=("cache",),
        reader=_READ,
        own="groups",
    ),
    Writer("run", _RUN_COMMAND, ("results",), (_ARCHIVE, _RUN_REPORT), steps=True),
    Writer(
        "run over others",
        (*_RUN_COMMAND, *_OVER),
        ("results",),
        (_ARCHIVE, _RUN_OTHERS, _RUN_COMMAND, _RUN_GROUPS),
        reader=("-c", _READ[1].replace("groups'", "results'")),
        own="results",
        steps=True,
    ),
    Writer(
        "run, description changed",
        _RUN_COMMAND,
        ("results",),
        (_ARCHIVE, _RUN_OTHERS, _RUN_COMMAND, _RUN_GROUPS),
        reader=("-c", _READ[1].replace("groups'", "results'")),
        own="results",
        steps=True,
    ),
    Writer(
        "run with reduce and fit",
        _RUN_COMMAND,
        ("results",),
        (_ARCHIVE, _file("run.yaml", _RUN_REDUCE)),
        needs="gammapy",
        steps=True,
    ),
    Writer("assign", ("assign", "groups", "archive", "-o", "more"), ("more",), (_ARCHIVE, _GROUPS)),
    Writer(
        "assign over others",
        ("assign", "groups", "archive", "-o", "more", *_OVER),
        ("more",),
        (_ARCHIVE, (*_OTHERS[:-1], "more", "--no-plots"), _GROUPS),
        reader=("-c", _READ[1].replace("groups'", "more'")),
        own="more",
    ),
    Writer("assess", _ASSESS, ("assessment",), (_ARCHIVE, _GROUPS)),
    Writer(
        "assess over others",
        (*_ASSESS, *_OVER),
        ("assessment",),
        (_ARCHIVE, _OTHERS, _ASSESS, (*_GROUPS, *_OVER)),
        reader=("-c", _REPAIR % "assessment"),
        own="assessment",
    ),
    Writer("frontier", _FRONTIER, ("frontier",), (_ARCHIVE,)),
    Writer(
        "frontier over another",
        (*_FRONTIER, *_OVER),
        ("frontier",),
        (_ARCHIVE, (*_FRONTIER, "--flux", "5 % Crab")),
        reader=("-c", _REPAIR % "frontier"),
        own="frontier",
    ),
    Writer("report", ("report", "groups"), ("groups/report.html",), (_ARCHIVE, _GROUPS)),
    Writer(
        "report over another",
        ("report", "groups", "-o", "page.html"),
        ("page.html",),
        (_ARCHIVE, _OTHERS, ("report", "groups", "-o", "page.html"), (*_GROUPS, *_OVER)),
    ),
    Writer(
        "index",
        ("index", "archive"),
        _INDICES,
        (_ARCHIVE, _NO_INDEX),
        reader=_OPEN,
        journal=True,
    ),
    Writer(
        "index over others",
        ("index", "archive", *_OVER),
        _INDICES,
        (_ARCHIVE, ("index", "archive", *_OVER), _LESS),
        reader=_OPEN,
        journal=True,
    ),
    Writer("simulate", _ARCHIVE, ("archive",)),
    Writer(
        "simulate over another",
        (*_ARCHIVE, *_OVER),
        ("archive",),
        (_OTHER_ARCHIVE,),
    ),
    Writer("init", ("init", "archive"), ("run.yaml",), (_ARCHIVE,)),
    Writer(
        "init over another",
        ("init", "archive", *_OVER),
        ("run.yaml",),
        (_OTHER_ARCHIVE, ("init", "archive"), (*_ARCHIVE, *_OVER)),
    ),
    Writer("check", ("check", "archive", "-o", "found.ecsv"), ("found.ecsv",), (_ARCHIVE,)),
    Writer(
        "check over another",
        ("check", "archive", "-o", "found.ecsv", *_OVER),
        ("found.ecsv",),
        (_ARCHIVE, ("check", "archive", "-o", "found.ecsv"), _LESS),
    ),
    Writer("reduce", _REDUCTION, ("datasets",), _REDUCIBLE, needs="gammapy", parts=True),
    Writer(
        "reduce over others",
        (*_REDUCTION, *_OVER),
        ("datasets",),
        (*_REDUCIBLE, (*_REDUCTION, "--keep-runs"), (*_VELA, *_OVER, "--features", "zenith")),
        reader=_READ_DATASETS,
        own="datasets",
        needs="gammapy",
        parts=True,
    ),
    Writer("fit", _FIT, ("datasets/fit",), (*_REDUCIBLE, _REDUCTION), needs="gammapy"),
    Writer(
        "fit over another",
        (*_FIT[:-1], *_OVER),
        ("datasets/fit",),
        (*_REDUCIBLE, _REDUCTION, (*_FIT[:-1], "--model", "log-parabola")),
        reader=("-c", _REPAIR % "datasets/fit"),
        own="datasets/fit",
        needs="gammapy",
    ),
    Writer(
        "Grouping.write over another",
        ("-c", _WRITE),
        ("groups",),
        (_ARCHIVE, (*_GROUPS[:-2], "source", "--no-plots"), (*_OTHERS, "--no-plots")),
        reader=_READ,
        own="groups",
        deaf=(signal.SIGTERM,),
    ),
    Writer(
        "picture over another",
        ("-c", _PICTURE.replace("NUMBER", "2")),
        ("picture.png",),
        (("-c", _PICTURE.replace("NUMBER", "3")),),
        deaf=(signal.SIGTERM,),
    ),
]
