"""Text that no spreadsheet takes for a formula.

A cell that begins with `=`, `+`, `-`, `@`, a tab or a carriage return is executed by Excel, LibreOffice and Google Sheets (OWASP, CSV
injection), also after blanks and in the full-width forms that they normalise.
"""

from __future__ import annotations

import re

_TRIGGERS = "=+\\-@\uff1d\uff0b\uff0d\uff20"
_BLANK = "[\\s\x00-\x20\u200b-\u200f\u2060\ufeff]"
_STARTS = re.compile(f"[\t\r\n]|{_BLANK}*[{_TRIGGERS}]")
_AFTER_SEPARATOR = re.compile(f"([;\t\r\n]{_BLANK}*[\"']?{_BLANK}*)(?=[{_TRIGGERS}])")
_SEPARATOR = re.compile("[;\t\r\n]")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def is_dangerous(text: str) -> bool:
    """True for text that a spreadsheet might execute as it stands."""
    return _STARTS.match(text) is not None


def neutralised(text: str) -> str:
    """With `'` before whatever would be executed: at the start, and after a character that a spreadsheet of another locale splits at.

    Other text stays as it is.
    """
    if is_plain(text):  # as a rule
        return text
    inside = _AFTER_SEPARATOR.sub(r"\1'", text)
    return f"'{inside}" if is_dangerous(inside) else inside


def is_plain(text: str) -> bool:
    """True for text that begins with an ASCII letter or digit and holds nothing that a spreadsheet splits at."""
    return text[:1].isalnum() and text[:1].isascii() and _SEPARATOR.search(text) is None


def printable(text: str) -> str:
    """Characters that XML can't hold become U+FFFD."""
    return _CONTROL.sub("\ufffd", text)
