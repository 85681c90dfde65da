"""The house: imports point one way, and optional parts stay optional."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import obscluster
import obscluster.moved

SOURCE = Path(obscluster.__file__).parent

# From the ground up; a part may import what stands above it in this list, and itself.
LAYERS = (
    ("version",),
    ("moved",),
    *((room,) for room in ("exceptions", "values", "files", "parallel", "gadf", "archive")),
    *((room,) for room in ("features", "grouping", "information", "assessment", "config")),
    *((room,) for room in ("plots", "reduction", "views", "report", "check", "simulate")),
    *((room,) for room in ("workflow", "cli", "__main__")),
)
# Convenience methods that reach up, imported within the method: a grouping hands its groups on to
# Gammapy, and shows itself in a notebook.
DEFERRED = {
    ("grouping/base.py", "obscluster.reduction"),
    ("grouping/base.py", "obscluster.views.notebook"),
}
# Schemas of descriptions live in the rooms that they describe.
PYDANTIC = {
    "archive/description.py",
    "config",
    "files/description.py",
    "grouping/cuts.py",
    "grouping/hierarchical.py",
    "grouping/labels.py",
    "grouping/method.py",
    "grouping/partition.py",
    "grouping/spread.py",
    "information/cluster.py",
    "values/fields.py",
}
RANK = {part: rank for rank, parts in enumerate(LAYERS) for part in parts}
MODULES = sorted(path for path in SOURCE.rglob("*.py") if path != SOURCE / "__init__.py")


def part_of(path):
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports_of(path):
    """Names of all modules that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module)
    return found


def imports_within_functions(path):
    """Names of modules that a file imports within functions only."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    inner = [node for function in functions for node in ast.walk(function)]
    of_file, of_functions = (
        [node.module for node in nodes if isinstance(node, ast.ImportFrom)]
        for nodes in (ast.walk(tree), inner)
    )
    return {name for name in of_functions if of_file.count(name) == of_functions.count(name)}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_one_way(path):
    here = part_of(path)
    for name in imports_of(path):
        if (path.relative_to(SOURCE).as_posix(), name) in DEFERRED:
            assert name in imports_within_functions(path)
        elif name.startswith("obscluster."):
            there = name.split(".")[1]
            assert there == here or RANK[there] < RANK[here], f"{here} imports {there}"


def test_every_exception_is_needed():
    for file, name in DEFERRED:
        assert name in imports_of(SOURCE / file), f"{file} does not import {name}: list it no more"


@pytest.mark.parametrize(
    ("package", "homes"),
    [
        ("bokeh", {"report"}),
        ("dask", {"parallel/dask_cluster.py"}),
        ("distributed", {"parallel/dask_cluster.py"}),
        ("fsspec", {"gadf/remote.py"}),
        ("gammapy", {"reduction"}),
        ("jinja2", {"report/html.py"}),
        ("matplotlib", {"plots", "report"}),
        ("astropy.io.fits", {"gadf", "simulate"}),
        ("tqdm", {"cli"}),
        ("upath", {"gadf/remote.py"}),
        ("pyarrow", {"features/cache.py"}),
        ("pydantic", PYDANTIC),
    ],
)
def test_a_dependency_stays_in_one_place(package, homes):
    for path in MODULES:
        names = imports_of(path)
        if "astropy.io" in names:
            names.add("astropy.io.fits")
        if any(name == package or name.startswith(f"{package}.") for name in names):
            inside = path.relative_to(SOURCE).as_posix()
            assert {part_of(path), inside} & homes, path


def modules_after(statement):
    code = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_plain_import_loads_neither_astropy_nor_extras():
    loaded = modules_after("import obscluster")
    assert not loaded & {"numpy", "astropy", "matplotlib", "gammapy", "scipy", "bokeh", "dask"}


def test_help_needs_no_heavy_import():
    loaded = modules_after("import obscluster.cli as c; c.make_parser().format_help()")
    assert not loaded & {"numpy", "astropy", "matplotlib", "pydantic", "yaml", "tqdm"}


def test_reading_features_loads_no_matplotlib():
    loaded = modules_after("from obscluster import DataStore, get_irfs_features, Grouping")
    assert "numpy" in loaded
    assert not loaded & {"matplotlib", "gammapy", "pydantic"}


def test_every_public_name_is_there():
    for name in obscluster.__all__:
        assert getattr(obscluster, name).__name__ == name
    assert sorted(obscluster._HOMES) == obscluster.__all__
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = obscluster.nonsense


@pytest.mark.parametrize("former", obscluster.moved.MOVED)
def test_a_module_that_moved_is_found_by_its_former_name(former, monkeypatch):
    monkeypatch.delitem(sys.modules, f"obscluster.{former}", raising=False)
    with pytest.warns(DeprecationWarning, match=f"obscluster.{former} is now"):
        found = importlib.import_module(f"obscluster.{former}")
    assert found is importlib.import_module(f"obscluster.{obscluster.moved.MOVED[former]}")
    assert found.__spec__.name == found.__name__


def test_a_module_that_never_was_is_not_found():
    with pytest.raises(ModuleNotFoundError, match="nonsense"):
        importlib.import_module("obscluster.nonsense")
