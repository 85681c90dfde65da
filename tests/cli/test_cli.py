"""The command line as a user meets it."""

import os
import shutil
import subprocess
import sys

import pytest
from astropy.table import QTable, Table

from obscluster import Grouping, __version__
from obscluster.cli import main


@pytest.fixture
def run(capsys):
    """Call a command; returns exit code, output and errors."""

    def call(*arguments):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out, captured.err

    return call


class TestInfo:
    def test_hess_dr1(self, run, hess_dr1):
        code, out, err = run("info", hess_dr1)
        assert (code, err) == (0, "")
        for text in (
            "105 (OBS_ID 20136 to 47829)",
            "44.8 h",
            "H.E.S.S. Phase I",
            "PKS 2155-304 (21)",
            "2.47 to 52.66 deg",
            "psf_table (105)",
        ):
            assert text in out

    def test_simulated(self, run, small_archive):
        code, out, _ = run("info", small_archive)
        assert code == 0
        assert "12 (OBS_ID" in out

    @pytest.mark.parametrize("column", ["HDU_CLASS", "HDU_TYPE"])
    def test_one_column_of_the_hdu_index_is_enough(self, column, run, small_archive, tmp_path):
        archive = shutil.copytree(small_archive, tmp_path / "archive")
        table = Table.read(archive / "hdu-index.fits.gz")
        table.remove_column(column)
        table.write(archive / "hdu-index.fits.gz", overwrite=True)
        code, out, _ = run("info", archive)
        assert code == 0
        assert "psf" in out


