"""Outputs are whole, have one writer at a time, and nothing that is not ours is touched."""

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from obscluster import Grouping
from obscluster.cli import main
from obscluster.exceptions import ArchiveError, RequestError
from obscluster.features.cache import FeatureCache, Part
from obscluster.files import exchange
from obscluster.files.output import reserved, results_directory, write_file
from obscluster.files.records import LIST_FILE, UNSEALED, is_sealed, listed, sealed

SCHEMES = ("exchange", "journal")
SAMPLES = Path(__file__).parents[1] / "samples"
GROUP = ("--by", "ZEN_PNT", "--cut", "median", "--no-plots")


@pytest.fixture(params=SCHEMES)
def scheme(request, monkeypatch):
    """Both ways in which a directory takes the place of another."""
    if request.param == "journal":
        monkeypatch.setenv(exchange.SWITCH, "never")
    return request.param


def tree(directory):
    """Bytes of all files by relative name; None for directories that are empty."""
    return {
        path.relative_to(directory).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(directory.rglob("*"))
        if path.is_file() or not any(path.iterdir())
    }


def hidden(directory):
    """What is left of writers."""
    return [path.name for path in directory.rglob(".*obscluster*")]


def write(output, files, kind="group", overwrite=True, **options):
    with results_directory(output, kind, overwrite, **options) as staging:
        for name, text in files.items():
            (staging / name).parent.mkdir(parents=True, exist_ok=True)
            (staging / name).write_text(text)


def fail(path, error):
    path.write_text("2")
    raise error


def lay(directory, files):
    for name, text in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)


NAMES = st.sampled_from(["a", "b", "c.txt", "d/e", "d/f", "g/h/i"])
FILES = st.dictionaries(NAMES, st.text("xyz", max_size=3), max_size=5)


@given(first=FILES, others=FILES, second=FILES, kind=st.sampled_from(["group", "assess"]))
@pytest.mark.parametrize("how", SCHEMES)
def test_what_is_there_in_the_end(how, first, others, second, kind, tmp_path_factory):
    """Old results of the kind go, others stay, and where a file of others is, nothing happens."""
    output = tmp_path_factory.mktemp("out") / "results"
    with pytest.MonkeyPatch.context() as patch:
        if how == "journal":
            patch.setenv(exchange.SWITCH, "never")
        write(output, first)
        others = {name: text for name, text in others.items() if name not in first}
        lay(output, others)
        before = tree(output)
        clash = set(second) & set(others)
        if clash:
            with pytest.raises(RequestError, match="not recorded"):
                write(output, second, kind)
            assert tree(output) == before
        else:
            write(output, second, kind)
            kept = first if kind != "group" else {}
            found = {
                name: content.decode()
                for name, content in tree(output).items()
                if content or name != LIST_FILE
            }
            del found[LIST_FILE]
            assert found == {**kept, **others, **second}
            assert set(listed(output).get(kind, {})) == set(second)
    assert hidden(output.parent) == []


def test_the_list_is_one_that_other_tools_check(scheme, tmp_path):
    write(tmp_path / "results", {"a": "1", "b": "2"})
    if shutil.which("sha256sum") is None:
        pytest.skip("no sha256sum")
    command = ["sha256sum", "--check", "--strict", LIST_FILE]
    subprocess.run(command, cwd=tmp_path / "results", check=True, capture_output=True)


def test_an_error_leaves_all_as_it_was(scheme, tmp_path):
    write(tmp_path / "results", {"a": "1"})
    before = tree(tmp_path)
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error), results_directory(tmp_path / "results", "group", True) as new:
            fail(new / "a", error)
        assert tree(tmp_path) == before


def test_parents_that_were_made_go_with_the_error(tmp_path):
    with pytest.raises(ValueError), results_directory(tmp_path / "a" / "b", "group"):  # noqa: PT011
        raise ValueError
    assert list(tmp_path.iterdir()) == []


def test_modes_links_and_directories_of_others_stay(scheme, tmp_path):
    output = tmp_path / "results"
    write(output, {"a": "1"})
    output.chmod(0o2775)
    lay(output, {"mine/notes.txt": "n"})
    (output / "empty").mkdir()
    (output / "link").symlink_to("mine/notes.txt")
    (output / "gone").symlink_to("nowhere")
    write(output, {"b": "2"})
    assert output.stat().st_mode & 0o7777 == 0o2775
    assert (output / "link").readlink() == Path("mine/notes.txt")
    assert (output / "gone").is_symlink()
    assert (output / "empty").is_dir()
    assert not (output / "a").exists()


