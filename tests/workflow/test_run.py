"""``obscluster run``: steps are kept until their inputs change, whatever interrupts them."""

import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from astropy.table import QTable, Table

from obscluster import Grouping
from obscluster.cli import main
from obscluster.exceptions import RequestError
from obscluster.files.records import checksum
from obscluster.files.yaml import read_yaml
from obscluster.simulate import simulate
from obscluster.workflow.run import read_plan, run_plan

ASKED = {
    "target": "Crab Nebula",
    "radius": "180 deg",
    "grouping": {"method": "hierarchical", "n_groups": 3},
    "assess": {"max_groups": 4, "n_resamples": 5},
    "report": False,
}


@pytest.fixture
def describe(small_archive, tmp_path):
    """Function that writes a description and returns its path."""

    def write(**content):
        path = tmp_path / "run.yaml"
        path.write_text(yaml.safe_dump({"archive": str(small_archive), **ASKED, **content}))
        return path

    return write


@pytest.fixture
def run(tmp_path):
    """Function that runs a description; returns how each step went."""

    def call(path, output="results", settings=(), **options):
        options = {"plots": False} | options
        return dict(
            run_plan(read_plan(path, settings), tmp_path / output, **options).steps,
        )

    return call


def contents(directory):
    """Bytes of all files by relative path."""
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def check_complete(output):
    """Every step that is said to be complete is; returns their names."""
    file = output / "steps" / "steps.yaml"
    entries = read_yaml(file)["steps"] if file.exists() else {}
    for entry in entries.values():
        for name, value in entry["files"].items():
            assert checksum(output / name) == value, name
    if "group" in entries:
        Grouping.read(output)
    return set(entries)


