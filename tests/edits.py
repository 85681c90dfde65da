"""Edits that people, editors and accidents make of text files, from a seed."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

VALUES = (
    *("null", "[]", "{}", "-1", "0", "1e400", "1.0e+400", ".nan", ".inf", "nan", "''", "true"),
    *("../../x", "/etc/passwd", "2024-13-45", "2024-01-01", "12:30:00", "007", "9" * 30),
    *("9" * 5000, "x" * 10_000, "[[[[1]]]]", "{a: {b: [1, {c: 2}]}}", "Ω→∞\u2028", '"\\0"', "*a"),
    *("&a [*a]", "!!python/object:os.system {}", "1.5", "text", "'1'", "yes", "~", "- 1", "%", "'"),
    *("0.5 deg", "1 TeV", "-3 h", "1e308 deg", "[1, 2, 3]", "{method: x}", '"\\ud800"', "|", "\t"),
)


def edits(text: str, n: int, seed: int) -> Iterator[tuple[str, str]]:
    """Name and result of edits of a text, always the same ones."""
    random_ = random.Random(seed)  # noqa: S311
    kinds = list(_KINDS)
    for number in range(n):
        # The same number of each kind.
        kind = kinds[number % len(kinds)]
        edited = _KINDS[kind](text, random_)
        if not random_.randrange(4):
            edited = _KINDS[random_.choice(kinds)](edited, random_)
        yield f"{number} {kind}", edited


def _lines(text, random_):
    lines = text.splitlines(keepends=True) or [""]
    return lines, random_.randrange(len(lines))


def _delete(text, random_):
    lines, i = _lines(text, random_)
    return "".join(lines[:i] + lines[i + 1 :])


def _duplicate(text, random_):
    lines, i = _lines(text, random_)
    return "".join([*lines[: i + 1], *lines[i:]])


def _swap(text, random_):
    lines, i = _lines(text, random_)
    k = random_.randrange(len(lines))
    lines[i], lines[k] = lines[k], lines[i]
    return "".join(lines)


def _value(text, random_):
    """Another value of a key, an item or a cell."""
    lines, i = _lines(text, random_)
    value = random_.choice(VALUES)
    places = list(re.finditer(r"(?<=: )[^\n]+|(?<=- )[^\n]+|[^,\s:]+", lines[i]))
    if places:
        place = random_.choice(places[:1] if random_.randrange(2) else places)
        lines[i] = lines[i][: place.start()] + value + lines[i][place.end() :]
    return "".join(lines)


def _block(text, random_):
    """A value in place of a key with all that is in it."""
    lines, _ = _lines(text, random_)
    heads = [i for i, line in enumerate(lines) if line.rstrip().endswith(":")]
    if not heads:
        return _value(text, random_)
    i = random_.choice(heads)
    indent = len(lines[i]) - len(lines[i].lstrip())
    end = i + 1
    while end < len(lines):
        inner = lines[end]
        if len(inner) - len(inner.lstrip()) < indent + (not inner.lstrip().startswith("- ")):
            break
        end += 1
    lines[i:end] = [f"{lines[i].rstrip()} {random_.choice(VALUES)}\n"]
    return "".join(lines)


def _key(text, random_):
    lines, i = _lines(text, random_)
    key = random_.choice(["x", "1", "null", "[a]", "true", "<<", "? a", "'", "obs_id", "part"])
    lines[i] = re.sub(r"[\w-]+", lambda _: key, lines[i], count=1)
    return "".join(lines)


def _indent(text, random_):
    lines, i = _lines(text, random_)
    lines[i] = random_.choice(["  ", " ", "\t", "- "]) + lines[i]
    return "".join(lines)


def _outdent(text, random_):
    lines, i = _lines(text, random_)
    lines[i] = lines[i].removeprefix("  ")
    return "".join(lines)


def _cut(text, random_):
    return text[: random_.randrange(len(text) + 1)]


def _character(text, random_):
    i = random_.randrange(len(text) + 1)
    return text[:i] + random_.choice("\0\"'{}[]:,#-&*!|>%\r\n\x1f\ufeff\u2028é9") + text[i + 1 :]


def _shuffle(text, random_):
    lines, i = _lines(text, random_)
    part = lines[i : i + 5]
    random_.shuffle(part)
    return "".join([*lines[:i], *part, *lines[i + 5 :]])


_KINDS = {
    "a line is gone": _delete,
    "a line is there twice": _duplicate,
    "lines are swapped": _swap,
    "a value": _value,
    "another value": _value,
    "a block": _block,
    "another block": _block,
    "a key": _key,
    "further in": _indent,
    "further out": _outdent,
    "cut short": _cut,
    "a character": _character,
    "shuffled": _shuffle,
}
