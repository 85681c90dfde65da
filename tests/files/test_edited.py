"""Files that people edit: whatever they hold, a command ends with a result or a message."""

import re
import shutil
import time

import pytest

from edits import edits
from obscluster.cli import main
from obscluster.exceptions import RequestError
from obscluster.files.records import LIST_FILE, checksum
from obscluster.files.yaml import read_yaml, write_yaml
from obscluster.workflow.run import read_plan

N_EDITS = 200

# What warns of changed files and odd values is part of the answer.
pytestmark = pytest.mark.filterwarnings("default")

DESCRIPTION = """\
x-energy: &energy [1 TeV]
archive: {archive}
target: {target}
radius: 5 deg
frame: icrs
selection:
- type: par_box
  variable: ZEN_PNT
  value_range: [0 deg, 80 deg]
- {{type: time_box, time_range: [2000-01-01, "2040-01-01T00:00:00"]}}
- type: sky_circle
  lon: 83.63 deg
  lat: 22.01 deg
  radius: 180 deg
features:
  names: [psf-r68, edisp-res68]
  energy: *energy
  missing: unassigned
scaling:
  method: tolerance
  tolerances: {{psf-r68: 10%, edisp-res68: 0.02}}
grouping:
  method: hierarchical
  n_groups: 2
constraints:
  within: [N_TELS]
  min_livetime: 0.5 h
source:
  amplitude: 1 % Crab
  index: 2.5
counts:
  energy: [0.5 TeV, 10 TeV]
assess: false
report: false
reduce: {{kind: 1d, workers: 1}}
workers: 1
"""


def answer(capsys, *arguments):
    """Exit code and message of a command, which must be a proper answer."""
    start = time.process_time()
    # argparse alone ends by itself.
    code = main([str(argument) for argument in arguments])
    seconds = time.process_time() - start
    error = capsys.readouterr().err
    assert code in (0, 1, 2)
    assert "Traceback" not in error
    assert error.count("obscluster: error:") == (code == 2)
    # What is caught at the last line of defence is not a message that helps.
    assert "--debug shows where" not in error
    assert seconds < 10
    return code, error


@pytest.fixture(scope="module")
def results(small_archive, tmp_path_factory):
    """Groups of several methods, each with its rule."""
    directory = tmp_path_factory.mktemp("results")
    asked = {
        "hierarchical": ["--n-groups", "3"],
        "kmeans": ["--method", "kmeans", "--n-groups", "2"],
        "mixture": ["--method", "mixture", "--n-groups", "2"],
        "cuts": ["--by", "ZEN_PNT=cut:median", "N_TELS=categories"],
    }
    for name, options in asked.items():
        command = ["group", small_archive, *options, "--no-plots", "-o", directory / name]
        assert main([str(part) for part in command]) == 0
        # With the list, an edited file is refused before it is looked at.
        (directory / name / LIST_FILE).unlink()
    return directory


def refresh(directory):
    """Write the checksums anew, as somebody does who means to mislead."""
    record = read_yaml(directory / "groups.yaml")
    record["checksums"] = {name: checksum(directory / name) for name in record["checksums"]}
    write_yaml(directory / "groups.yaml", record)


def command(directory, archive, number):
    """One of the commands that read groups, each of them in its turn."""
    if number % 50 == 0:
        return ("report", directory, "-o", directory / "page.html")
    if number % 5 == 0:
        return ("assign", directory, archive)
    if number % 2:
        return ("assess", directory, "--max-groups", "2", "--resamples", "0")
    return ("compare", directory, directory)


@pytest.mark.parametrize(
    ("method", "n"), [("hierarchical", N_EDITS), ("kmeans", 40), ("mixture", 40), ("cuts", 40)]
)
def test_an_edited_record_gives_a_result_or_a_message(
    method, n, results, small_archive, tmp_path, capsys
):
    directory = shutil.copytree(results / method, tmp_path / "groups")
    path = directory / "groups.yaml"
    codes = []
    for number, (name, text) in enumerate(edits(path.read_text(), n, seed=1)):
        path.write_bytes(text.encode())
        print(name)
        codes.append(answer(capsys, *command(directory, small_archive, number))[0])
    # Some edits do no harm, many do.
    assert 0 in codes
    assert 2 in codes


@pytest.mark.parametrize("file", ["groups.ecsv", "linkage.ecsv", "rule.ecsv"])
def test_an_edited_table_gives_a_result_or_a_message(
    file, results, small_archive, tmp_path, capsys
):
    directory = shutil.copytree(results / "hierarchical", tmp_path / "groups")
    path = directory / file
    for number, (name, text) in enumerate(edits(path.read_text(), 50, seed=2)):
        path.write_bytes(text.encode())
        refresh(directory)
        print(name)
        answer(capsys, *command(directory, small_archive, number))