class TestKept:
    def test_the_first_time_all_is_done_and_then_all_is_kept(self, describe, run, tmp_path):
        path = describe()
        assert run(path) == {"features": "done", "group": "done", "assess": "done"}
        before = contents(tmp_path / "results")
        assert run(path) == {"features": "kept", "group": "kept", "assess": "kept"}
        assert contents(tmp_path / "results") == before

    @pytest.mark.parametrize(
        ("settings", "done"),
        [
            (["grouping.n_groups=2"], {"group", "assess"}),
            (["scaling.method=robust"], {"group", "assess"}),
            (["constraints.min_runs=2"], {"group", "assess"}),
            (["features.energy=[3 TeV]"], {"features", "group", "assess"}),
            (["features.names=[psf-r68, aeff]"], {"features", "group", "assess"}),
            (["assess.n_resamples=4"], {"assess"}),
            (["workers=2"], set()),
            (["radius=179.9 deg"], {"group", "assess"}),
            (["selection=[{type: par_box, variable: OBS_ID, value_range: [0, 150000]}]"], None),
        ],
    )
    def test_what_changed_is_done_again_and_equals_a_fresh_run(
        self, settings, done, describe, run, tmp_path
    ):
        path = describe()
        run(path)
        steps = run(path, settings=settings)
        everything = {"features", "group", "assess"}
        assert {name for name, how in steps.items() if how == "done"} == (
            everything if done is None else done
        )
        run(path, "fresh", settings)
        assert contents(tmp_path / "results") == contents(tmp_path / "fresh")

    def test_how_the_work_is_shared_out_changes_nothing(self, describe, run, tmp_path):
        path = describe()
        run(path)
        before = contents(tmp_path / "results")
        settings = ["workers=3", f"features.cache={tmp_path / 'cache'}"]
        assert set(run(path, settings=settings).values()) == {"kept"}
        assert contents(tmp_path / "results") == before
        # Nor does it where the features come from a cache.
        for name in ("computed", "cached"):
            run(path, name, settings)
            assert contents(tmp_path / name) == before

    def test_groups_from_a_file_follow_the_file(self, describe, run, tmp_path):
        run(describe())
        ids = Grouping.read(tmp_path / "results").obs_ids.tolist()
        labels = tmp_path / "labels.csv"
        path = describe(grouping={"method": "labels", "file": str(labels)})
        for n_first in (4, 5):
            rows = [f"{obs_id},{1 if i < n_first else 2}" for i, obs_id in enumerate(ids)]
            labels.write_text("\n".join(["obs_id,label", *rows]) + "\n")
            steps = run(path)
            assert (steps["features"], steps["group"]) == ("kept", "done")
            assert len(Grouping.read(tmp_path / "results").groups["group_1"]) == n_first
        assert run(path)["group"] == "kept"

    def test_what_the_groups_do_not_depend_on_is_written_down_all_the_same(
        self, describe, run, tmp_path
    ):
        run(describe())
        path = describe(assess={"max_groups": 3, "n_resamples": 0})
        assert run(path)["group"] == "kept"
        record = read_yaml(tmp_path / "results" / "groups.yaml")
        assert record["config"]["assess"] == {"max_groups": 3, "n_resamples": 0}
        Grouping.read(tmp_path / "results")
        assert run(path)["group"] == "kept"

    @pytest.mark.parametrize(
        ("name", "done"),
        [
            ("steps/features.ecsv", {"features"}),
            ("groups.ecsv", {"group"}),
            ("group_1.txt", {"group"}),
            ("assessment/spreads.ecsv", {"assess"}),
        ],
    )
    @pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_text("spoilt")])
    def test_a_spoilt_file_is_made_again(self, spoil, name, done, describe, run, tmp_path):
        path = describe()
        run(path)
        before = contents(tmp_path / "results")
        spoil(tmp_path / "results" / name)
        steps = run(path)
        assert done <= {step for step, how in steps.items() if how == "done"}
        assert contents(tmp_path / "results") == before

    def test_a_file_of_the_archive_that_changed_is_noticed(
        self, small_archive, describe, run, tmp_path
    ):
        archive = shutil.copytree(small_archive, tmp_path / "archive")
        path = describe(archive=str(archive))
        broken = sorted((archive / "data").iterdir())[0]
        whole = broken.read_bytes()
        broken.write_bytes(whole[:3000])
        run(path)
        assert len(Grouping.read(tmp_path / "results").reasons) == 1
        broken.write_bytes(whole)
        assert run(path)["features"] == "done"
        assert not Grouping.read(tmp_path / "results").reasons

    def test_a_feature_file_that_changed_is_noticed(self, describe, run, tmp_path):
        own = tmp_path / "own.py"
        text = (
            "from obscluster.features.base import feature\nimport astropy.units as u\n"
            "@feature('mine', unit=u.one)\ndef mine(run):\n    '''Mine.'''\n"
            "    return float(run.observation.obs_id % {})\n"
        )
        own.write_text(text.format(1000))
        path = describe(features={"names": ["mine", "psf-r68"], "files": [str(own)]})
        run(path)
        own.write_text(text.format(10_000))
        assert run(path)["features"] == "done"

    def test_it_says_what_is_kept_and_why_not(self, describe, tmp_path, capsys):
        arguments = ["run", str(describe()), "-o", str(tmp_path / "results"), "--no-plots"]
        assert main(arguments) == 0
        assert re.search(r"^features: done, \d+\.\d s$", capsys.readouterr().out, re.MULTILINE)
        assert main([*arguments, "--set", "grouping.n_groups=2"]) == 0
        out = capsys.readouterr().out
        assert "select: 12 of 12 runs\nfeatures: kept\n" in out
        assert re.search(r"^group: done, \d+\.\d s \(grouping changed\)$", out, re.MULTILINE)
        assert "12 observations" in out

    @pytest.mark.parametrize(("asked", "there"), [({}, False), ({"n_resamples": 3}, True)])
    def test_stability_of_many_runs_only_if_asked(
        self, asked, there, describe, tmp_path, monkeypatch
    ):
        monkeypatch.setattr("obscluster.workflow.run._MANY_RUNS", 11)
        said = []
        path = describe(assess={"max_groups": 3, **asked})
        run_plan(read_plan(path), tmp_path / "results", plots=False, say=said.append)
        assert (tmp_path / "results" / "assessment" / "stability.ecsv").exists() == there
        assert any("no stability" in text for text in said) != there

    def test_features_left_out_are_left_out_of_kept_ones_too(self, describe, run, tmp_path):
        names = ["psf-r68", "psf-r68@1000TeV"]
        path = describe(features={"names": names, "missing": "drop-feature"})
        with pytest.warns(UserWarning, match="left out, since some runs"):
            run(path)
        first = contents(tmp_path / "results")
        assert run(path)["features"] == "kept"
        assert contents(tmp_path / "results") == first