class TestGroup:
    def test_the_command_of_the_readme(self, run, hess_dr1, pks_reference, tmp_path):
        code, out, err = run(
            "group", hess_dr1, "--target", "329.71693826 -30.2255890", "--radius", "2 deg",
            "--energy", "1 TeV", "--features", "edisp-res", "psf-radius", "--n-groups", 2,
            "--output", tmp_path / "results",
        )  # fmt: skip
        assert (code, err) == (0, "")
        assert "21 observations, 9.2 h, in 2 groups" in out
        assert Grouping.read(tmp_path / "results").labels.tolist() == list(pks_reference["label"])

    @pytest.mark.parametrize(
        ("options", "n_groups"),
        [
            (["--by", "ZEN_PNT"], 2),
            (["--by", "ZEN_PNT", "--cut", "median"], 2),
            (["--by", "ZEN_PNT", "--cut", "20 deg", "30"], 3),
            (["--by", "MUONEFF", "--quantiles", "4"], 4),
            (["--by", "ZEN_PNT", "--edges", "0 deg", "90 deg"], 1),
            (["--n-groups", "4", "--linkage", "average", "--metric", "cityblock"], 4),
            (["--energy", "1 TeV", "5 TeV", "--features", "psf-radius", "--offset", "1 deg"], 2),
            (["--where", "ZEN_PNT", "0 deg", "90 deg", "--containment", "0.95"], 2),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else None,
    )
    def test_ways_to_group(self, options, n_groups, run, small_archive, tmp_path):
        output = tmp_path / "results"
        code, out, _ = run("group", small_archive, *options, "-o", output, "--no-plots")
        assert code == 0
        grouping = Grouping.read(output)
        assert grouping.n_groups == n_groups
        assert len(grouping) == 12
        assert all(f"group_{label}" in out for label in range(1, n_groups + 1))

    def test_a_table_that_is_too_wide_is_turned(self, run, small_archive, tmp_path, monkeypatch):
        monkeypatch.setenv("COLUMNS", "100")
        names = ["zenith", "airmass", "livetime", "psf-r68", "psf-r95", "edisp-res68", "aeff"]
        _, out, _ = run("group", small_archive, "--features", *names, "-o", tmp_path / "r")
        table = out[out.index("group") :].splitlines()
        rows = {line.split()[0] for line in table if line}
        assert set(names) <= rows
        assert max(len(line) for line in out.splitlines() if not line.startswith("results")) <= 100

    def test_several_energies_become_columns(self, run, small_archive, tmp_path):
        run(
            "group", small_archive, "--energy", "1 TeV", "5 TeV", "-o", tmp_path / "r", "--no-plots"
        )
        names = QTable.read(tmp_path / "r" / "features.ecsv").colnames
        assert names[1:3] == ["edisp-res@1TeV", "edisp-res@5TeV"]

    def test_broken_runs_are_named_and_the_rest_goes_on(self, run, small_archive, tmp_path):
        archive = shutil.copytree(small_archive, tmp_path / "archive")
        files = sorted((archive / "data").iterdir())
        files[0].unlink()
        files[1].write_bytes(files[1].read_bytes()[:3000])
        code, out, err = run("group", archive, "-o", tmp_path / "results", "--no-plots")
        assert code == 0
        assert "2 in no group" in out
        assert files[0].name in err
        assert "truncated" in err
        assert (Grouping.read(tmp_path / "results").labels > 0).sum() == 10


class TestSimulate:
    def test_writes_an_archive_that_info_reads(self, run, tmp_path):
        code, out, err = run(
            "simulate", tmp_path / "a", "--n-obs", 4, "--seed", 3, "--size", "small"
        )
        assert (code, err) == (0, "")
        assert "4 runs" in out
        assert run("info", tmp_path / "a")[0] == 0

    def test_refuses_to_overwrite(self, run, small_archive):
        code, _, err = run("simulate", small_archive)
        assert code == 2
        assert str(small_archive) in err


def without_indices(archive):
    for path in archive.glob("*-index.fits.gz"):
        path.unlink()


def without_obs_id(archive):
    table = Table.read(archive / "obs-index.fits.gz")
    table.remove_column("OBS_ID")
    table.write(archive / "obs-index.fits.gz", overwrite=True)


def truncated_index(archive):
    path = archive / "obs-index.fits.gz"
    path.write_bytes(path.read_bytes()[:500])


class TestBadInput:
    """One clear message, exit code 2, and no result."""

    @pytest.mark.parametrize(
        ("options", "messages"),
        [
            (["--features", "psf-radus"], ["unknown feature 'psf-radus'", "'psf-radius'"]),
            (["--energy", "1"], ["has no unit", "1 TeV"]),
            (["--energy", "0.0001 TeV"], ["none of the 12 runs", "energy outside the response"]),
            (["--n-groups", "13"], ["13 groups asked of 12 runs"]),
            (["--n-groups", "0"], ["n_groups", "expected a whole number from 1"]),
            (["--where", "ZEN_PNT", "80 deg", "90 deg"], ["leaves no run", "leaves 0"]),
            (["--where", "ZENITH", "0", "1"], ["unknown column", "'ZENITH'", "ZEN_PNT"]),
            (["--where", "ZEN_PNT", "0 TeV", "1 TeV"], ["ZEN_PNT", "does not convert to deg"]),
            (["--target", "Crab Nebulla"], ["unknown target", "did you mean 'Crab Nebula'"]),
            (["--target", "10 10", "--radius", "2"], ["leaves no run"]),
            (["--target", "10 10", "--radius", "wide"], ["radius: 'wide'", "2 deg"]),
            (["--cut", "20"], ["--cut needs --by"]),
            (["--by", "ZEN_PNT", "--n-groups", "3"], ["--n-groups belongs to clustering"]),
            (["--by", "ZEN_PNT", "--cut", "1", "--edges", "1", "2"], ["one of cut"]),
            (["--by", "OBJECT"], ["holds no numbers"]),
            (["--linkage", "wards"], ["wards"]),
            (["--metric", "cityblock"], ["uclidean"]),
            (["--workers", "0"], ["workers"]),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else None,
    )
    def test_requests(self, options, messages, run, small_archive, tmp_path):
        code, out, err = run("group", small_archive, *options, "-o", tmp_path / "results")
        assert (code, out) == (2, "")
        for message in messages:
            assert message in err
        assert err.startswith("obscluster: error: ")
        assert err.count("\n") == 1
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("damage", "messages"),
        [
            (shutil.rmtree, ["no such archive directory"]),
            (without_indices, ["no hdu-index.fits.gz", "obscluster index"]),
            (lambda a: (a / "hdu-index.fits.gz").unlink(), ["no hdu-index.fits.gz"]),
            (without_obs_id, ["no column OBS_ID"]),
            (truncated_index, ["truncated", "obs-index.fits.gz"]),
            (lambda a: (a / "obs-index.fits.gz").write_text("hello"), ["not a FITS file"]),
        ],
        ids=["no archive", "no index", "no hdu-index", "no OBS_ID", "truncated", "not FITS"],
    )
    @pytest.mark.parametrize("command", ["info", "group"])
    def test_archives(self, command, damage, messages, run, small_archive, tmp_path):
        archive = shutil.copytree(small_archive, tmp_path / "archive")
        damage(archive)
        output = ["-o", tmp_path / "results"] if command == "group" else []
        code, _, err = run(command, archive, *output)
        assert code == 2
        for message in messages:
            assert message in err
        assert err.count("\n") == 1
        assert not (tmp_path / "results").exists()

    def test_an_environment_variable_that_is_not_set(self, run):
        code, _, err = run("info", "$NO_SUCH_VARIABLE/archive")
        assert code == 2
        assert "$NO_SUCH_VARIABLE is not set" in err

    def test_results_that_exist_are_kept_before_any_work(self, run, small_archive, tmp_path):
        (tmp_path / "file").write_text("")
        code, _, err = run("group", small_archive, "-o", tmp_path)
        assert code == 2
        assert "--overwrite" in err


class TestProcess:
    """What only a process of its own shows."""

    def call(self, *arguments, **options):
        command = [sys.executable, "-m", "obscluster", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False, **options)

    def test_version(self):
        assert self.call("--version").stdout == f"obscluster {__version__}\n"

    @pytest.mark.parametrize("command", [[], ["info"], ["group"], ["simulate"]])
    def test_help_has_an_example(self, command):
        done = self.call(*command, "--help")
        assert done.returncode == 0
        assert "example" in done.stdout
        assert max(map(len, done.stdout.splitlines())) < 100

    def test_no_command_is_an_error(self):
        done = self.call()
        assert done.returncode == 2
        assert "COMMAND" in done.stderr

    def test_nothing_but_the_result_without_a_terminal(self, small_archive, tmp_path):
        done = self.call("group", small_archive, "-o", tmp_path / "r", "--no-plots")
        assert done.returncode == 0
        assert done.stderr == ""

    def test_a_reader_that_has_seen_enough(self, small_archive):
        command = f"{sys.executable} -m obscluster info {small_archive} | head -1"
        done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)  # noqa: S602
        assert done.stderr == ""

    def test_warnings_as_errors(self, small_archive, tmp_path):
        environment = os.environ | {"PYTHONWARNINGS": "error"}
        done = self.call("group", small_archive, "-o", tmp_path / "results", env=environment)
        assert done.stderr == ""
        assert done.returncode == 0
