"""What a browser may do with the page: run the scripts that came with it, and nothing else.

A name in an archive may be any text. Every text is escaped where it enters the page; should one
ever get through, the browser refuses to run it, to load anything and to send anything, by
`Content Security Policy <https://www.w3.org/TR/CSP3/>`_. The scripts are allowed by their hashes,
so that they neither need a server nor a number that differs from page to page.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from hashlib import sha256

from markupsafe import Markup

__all__ = ["content_security_policy", "script_element"]

# Bokeh and matplotlib set styles from code and on elements. Icons of bokeh's tools are of the page
# itself, as all pictures are. The last two do not follow from default-src.
_POLICY = {
    "default-src": "'none'",
    "script-src": "{hashes}",
    "style-src": "'unsafe-inline'",
    "img-src": "data: blob:",
    "base-uri": "'none'",
    "form-action": "'none'",
}


def script_element(text: str) -> Markup:
    """Content of a script element: nothing in it ends the element.

    Parameters
    ----------
    text : str
        JavaScript.

    Returns
    -------
    content : `~markupsafe.Markup`
        The same, as a browser reads it out of the element, to the character: what is hashed here
        and what is hashed there must be one.
    """
    # Browsers know one end of line.
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return Markup(text.replace("</script", "<\\/script").replace("<!--", "<\\!--"))  # noqa: S704


def content_security_policy(scripts: Iterable[str]) -> Markup:
    """Policy of a page that may run these scripts.

    Parameters
    ----------
    scripts : iterable of str
        Contents of all script elements that run, as `script_element` gives them.

    Returns
    -------
    policy : `~markupsafe.Markup`
        Content of ``<meta http-equiv="Content-Security-Policy">``; it holds no double quote.
    """
    hashes = " ".join(f"'sha256-{_hash(text)}'" for text in scripts) or "'none'"
    parts = (f"{name} {value.format(hashes=hashes)}" for name, value in _POLICY.items())
    return Markup("; ".join(parts))  # noqa: S704 (constants and base64)


def _hash(text: str) -> str:
    return b64encode(sha256(text.encode("utf-8")).digest()).decode("ascii")