@pytest.fixture
def hidden(small_archive, tmp_path):
    """Copy of the archive, and functions that hide the file of a run and bring it back.

    Something that cannot be opened stands in its place: root may read whatever its mode forbids.
    """
    archive = shutil.copytree(small_archive, tmp_path / "archive")
    aside = tmp_path / "aside"

    def hide(path):
        path.rename(aside)
        path.mkdir()

    def bring_back(path):
        path.rmdir()
        aside.rename(path)

    return archive, hide, bring_back


class TestUnread:
    """A file that cannot be read is no result."""

    @pytest.fixture
    def remote(self, unpacked_archive, tmp_path, serve):
        """Server of a copy of an archive, and the files of its runs."""
        pytest.importorskip("fsspec")
        archive = shutil.copytree(unpacked_archive, tmp_path / "archive")
        server = serve(archive)
        return server, sorted((archive / "data").iterdir())

    def test_what_has_passed_is_done_again(self, remote, describe, run, tmp_path, monkeypatch):
        """Nothing changes but that the server answers: no fingerprint tells."""
        monkeypatch.setattr("obscluster.gadf.remote._FIRST_DELAY", 0.01)
        server, paths = remote
        server.faults["GET", paths[1].name] = itertools.repeat(500)
        path = describe(archive=server.url)
        said = []
        run(path)
        entries = read_yaml(tmp_path / "results" / "steps" / "steps.yaml")["steps"]
        obs_id = int(paths[1].stem.removeprefix("run_"))
        assert list(entries["features"]["unread"]) == [obs_id]
        assert list(Grouping.read(tmp_path / "results").reasons) == [obs_id]
        assert run(path, say=said.append) == {"features": "done", "group": "kept", "assess": "kept"}
        assert "features: done again, 1 run could not be read before," in "\n".join(said)
        server.faults.clear()
        assert set(run(path).values()) == {"done"}
        assert set(run(path).values()) == {"kept"}
        run(path, "whole")
        assert contents(tmp_path / "results") == contents(tmp_path / "whole")
        assert not Grouping.read(tmp_path / "results").reasons

    def test_a_livetime_of_the_index_is_not_kept_either(self, remote, describe, run, tmp_path):
        server, paths = remote
        server.faults["GET", paths[1].name] = itertools.repeat(400)
        path = describe(
            archive=server.url, features={"names": ["zenith"]}, assess={"n_resamples": 0}
        )
        run(path)
        notes = Table.read(tmp_path / "results" / "features.ecsv")["notes"]
        assert "livetime of the index" in notes[1]
        server.faults.clear()
        assert run(path)["features"] == "done"
        notes = QTable.read(tmp_path / "results" / "features.ecsv")["notes"]
        assert not any(np.ma.filled(notes, ""))

    def test_a_remote_file_that_changed_is_noticed(self, remote, describe, run, tmp_path):
        server, paths = remote
        names = {"names": ["psf-r68", "aeff"], "energy": ["1 TeV"]}
        path = describe(archive=server.url, features=names)
        run(path)
        assert set(run(path).values()) == {"kept"}
        paths[0].write_bytes(paths[1].read_bytes())
        assert run(path)["features"] == "done"
        table = Table.read(tmp_path / "results" / "features.ecsv")
        assert table["psf-r68"][0] == table["psf-r68"][1]
        # Of the same size, and changed within the same process.
        os.utime(paths[2], (1, 1))
        assert run(path)["features"] == "done"

    def test_a_run_that_is_lost_to_the_counts(self, hidden, describe, run, tmp_path):
        """Features come from the index; the responses are read for the groups alone."""
        archive, hide, bring_back = hidden
        names = read_names(archive)
        path = describe(
            archive=str(archive),
            target="Vela X",
            features={"names": ["zenith"]},
            grouping={"method": "information", "n_groups": 1},
            assess=False,
        )
        hide(names[0])
        run(path)
        lost = int(names[0].name[4:10])
        assert "is a directory" in Grouping.read(tmp_path / "results").reasons[lost]
        bring_back(names[0])
        assert run(path)["group"] == "done"
        assert lost in Grouping.read(tmp_path / "results").groups["group_1"]
        assert run(path)["group"] == "kept"

    @pytest.mark.parametrize("strict", [False, True])
    def test_the_first_line_says_it(self, strict, hidden, describe, tmp_path, capsys):
        archive, hide, _ = hidden
        names = read_names(archive)
        hide(names[3])
        path = describe(archive=str(archive))
        option = ["--strict"] if strict else []
        output = ["--no-plots", "-o", str(tmp_path / "run")]
        assert main(["run", str(path), *output, *option]) == (3 if strict else 0)
        lost = int(names[3].name[4:10])
        text = f"1 of 12 runs could not be read: {lost} (is a directory)"
        assert capsys.readouterr().out.partition("\n\n")[2].splitlines()[0] == (
            f"{text}; groups are without it"
        )
        output = ["--no-plots", "--n-groups", "2", "-o", str(tmp_path / "group")]
        assert main(["group", str(archive), *output, *option]) == (3 if strict else 0)
        assert capsys.readouterr().out.splitlines()[0] == f"{text}; groups are without it"
        assert read_yaml(tmp_path / "group" / "groups.yaml")["unread"].keys() == {lost}

    def test_all_is_well(self, describe, tmp_path, capsys):
        output = ["--no-plots", "--strict", "-o", str(tmp_path / "run")]
        assert main(["run", str(describe()), *output]) == 0
        assert "could not be read" not in capsys.readouterr().out