def test_an_output_that_is_a_link_is_written_where_it_leads(scheme, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "results").symlink_to("disk")
    write(tmp_path / "results", {"a": "1"})
    assert (tmp_path / "results").is_symlink()
    assert (tmp_path / "disk" / "a").read_text() == "1"


def test_a_directory_whose_parent_is_not_ours(tmp_path):
    """Empty at first, such as a volume of a container: all that is needed stands in it."""
    output = tmp_path / "parent" / "results"
    output.mkdir(parents=True)
    output.parent.chmod(0o555)
    try:
        write(output, {"a": "1"}, overwrite=False)
        write(output, {"b": "2"})
        (output / ".0123abcd.obscluster").mkdir()
        write(output, {"c": "3"})
    finally:
        output.parent.chmod(0o755)
    assert set(tree(output)) == {"c", LIST_FILE}
    assert [path.name for path in output.parent.iterdir()] == ["results"]


def test_whoever_stands_in_the_output_stays_in_it(tmp_path, monkeypatch):
    write(tmp_path / "results", {"a": "1"})
    monkeypatch.chdir(tmp_path / "results")
    write(Path(), {"a": "2"})
    assert Path("a").read_text() == "2"


def test_without_hard_links_files_are_copied_if_there_is_space(tmp_path, monkeypatch):
    output = tmp_path / "results"
    write(output, {"a": "1"})
    lay(output, {"mine": "n"})

    def refuse(*_, **__):
        raise PermissionError(1, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    write(output, {"a": "2"})
    assert (output / "mine").read_text() == "n"
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=0))
    with pytest.raises(RequestError, match="free; make room"):
        write(output, {"a": "3"})
    assert (output / "a").read_text() == "2"


class TestLocks:
    HOLD = """
import sys, time
from pathlib import Path
from obscluster.files.output import reserved
with reserved(Path(sys.argv[1]), overwrite=True) as output:
    output.container
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""

    @pytest.fixture
    def holder(self):
        """Function that starts a process that holds an output."""
        started = []

        def start(output, seconds=60):
            command = [sys.executable, "-c", self.HOLD, str(output), str(seconds)]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            started.append(process)
            assert process.stdout.readline() == "held\n"
            return process

        yield start
        for process in started:
            process.kill()
            process.wait()
            process.stdout.close()

    def test_a_second_writer_ends_at_once(self, holder, small_archive, tmp_path, capsys):
        process = holder(tmp_path / "results")
        start = time.monotonic()
        code = main(["group", str(small_archive), *GROUP, "-o", str(tmp_path / "results")])
        assert time.monotonic() - start < 30
        error = capsys.readouterr().err
        assert code == 2
        assert f"process {process.pid} since 20" in error
        assert os.uname().nodename in error
        assert not (tmp_path / "results").exists()

    @pytest.mark.parametrize("other", ["results/fit", "results/c/d", "."])
    def test_nor_may_one_write_around_or_below(self, other, holder, tmp_path):
        write(tmp_path / "results", {"a": "1"})
        holder(tmp_path / "results" if other != "." else tmp_path / "results" / "fit")
        output = tmp_path / other if other != "." else tmp_path / "results"
        with pytest.raises(RequestError, match="another command is at work"):
            write(output, {"a": "2"})

    def test_a_neighbour_is_left_alone(self, holder, tmp_path):
        """`results` and `results.v2`: the name of one begins that of the other."""
        holder(tmp_path / "results.v2")
        before = set(hidden(tmp_path))
        write(tmp_path / "results", {"a": "1"})
        assert set(hidden(tmp_path)) == before

    def test_what_is_left_of_the_dead_is_swept_and_their_lock_is_free(self, holder, tmp_path):
        process = holder(tmp_path / "results")
        assert len(hidden(tmp_path)) == 2
        process.kill()
        process.wait()
        write(tmp_path / "results", {"a": "1"})
        assert hidden(tmp_path) == []
        assert set(tree(tmp_path)) == {"results/a", f"results/{LIST_FILE}"}

    def test_a_worker_does_not_inherit_the_lock(self, tmp_path):
        context = multiprocessing.get_context("fork")
        with reserved(tmp_path / "results"):
            worker = context.Process(target=time.sleep, args=(60,))
            worker.start()
        try:
            done = subprocess.run(
                [sys.executable, "-c", self.HOLD, str(tmp_path / "results"), "0"],
                capture_output=True,
                text=True,
                check=False,
            )
            assert (done.returncode, done.stdout) == (0, "held\n")
        finally:
            worker.terminate()
            worker.join()

    def test_the_clock_does_not_matter(self, tmp_path):
        left = tmp_path / ".results.0123abcd.obscluster"
        left.mkdir()
        os.utime(left, (2**32, 2**32))
        write(tmp_path / "results", {"a": "1"})
        assert hidden(tmp_path) == []

    def test_many_writers_one_result(self, tmp_path):
        """Whoever wins, the files are those of one."""
        code = """
