"""Results where the place is full, read-only, or written by two at once, and the clock is wrong."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kills.campaign import tree
from obscluster.cli import main

GROUP = ["--offset", "0.5 deg", "--no-plots", "--overwrite"]
# In 2106, the last second that all file systems can tell.
FUTURE = 2**32 - 1

# Groups that are made, and written many times as soon as the other process has made its own.
WRITE_MANY_TIMES = """
import sys, time
from pathlib import Path
from obscluster.config import make_config
from obscluster.exceptions import RequestError
from obscluster.workflow.group import group_observations, write_results

archive, output, number, overwrite, here, other = sys.argv[1:]
grouping = {"method": "hierarchical", "n_groups": int(number)}
result = group_observations(make_config({"archive": archive, "grouping": grouping}))
Path(here).touch()
while not Path(other).exists():
    time.sleep(0.001)
for _ in range(25 if overwrite == "yes" else 1):
    try:
        write_results(result, Path(output), plots=False, overwrite=overwrite == "yes")
    except RequestError as error:
        print("refused:", error)
    else:
        print("written")
"""
# No file may become larger than that; unlike a quota, anybody may ask for it.
LIMITED = """
import resource, sys
from obscluster.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
sys.exit(main(sys.argv[2:]))
"""


def group(archive, output, number):
    return main(["group", str(archive), *GROUP, "--n-groups", str(number), "-o", str(output)])


@pytest.fixture
def place(tmp_path):
    """Directory of a user, with other files."""
    path = tmp_path / "place"
    path.mkdir()
    (path / "notes.txt").write_text("by hand")
    return path


@pytest.fixture
def old(small_archive, place):
    """Results of three groups, with a file of the user in them."""
    assert group(small_archive, place / "out", 3) == 0
    (place / "out" / "mine").mkdir()
    (place / "out" / "mine" / "notes.txt").write_text("by hand")
    return tree(place)


@pytest.fixture
def mount():
    """Function that mounts a file system at a directory; it goes when the test ends."""
    mounted = []

    def call(path, *arguments):
        command = ["mount", *map(str, arguments), str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"cannot mount: {done.stderr.strip()}")
        if path not in mounted:
            mounted.append(path)

    yield call
    for path in reversed(mounted):
        subprocess.run(["umount", "--lazy", str(path)], check=True)


class TestTwoAtOnce:
    def write(self, archive, place, overwrite):
        """Two processes that write 2 and 4 groups; what each says."""
        marks = [str(place.parent / name) for name in ("first", "second")]
        command = [sys.executable, "-c", WRITE_MANY_TIMES, str(archive), str(place / "out")]
        processes = [
            subprocess.Popen(
                [*command, number, overwrite, here, other],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for number, here, other in (("2", *marks), ("4", *reversed(marks)))
        ]
        said = [process.communicate(timeout=120)[0].splitlines() for process in processes]
        assert [process.returncode for process in processes] == [0, 0], said
        return said

    def test_over_others_the_result_is_of_one(self, small_archive, place, old):
        said = self.write(small_archive, place, "yes")
        assert "written" in said[0] + said[1]
        found = tree(place)
        assert found["out/mine/notes.txt"] == old["out/mine/notes.txt"]
        assert sorted(name for name in found if "/" not in name) == ["notes.txt", "out"]
        numbers = {int(m[1]) for name in found if (m := re.match(r"out/group_(\d)\.txt", name))}
        assert numbers in ({1, 2}, {1, 2, 3, 4})
        record = (place / "out" / "groups.yaml").read_text()
        assert f"n_groups: {max(numbers)}" in record

    def test_over_nothing_one_writes_and_one_is_refused(self, small_archive, place):
        said = self.write(small_archive, place, "no")
        assert sorted(line.split(":")[0] for line in said[0] + said[1]) == ["refused", "written"]
        assert sorted(path.name for path in place.iterdir()) == ["notes.txt", "out"]


def fill(path, left):
    """Leave so many bytes free."""
    with path.open("wb") as file:
        free = os.statvfs(path).f_bavail * os.statvfs(path).f_frsize
        file.write(b"0" * max(free - left, 0))


class TestFullDisk:
    # The first file fails, or one in the middle.
    @pytest.mark.parametrize("left", [0, 16384])
    def test_the_old_stays_and_the_next_start_writes(
        self, left, small_archive, place, mount, capsys
    ):
        mount(place, "-t", "tmpfs", "-o", "size=512k", "none")
        assert group(small_archive, place / "out", 3) == 0
        before = tree(place)
        fill(place / "filler", left)
        filler = (place / "filler").stat().st_size
        capsys.readouterr()
        assert group(small_archive, place / "out", 2) == 2
        error = capsys.readouterr().err
        assert "No space left on device" in error
        assert "Traceback" not in error
        assert (place / "filler").stat().st_size == filler
        (place / "filler").unlink()
        assert tree(place) == before
        assert group(small_archive, place / "out", 2) == 0
        assert {path.name for path in place.iterdir()} == {"out"}

    @pytest.mark.parametrize("limit", [0, 2000])
    def test_files_that_may_not_be_so_large(self, limit, small_archive, place, old):
        command = [sys.executable, "-c", LIMITED, str(limit), "group", str(small_archive), *GROUP]
        command += ["--n-groups", "2", "-o", str(place / "out")]
        # Pipes have no size.
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (ended.returncode, "Traceback" in ended.stderr) == (2, False), ended.stderr
        assert "File too large" in ended.stderr
        assert tree(place) == old


class TestReadOnly:
    """Modes are no protection from root; a mount is."""

    @pytest.mark.parametrize("name", ["out", "new"])
    def test_the_place_is(self, name, small_archive, place, old, mount, capsys):
        mount(place, "--bind", place)
        mount(place, "-o", "remount,ro,bind")
        assert group(small_archive, place / name, 2) == 2
        error = capsys.readouterr().err
        assert str(place / name) in error
        assert "Read-only file system" in error or "read-only" in error
        assert "Traceback" not in error
        assert tree(place) == old

    def test_the_output_is(self, small_archive, place, old, mount, capsys):
        output = place / "out"
        mount(output, "--bind", output)
        mount(output, "-o", "remount,ro,bind")
        assert group(small_archive, output, 2) == 2
        assert "Traceback" not in capsys.readouterr().err
        assert tree(place) == old


def test_an_output_that_cannot_be_moved(small_archive, place, old, mount):
    """A mount point takes no other place; what can be written in it is whole all the same."""
    output = place / "out"
    mount(output, "--bind", output)
    code = group(small_archive, output, 2)
    found = tree(place)
    assert {name for name in found if "/" not in name} == {"notes.txt", "out"}
    if code == 0:
        assert "out/group_3.txt" not in found
        assert found["out/mine/notes.txt"] == old["out/mine/notes.txt"]
    else:
        assert (code, found) == (2, old)


def in_future(directory: Path) -> None:
    for path in (directory, *directory.rglob("*")):
        os.utime(path, (FUTURE, FUTURE))


def test_files_of_the_future(small_archive, place, old):
    """The clock went back since they were written: they are replaced all the same."""
    in_future(place)
    assert group(small_archive, place / "out", 2) == 0
    new = tree(place)
    assert "out/group_3.txt" not in new
    assert group(small_archive, place / "out", 3) == 0
    in_future(place)
    assert tree(place) == old
    assert group(small_archive, place / "out", 2) == 0
    assert tree(place) == new
