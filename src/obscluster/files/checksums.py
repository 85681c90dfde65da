"""Which files are our own, and whether they are what was written.

A directory of results has a list of its files with their checksums, ``obscluster.sha256``, in the
format of ``sha256sum``: ``sha256sum -c obscluster.sha256`` checks it, too. Comments in it tell
which command wrote which files. A single file has its checksum in itself.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from obscluster.exceptions import ArchiveError
from obscluster.files.records import path_in
from obscluster.version import __version__

__all__ = [
    "LIST_FILE",
    "UNSEALED",
    "changed_files",
    "changed_text",
    "check_files",
    "checksum",
    "checksum_of",
    "is_sealed",
    "list_text",
    "listed",
    "sealed",
]

LIST_FILE = "obscluster.sha256"
_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")
_KIND = re.compile(r"# ([a-z]+)")
_MARK = "obscluster-sha256:"
UNSEALED = _MARK + 64 * "0"
"""What stands in a file in place of its own checksum, until it is `sealed`."""
_SEAL = re.compile(re.escape(_MARK).encode() + b"([0-9a-f]{64})")


def checksum(path: Path) -> str:
    """SHA-256 of a file, as ``sha256:<hex>``."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def checksum_of(content: bytes) -> str:
    """The same, of the bytes of a file that were read already."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def listed(directory: Path) -> dict[str, dict[str, str]]:
    """What a directory's list says: kind of result to its files, each with its checksum.

    Empty where there is no list of ours.
    """
    try:
        lines = (directory / LIST_FILE).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    if not lines or not lines[0].startswith("# files of obscluster"):
        return {}
    found: dict[str, dict[str, str]] = {}
    kind = ""
    for line in lines[1:]:
        if match := _KIND.fullmatch(line):
            kind = match[1]
            found.setdefault(kind, {})
        elif match := _LINE.fullmatch(line):
            found.setdefault(kind, {})[match[2]] = f"sha256:{match[1]}"
    return found


def list_text(kinds: Mapping[str, Mapping[str, str]]) -> str:
    """The text of a list; see `listed`."""
    lines = [f"# files of obscluster {__version__}, to be checked by: sha256sum -c {LIST_FILE}"]
    for kind, files in sorted(kinds.items()):
        lines += [f"# {kind}"]
        lines += [
            f"{value.removeprefix('sha256:')}  {name}" for name, value in sorted(files.items())
        ]
    return "\n".join(lines) + "\n"


def changed_files(directory: Path, checksums: Mapping[str, str]) -> list[str]:
    """Files that are there and are not what was written.

    Raises
    ------
    ArchiveError
        If a name leads out of the directory.
    """
    paths = {name: path_in(directory, name, directory / LIST_FILE) for name in checksums}
    return [
        name for name, path in paths.items() if path.is_file() and checksum(path) != checksums[name]
    ]


def check_files(directory: Path, kinds: Iterable[str]) -> None:
    """Check that the results of some commands in a directory are those that were written.

    Parameters
    ----------
    directory : `~pathlib.Path`
        Where the results are. Without a list, nothing is checked.
    kinds : iterable of str
        Which of them: names of commands.

    Raises
    ------
    ArchiveError
        If files have changed; the message names them.
    """
    found = listed(directory)
    changed = [name for kind in kinds for name in changed_files(directory, found.get(kind, {}))]
    if changed:
        raise ArchiveError(changed_text(directory, changed))


def changed_text(directory: Path, changed: Iterable[str]) -> str:
    """What is said of a set of results that is not the one that was written."""
    return (
        f"{directory}: {', '.join(changed)} changed since it was written, so that the results do "
        "not belong together; write them again (--overwrite), or read them all the same by "
        "--trust (trust=True)"
    )


def sealed(content: bytes) -> bytes:
    """Content of a file with its checksum in place of `UNSEALED`."""
    digest = hashlib.sha256(content).hexdigest()
    return content.replace(UNSEALED.encode(), f"{_MARK}{digest}".encode(), 1)


def is_sealed(content: bytes) -> bool:
    """Whether a file is as it was `sealed`."""
    match = _SEAL.search(content)
    if match is None:
        return False
    before = content[: match.start()] + UNSEALED.encode() + content[match.end() :]
    return hashlib.sha256(before).hexdigest().encode() == match[1]