@pytest.mark.parametrize("name", ["labels.csv", "labels.txt"])
def test_edited_labels_give_a_result_or_a_message(name, small_archive, results, tmp_path, capsys):
    ids = [path.read_text().split() for path in sorted((results / "kmeans").glob("group_*.txt"))]
    rows = [f"{i},{label}" for label, group in enumerate(ids, start=1) for i in group]
    text = "# by hand\nOBS_ID,label\n" + "\n".join(rows) + "\n"
    path = tmp_path / name
    asked = ("group", small_archive, "--labels", path, "--no-plots", "--overwrite")
    # No more than the index is needed for it.
    asked += ("--features", "zenith")
    codes = []
    for edit, content in edits(text, N_EDITS if name == "labels.csv" else 20, seed=3):
        path.write_bytes(content.encode())
        print(edit)
        codes.append(answer(capsys, *asked, "-o", tmp_path / "groups")[0])
    assert set(codes) == {0, 2}


def test_an_edited_description_gives_a_result_or_a_message(
    small_archive, tmp_path, capsys, monkeypatch
):
    def only_read(plan, *args, **kwargs):
        raise RequestError(f"{plan.config.archive}: is read")

    # What is computed is not the matter here, but what is read.
    monkeypatch.setattr("obscluster.workflow.run.run_plan", only_read)
    text = DESCRIPTION.format(archive=small_archive, target='"83.63 22.01"')
    path = tmp_path / "run.yaml"
    path.write_text(text)
    read_plan(path)
    for name, content in edits(text, N_EDITS, seed=4):
        path.write_bytes(content.encode())
        print(name)
        answer(capsys, "run", path, "-o", tmp_path / "out")


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "link", "sub/../../x", "", "a" * 300, 5, "loop"]
)
@pytest.mark.parametrize("key", ["linkage", "checksums"])
def test_paths_in_records_never_lead_out(key, name, results, tmp_path, capsys):
    directory = shutil.copytree(results / "hierarchical", tmp_path / "groups")
    (directory / "link").symlink_to(results / "hierarchical" / "linkage.ecsv")
    (directory / "loop").symlink_to(directory / "loop")
    record = read_yaml(directory / "groups.yaml")
    record[key] = name if key == "linkage" else {name: "sha256:0"}
    write_yaml(directory / "groups.yaml", record)
    code, error = answer(capsys, "compare", directory, directory)
    assert code == 2
    assert re.search(r"leads out of|expected|cannot be", error)


def test_tables_that_are_links_out_are_refused(results, tmp_path, capsys):
    for file in ("groups.ecsv", "rule.ecsv"):
        directory = shutil.copytree(results / "hierarchical", tmp_path / file)
        (directory / file).unlink()
        (directory / file).symlink_to(results / "hierarchical" / file)
        code, error = answer(capsys, "compare", directory, directory)
        assert code == 2
        assert "leads out of" in error


REDUCTION = """\
obscluster: reduction of groups
versions: {gammapy: '2.0'}
config: {kind: 1d, region: {radius: 0.1 deg}}
archive: /archive
position:
  ra: 83.63
  dec: 22.01
groups:
  group_1:
    key: abc
    obs_ids:
    - 1
    - 2
    livetime: 1.0 h
    counts: 10
    background: 5.5
    skipped:
      3: no PSF
    messages:
      a warning: 2
    datasets:
    - entry:
        name: group_1
        type: SpectrumDatasetOnOff
        filename: pha_obsgroup_1.fits
      files:
      - pha_obsgroup_1.fits
      models: []
    checksums:
      pha_obsgroup_1.fits: sha256:0
files:
- reduction.yaml
"""


def test_an_edited_reduction_is_read_or_refused(tmp_path):
    pytest.importorskip("gammapy")
    from obscluster.reduction import make_reduce_config, read_reduction

    path = tmp_path / "reduction.yaml"
    n_read = 0
    for name, text in [("as it was", REDUCTION), *edits(REDUCTION, N_EDITS, seed=5)]:
        path.write_bytes(text.encode())
        print(name)
        try:
            reduction = read_reduction(tmp_path)
            make_reduce_config(reduction.record["config"])
            assert all(isinstance(group["obs_ids"], list) for group in reduction.groups.values())
            assert reduction.position.isscalar
            assert isinstance(reduction.skipped, dict)
        except RequestError:
            continue
        n_read += 1
    assert 0 < n_read < N_EDITS


@pytest.mark.parametrize("name", ["../x", "/etc/passwd"])
def test_a_reduction_names_no_file_elsewhere(name, tmp_path):
    pytest.importorskip("gammapy")
    from obscluster.reduction import read_reduction

    path = tmp_path / "reduction.yaml"
    for old in ("      - pha_obs", "filename: pha_obs", "      pha_obs", "- reduction.yaml"):
        key = old[: -len("pha_obs")] if old.endswith("pha_obs") else "- "
        rest = "" if old == "- reduction.yaml" else "group_1.fits"
        text = REDUCTION.replace(old + rest, f"{key}{name}", 1)
        assert text != REDUCTION
        path.write_text(text)
        with pytest.raises(RequestError, match="leads out of"):
            read_reduction(tmp_path)
    (tmp_path / "datasets.yaml").write_text(
        f"datasets:\n- {{name: a, type: SpectrumDataset, filename: {name}}}\n"
    )
    path.write_text(REDUCTION)
    with pytest.raises(RequestError, match="leads out of"):
        read_reduction(tmp_path).read()