def read_names(archive):
    """Files of the runs."""
    return sorted((archive / "data").iterdir())


class TestOutput:
    def test_what_is_not_ours_is_left_alone(self, describe, run, tmp_path):
        (tmp_path / "results").mkdir()
        (tmp_path / "results" / "thesis.tex").write_text("years")
        with pytest.raises(RequestError, match="--overwrite"):
            run(describe())
        assert contents(tmp_path / "results") == {"thesis.tex": b"years"}
        run(describe(), overwrite=True)
        assert (tmp_path / "results" / "thesis.tex").read_text() == "years"

    @pytest.mark.parametrize("option", ["--restart", "--overwrite"])
    def test_all_is_done_again_when_told(self, option, describe, tmp_path, capsys):
        arguments = ["run", str(describe()), "-o", str(tmp_path / "results"), "--no-plots"]
        main(arguments)
        first = contents(tmp_path / "results")
        capsys.readouterr()
        assert main([*arguments, option]) == 0
        assert "kept" not in capsys.readouterr().out
        assert contents(tmp_path / "results") == first

    def test_a_record_cannot_make_us_delete_elsewhere(self, describe, run, tmp_path):
        path = describe()
        run(path)
        precious = tmp_path / "precious"
        precious.write_text("keep")
        file = tmp_path / "results" / "steps" / "steps.yaml"
        record = read_yaml(file)
        record["steps"]["assess"]["files"] |= {
            name: checksum(precious) for name in ("../precious", str(precious))
        }
        file.write_text(yaml.safe_dump(record))
        run(path, overwrite=True)
        assert precious.read_text() == "keep"

    @pytest.mark.parametrize(
        "text", ["", "steps: 7", "steps: {group: 7}", "a: [", "steps: {a: {}}"]
    )
    def test_a_broken_record_is_no_record(self, text, describe, run, tmp_path):
        path = describe()
        run(path)
        (tmp_path / "results" / "steps" / "steps.yaml").write_text(text)
        assert set(run(path).values()) == {"done"}

    def test_the_assessment_of_earlier_groups_does_not_stay(self, describe, run, tmp_path):
        run(describe())
        run(describe(assess=False, grouping={"method": "hierarchical", "n_groups": 2}))
        assert not (tmp_path / "results" / "assessment").exists()

    def test_other_commands_take_the_results(self, describe, run, tmp_path):
        run(describe())
        assert main(["assess", str(tmp_path / "results")]) == 0
        again = ["run", str(tmp_path / "results" / "groups.yaml"), "-o", str(tmp_path / "again")]
        assert main([*again, "--no-plots"]) == 0
        names = {"groups.ecsv", "features.ecsv", "assessment/quality.ecsv"}
        first, second = contents(tmp_path / "results"), contents(tmp_path / "again")
        assert {name: first[name] for name in names} == {name: second[name] for name in names}

    def test_only_one_run_at_a_time(self, describe, run, tmp_path):
        code = (
            "import sys, time; from pathlib import Path;"
            "from obscluster.files.output import reserved\n"
            "with reserved(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
        )
        command = [sys.executable, "-c", code, str(tmp_path / "results")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
            assert other.stdout.readline() == "held\n"
            with pytest.raises(RequestError, match=f"another command .* process {other.pid}"):
                run(describe())
            other.kill()
        assert set(run(describe()).values()) == {"done"}


class TestSame:
    @pytest.mark.parametrize("workers", [1, 2])
    def test_two_runs_give_the_same_bytes(self, workers, describe, run, tmp_path):
        """All files, plots included; and the number of workers changes none of them."""
        run(describe(), "first", plots=True)
        run(describe(workers=workers), "second", plots=True)
        first, second = contents(tmp_path / "first"), contents(tmp_path / "second")
        assert len(first) > 15
        assert first == second


class PowerCut(BaseException):
    """Nothing that comes after it happens."""


class TestInterrupted:
    def test_complete_steps_are_kept(self, describe, run, tmp_path, monkeypatch, capsys):
        def interrupt(*args, **kwargs):
            raise KeyboardInterrupt

        path = describe()
        arguments = ["run", str(path), "-o", str(tmp_path / "results"), "--no-plots"]
        with monkeypatch.context() as patch:
            patch.setattr("obscluster.workflow.run.assess_grouping", interrupt)
            assert main(arguments) == 130
        assert "goes on from them" in capsys.readouterr().err
        assert check_complete(tmp_path / "results") == {"features", "group"}
        assert run(path) == {"features": "kept", "group": "kept", "assess": "done"}

    @pytest.mark.parametrize("name", ["SIGKILL", "SIGINT"])
    def test_by_a_signal_among_the_features(self, name, describe, run, tmp_path):
        """A process of its own that ends itself when it comes to the fifth run."""
        own = tmp_path / "own.py"
        own.write_text(
            "import os, signal\nfrom pathlib import Path\nimport astropy.units as u\n"
            "from obscluster.features.base import feature\n"
            "@feature('mine', unit=u.one)\ndef mine(run):\n    '''Mine.'''\n"
            "    if run.observation.obs_id == 99601 and Path(__file__ + '.end').exists():\n"
            f"        os.kill(os.getpid(), signal.{name})\n"
            "    return float(run.observation.obs_id)\n"
        )
        end = Path(f"{own}.end")
        end.write_text("")
        path = describe(features={"names": ["mine", "psf-r68"], "files": [str(own)]})
        command = [sys.executable, "-m", "obscluster", "run", path, "-o", tmp_path / "results"]
        done = subprocess.run(
            [*command, "--no-plots"],
            capture_output=True,
            text=True,
            check=False,
            # A shell makes what runs in its background deaf to it.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        assert done.returncode == (-signal.SIGKILL if name == "SIGKILL" else 130), done.stderr
        assert "Traceback" not in done.stderr
        assert check_complete(tmp_path / "results") == set()
        end.unlink()
        assert set(run(path).values()) == {"done"}
        run(path, "whole")
        assert contents(tmp_path / "results") == contents(tmp_path / "whole")


class TestReport:
    def test_without_bokeh_it_is_left_out_unless_asked_for(
        self, describe, run, tmp_path, monkeypatch, capsys
    ):
        monkeypatch.setitem(sys.modules, "bokeh", None)
        path = describe(report=None)
        assert main(["run", str(path), "-o", str(tmp_path / "results"), "--no-plots"]) == 0
        out = capsys.readouterr().out
        assert "report: left out: a report needs bokeh, which is not installed" in out
        assert 'pip install "obscluster[report]"' in out
        for asked in (True, {"title": "Mine"}):
            with pytest.raises(RequestError, match=r"line \d+: report: a report needs bokeh"):
                run(describe(report=asked), "none")
        assert not (tmp_path / "none").exists()

    def test_is_written_and_kept(self, describe, run, tmp_path):
        pytest.importorskip("bokeh")
        path = describe(report={"title": "Of <twelve> runs"})
        assert run(path)["report"] == "done"
        page = (tmp_path / "results" / "report.html").read_text()
        assert "Of &lt;twelve&gt; runs" in page
        assert run(path)["report"] == "kept"
        run(path, "again")
        assert (tmp_path / "again" / "report.html").read_text() == page
        # Another title needs another page, and nothing else.
        steps = run(path, settings=["report.title=B"])
        assert {name for name, how in steps.items() if how == "done"} == {"report"}
        # The same page, also where the assessment was kept.
        assert run(path)["report"] == "done"
        assert (tmp_path / "results" / "report.html").read_text() == page


REDUCE = {
    "energy": {"min": "0.5 TeV", "max": "50 TeV", "bins_per_decade": 5},
    "fit": {"flux_points_per_decade": 0},
}


class TestReduction:
    @pytest.fixture(scope="class")
    @staticmethod
    def archive(tmp_path_factory):
        pytest.importorskip("gammapy")
        return simulate(tmp_path_factory.mktemp("run") / "archive", n_obs=4, seed=1, size="small")

    @pytest.fixture
    def path(self, archive, describe):
        return describe(
            archive=str(archive),
            grouping={"method": "cuts", "by": "ZEN_PNT"},
            assess=False,
            reduce=REDUCE,
        )

    def test_only_what_changed_is_done_again(self, path, run, tmp_path):
        steps = run(path)
        assert steps == dict.fromkeys(["features", "group", "reduce", "fit"], "done")
        assert (tmp_path / "results" / "datasets" / "datasets.yaml").exists()
        assert (tmp_path / "results" / "fit" / "fit.yaml").exists()
        assert set(run(path).values()) == {"kept"}
        assert run(path, settings=["reduce.workers=2"])["reduce"] == "kept"
        steps = run(path, settings=["reduce.fit.model=log-parabola"])
        assert (steps["reduce"], steps["fit"]) == ("kept", "done")
        steps = run(path, settings=["reduce.region.radius=0.15 deg"])
        assert (steps["group"], steps["reduce"], steps["fit"]) == ("kept", "done", "done")

    def test_a_run_that_cannot_be_read_is_reduced_when_it_can(
        self, hidden, describe, tmp_path, capsys
    ):
        archive, aside = hidden[0], tmp_path / "cut"
        labels = tmp_path / "labels.csv"
        labels.write_text("obs_id,label\n26601,1\n172601,1\n200501,2\n")
        group = ["group", str(archive), "--labels", str(labels), "--no-plots"]
        assert main([*group, "-o", str(tmp_path / "groups")]) == 0
        file = archive / "data" / "run_026601.fits.gz"
        file.rename(aside)
        # No more than its last part is missing.
        file.write_bytes(aside.read_bytes()[:20_000])
        capsys.readouterr()
        config = describe(reduce=REDUCE)
        reduce = ["reduce", str(tmp_path / "groups"), "--target", "Vela X"]
        reduce += ["--config", str(config), "-o", str(tmp_path / "datasets")]
        assert main([*reduce, "--strict"]) == 3
        first = capsys.readouterr().out.splitlines()[0]
        text = "1 of 3 runs could not be read: 26601 (truncated gzip data after"
        assert first.startswith(text)
        assert first.endswith("; datasets are without it")
        groups = read_yaml(tmp_path / "datasets" / "reduction.yaml")["groups"]
        assert groups["group_1"]["unread"] == [26601]
        assert groups["group_1"]["obs_ids"] == [172601]
        assert "unread" not in groups["group_2"]
        assert main([*reduce, "--overwrite"]) == 0
        again = read_yaml(tmp_path / "datasets" / "reduction.yaml")["groups"]
        assert again["group_1"]["key"] == groups["group_1"]["key"]
        assert again["group_1"]["checksums"] != groups["group_1"]["checksums"]
        assert again["group_2"]["checksums"] == groups["group_2"]["checksums"]
        aside.replace(file)
        capsys.readouterr()
        assert main([*reduce, "--overwrite", "--strict"]) == 0
        assert "could not be read" not in capsys.readouterr().out
        again = read_yaml(tmp_path / "datasets" / "reduction.yaml")["groups"]
        assert again["group_1"]["obs_ids"] == [26601, 172601]
        assert again["group_2"]["checksums"] == groups["group_2"]["checksums"]

    def test_two_runs_differ_in_dates_alone(self, path, run, tmp_path):
        """Gammapy writes when it made a file: into FITS headers, and into its YAML files.

        So do the checksums that follow from them differ, how long the fit took, and where the
        datasets are. Everything else is the same.
        """
        run(path, "first")
        run(path, "second", settings=["workers=2", "reduce.workers=2"])
        first, second = contents(tmp_path / "first"), contents(tmp_path / "second")
        assert set(first) == set(second)
        differ = {name for name in first if first[name] != second[name]}
        dated = {name for name in first if name.startswith("datasets/pha_obs")} | {
            "datasets/datasets.yaml",
            "datasets/models.yaml",
            "datasets/obscluster.sha256",
            "datasets/reduction.yaml",
            "datasets/runs.yaml",
            "fit/models.yaml",
            "fit/obscluster.sha256",
            "fit/fit.yaml",
            "steps/steps.yaml",
        }
        assert differ <= dated
        for name in differ:
            assert _undated(name, first[name]) == _undated(name, second[name]), name


def _undated(name, content):
    """Content without dates, what follows from them, and how the work was shared out."""
    if name.endswith(".fits"):
        return re.sub(rb"CREATED = '[^']*'", b"", content)
    text = content.decode()
    for pattern in (
        r"date: .*",
        r"checksum: .*",
        r"[\w/.]+: sha256:.*",
        r"[0-9a-f]{64}  .*",
        r"seconds: .*",
        r"reduction: .*",
        r"workers: .*",
        r"fitted in .*",
    ):
        text = re.sub(rf"^ *{pattern}$", "", text, flags=re.MULTILINE)
    return text


def test_reduction_without_a_target_is_refused_before_the_work(describe, run, tmp_path):
    path = describe(target=None, reduce=REDUCE)
    with pytest.raises(RequestError, match=r"line \d+: reduce: needs a target"):
        run(path)
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("names", "message"),
    [(["psf-r86"], "did you mean 'psf-r68'"), (["psf-r68", "ZEN_PTN"], "'ZEN_PNT'")],
)
def test_unknown_features_are_told_by_their_line(names, message, describe, run, tmp_path):
    path = describe(features={"names": names})
    line = path.read_text().splitlines().index(f"  - {names[-1]}") + 1
    expected = rf"run.yaml, line {line}: features.names.{len(names) - 1}: .*{message}"
    with pytest.raises(RequestError, match=expected):
        run(path)
    assert not (tmp_path / "results").exists()


def test_a_selection_that_leaves_nothing_writes_nothing(describe, run, tmp_path):
    none = {"type": "par_box", "variable": "OBS_ID", "value_range": [0, 1]}
    with pytest.raises(RequestError, match=r"leaves no run: .*OBS_ID 0 to 1 leaves 0"):
        run(describe(selection=[none]))
    assert not (tmp_path / "results").exists()