import sys
from pathlib import Path
from obscluster.exceptions import RequestError
from obscluster.files.output import results_directory
for i in range(20):
    try:
        with results_directory(Path(sys.argv[1]), "group", True) as new:
            for name in "abc":
                (new / name).write_text(f"{sys.argv[2]} {i}")
    except RequestError:
        pass
"""
        writers = [
            subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "results"), str(n)])
            for n in range(3)
        ]
        while any(writer.poll() is None for writer in writers):
            time.sleep(0.01)
        assert [writer.returncode for writer in writers] == [0, 0, 0]
        assert len({(tmp_path / "results" / name).read_text() for name in "abc"}) == 1
        assert hidden(tmp_path) == []


class TestJournal:
    @pytest.fixture
    def interrupted(self, tmp_path, monkeypatch):
        """Results whose writer died when it had moved some of its files."""
        monkeypatch.setenv(exchange.SWITCH, "never")
        write(tmp_path / "results", {"a": "1", "b": "1", "z": "1"})
        whole = exchange._finish
        moved = Path.replace
        done = []

        def replace(self, target):
            if done:
                raise SystemExit
            done.append(target)
            return moved(self, target)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Path, "replace", replace)
            patch.setattr("obscluster.files.output._remove", str)
            with pytest.raises(SystemExit):
                write(tmp_path / "results", {"a": "2", "b": "2"})
        assert whole is exchange._finish
        assert (tmp_path / "results" / exchange.JOURNAL).exists()
        return tmp_path / "results"

    def test_whoever_comes_next_finishes_what_was_begun(self, interrupted):
        exchange.repair(interrupted)
        found = tree(interrupted)
        del found[LIST_FILE]
        assert found == {"a": b"2", "b": b"2"}

    def test_a_writer_does_so_too(self, interrupted):
        write(interrupted, {"c": "3"})
        found = tree(interrupted)
        del found[LIST_FILE]
        assert found == {"c": b"3"}

    def test_who_cannot_is_told(self, interrupted, monkeypatch):
        def refuse(*_):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "replace", refuse)
        with pytest.raises(ArchiveError, match="its writer died while it replaced files"):
            exchange.repair(interrupted)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "[]",
            "{",
            '{"files": ["../../a"], "stale": [], "container": "x", "beside": false}',
            '{"files": [], "stale": ["/etc/passwd"], "container": "x", "beside": false}',
        ],
    )
    def test_a_journal_that_is_none_is_refused(self, text, tmp_path):
        lay(tmp_path, {"results/a": "1", f"results/{exchange.JOURNAL}": text})
        with pytest.raises(ArchiveError, match="not a journal"):
            exchange.repair(tmp_path / "results")
        assert (tmp_path / "results" / "a").exists()


class TestSingleFile:
    @given(st.binary(), st.binary())
    def test_a_seal_holds_for_its_bytes_alone(self, before, after):
        content = sealed(before + UNSEALED.encode() + after)
        assert is_sealed(content)
        assert not is_sealed(content + b"x")
        assert not is_sealed(before + after)

    def test_one_that_was_changed_is_kept(self, tmp_path):
        path = tmp_path / "run.yaml"
        write_file(path, f"a: 1 # {UNSEALED}")
        with pytest.raises(RequestError, match="--overwrite"):
            write_file(path, f"a: 2 # {UNSEALED}")
        write_file(path, f"a: 2 # {UNSEALED}", overwrite=True)
        path.write_text(path.read_text() + "b: 3")
        with pytest.raises(RequestError, match="--force"):
            write_file(path, f"a: 4 # {UNSEALED}", overwrite=True)
        assert path.read_text().endswith("b: 3")
        write_file(path, f"a: 4 # {UNSEALED}", force=True)
        assert path.read_text().startswith("a: 4")
        assert [p.name for p in tmp_path.iterdir()] == ["run.yaml"]

    @pytest.mark.parametrize("command", ["init", "check", "report"])
    def test_commands_keep_one_that_is_not_theirs(self, command, small_archive, tmp_path, capsys):
        results, path = tmp_path / "results", tmp_path / "file"
        source = small_archive
        if command == "report":
            source = results
            assert main(["group", str(small_archive), *GROUP, "-o", str(results)]) == 0
        line = [command, str(source), "-o", str(path)]
        again = [] if command == "report" else ["--overwrite"]
        assert main(line) == 0
        first = path.read_bytes()
        assert is_sealed(first)
        assert main([*line, *again]) == 0
        path.write_bytes(first + b"\n# mine\n")
        assert main([*line, *again]) == 2
        assert "--force" in capsys.readouterr().err
        assert path.read_bytes().endswith(b"# mine\n")
        assert main([*line, "--force"]) == 0
        assert path.read_bytes() == first


class TestArchives:
    @pytest.fixture(scope="class")
    @classmethod
    def ready(cls, tmp_path_factory, small_archive):
        """An archive in a directory, groups of it, and a description."""
        place = tmp_path_factory.mktemp("ready")
        shutil.copytree(small_archive, place / "data" / "archive")
        archive = str(place / "data" / "archive")
        assert (
            main(
                [
                    "group",
                    archive,
                    "--target",
                    "Crab Nebula",
                    "--radius",
                    "180 deg",
                    *GROUP,
                    "-o",
                    str(place / "groups"),
                ]
            )
            == 0
        )
        assert main(["init", archive, "-o", str(place / "run.yaml")]) == 0
        return place

    @pytest.mark.parametrize("where", ["data/archive", "data/archive/sub/results", "data"])
    @pytest.mark.parametrize(
        "command",
        [
            "group",
            "frontier",
            "run",
            "assign",
            "assess",
            "reduce",
            "init",
            "check",
            "report",
            "simulate",
        ],
    )
    def test_nothing_is_written_in_around_or_over_an_archive(self, command, where, ready, capsys):
        archive, groups = str(ready / "data" / "archive"), str(ready / "groups")
        is_file = command in ("init", "check", "report")
        if is_file and where == "data":
            pytest.skip("a file holds no archive")
        output = ready / where / "new.file" if is_file else ready / where
        if command == "simulate" and where == "data":
            (ready / "data" / "other").mkdir(exist_ok=True)
        before = tree(ready)
        arguments = {
            "group": [archive, *GROUP, "--overwrite"],
            "frontier": [archive, "--target", "Crab Nebula", "--radius", "180 deg", "--overwrite"],
            "run": [str(ready / "run.yaml"), "--overwrite"],
            "assign": [groups, archive, "--overwrite"],
            "assess": [groups, "--overwrite"],
            "reduce": [groups, "--overwrite"],
            "init": [archive],
            "check": [archive],
            "report": [groups],
            "simulate": ["--n-obs", "3", "--size", "small"],
        }[command]
        to = [str(output)] if command == "simulate" else ["-o", str(output)]
        assert main([command, *to, *arguments]) == 2
        assert "archive" in capsys.readouterr().err
        assert tree(ready) == before

    def test_nor_is_a_cache_kept_there(self, ready, capsys):
        archive, cache = ready / "data" / "archive", ready / "data" / "archive" / "cache"
        line = ["group", str(archive), "--offset", "0.5 deg", "--n-groups", "2", "--cache"]
        assert main([*line, str(cache), "-o", str(ready / "new")]) == 2
        assert f"cache {cache}: lies in the archive" in capsys.readouterr().err
        assert not cache.exists()
        assert not (ready / "new").exists()

    def test_index_keeps_what_is_not_ours(self, small_archive, tmp_path):
        archive = tmp_path / "archive"
        shutil.copytree(small_archive, archive)
        before = tree(archive)
        assert main(["index", str(archive)]) == 2
        assert tree(archive) == before
        assert main(["index", str(archive), "--overwrite"]) == 0
        first = tree(archive)
        for name in ("obs-index.fits.gz", "hdu-index.fits.gz"):
            assert first[f"{name}.orig"] == before[name]
        # Its own files it replaces, and those that were changed since it keeps again.
        assert main(["index", str(archive), "--overwrite"]) == 0
        assert tree(archive) == first
        (archive / "obs-index.fits.gz").write_bytes(before["obs-index.fits.gz"])
        assert main(["index", str(archive), "--overwrite"]) == 0
        assert set(tree(archive)) - set(first) == {"obs-index.fits.gz.orig1"}


class TestReaders:
    @pytest.fixture
    def results(self, small_archive, tmp_path):
        line = ["group", str(small_archive), "--target", "Crab Nebula", "--radius", "180 deg"]
        line += [
            "--features",
            "psf-r68",
            "edisp-res68",
            "--energy",
            "1 TeV",
            "--n-groups",
            "2",
            "--no-plots",
        ]
        assert main([*line, "-o", str(tmp_path / "results")]) == 0
        return tmp_path / "results"

    @pytest.mark.parametrize("command", ["assess", "assign", "report", "compare", "reduce"])
    @pytest.mark.parametrize(
        "file", ["groups.yaml", "groups.ecsv", "features.ecsv", "linkage.ecsv"]
    )
    def test_a_set_that_was_changed_is_refused_but_for_trust(
        self, command, file, results, small_archive, tmp_path, capsys
    ):
        path = results / file
        if file == "groups.yaml":
            path.write_text(path.read_text() + "\nnote: by hand\n")
        else:
            # ECSV: a value, in its last digit.
            lines = path.read_text().splitlines()
            lines[-1] = lines[-1].replace("2", "3") if "2" in lines[-1] else lines[-1] + " "
            path.write_text("\n".join(lines) + "\n")
        arguments = {
            "assess": [str(results)],
            "assign": [str(results), str(small_archive)],
            "report": [str(results)],
            "compare": [str(results), str(results)],
            "reduce": [str(results), "-o", str(tmp_path / "datasets"), "--kind", "1d"],
        }[command]
        assert main([command, *arguments]) == 2
        error = capsys.readouterr().err
        assert file in error
        assert "--trust" in error
        if file == "groups.yaml" and command in ("assess", "compare"):
            assert main([command, *arguments, "--trust"]) == 0

    def test_one_that_lacks_a_picture_is_read(self, results):
        (results / "features.ecsv").unlink()
        Grouping.read(results)

    def test_results_can_be_extended_in_place(self, results, small_archive):
        """Input and output of one command."""
        line = ["assign", str(results), str(small_archive), "-o", str(results), "--overwrite"]
        assert main(line) == 0
        first = tree(results)
        assert main(line) == 0
        assert (results / "assignment.ecsv").exists()
        assert main(["assess", str(results), "-o", str(results), "--overwrite"]) == 0
        assert set(tree(results)) > set(first)
        Grouping.read(results)

    def test_results_of_versions_without_lists(self, tmp_path, small_archive):
        """They are read, and replaced."""
        with tarfile.open(SAMPLES / "results-without-lists.tar.xz") as samples:
            samples.extractall(tmp_path, filter="data")
        assert Grouping.read(tmp_path / "run").n_groups == 2
        assert main(["compare", str(tmp_path / "run"), str(tmp_path / "run")]) == 0
        (part,) = FeatureCache(tmp_path / "cache").parts()
        assert len(Part.parse(part.read_bytes()).obs_ids) == 6
        pytest.importorskip("gammapy")
        assert main(["fit", str(tmp_path / "ds"), "-o", str(tmp_path / "again"), "--no-plots"]) == 0
        assert main(["fit", str(tmp_path / "ds"), "--overwrite", "--no-plots"]) == 0
        line = ["group", str(small_archive), *GROUP, "-o", str(tmp_path / "run"), "--overwrite"]
        assert main(line) == 0
        assert not (tmp_path / "run" / "linkage.ecsv").exists()


def test_terminated_like_interrupted(small_archive, tmp_path):
    """At any moment: nothing is left, and the exit code says what it was."""
    output = tmp_path / "results"
    line = [sys.executable, "-m", "obscluster", "group", str(small_archive), *GROUP]
    for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        with subprocess.Popen([*line, "-o", str(output)], stderr=subprocess.PIPE) as process:
            while not hidden(tmp_path):
                assert process.poll() is None
                time.sleep(0.005)
            process.send_signal(number)
            error = process.stderr.read().decode()
        assert process.returncode == code, error
        assert "results appear whole or not at all" in error
        assert list(tmp_path.iterdir()) == []
