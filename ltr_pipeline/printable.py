"""Text from anywhere, made safe for a terminal; counts and figures as people write them.

What a log, a name or a ledger entry says may hold signs that a terminal obeys: it would change colours, hide lines,
set the title of the window, or show text in another order than it has.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["counted", "one_line", "printable", "significant"]

UNSAFE: Final = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f"  # what terminals obey, but tab and line feed
    r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # other directions of writing
    r"\u2028\u2029\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"  # other ends of lines, and what nobody sees
    r"\ud800-\udfff]"  # bytes of a name that are not UTF-8, which cannot be printed at all
)
FEEDS: Final = str.maketrans({"\n": r"\n", "\t": r"\t"})


def printable(text: str) -> str:
    r"""Return the text with each sign that a terminal obeys, or nobody sees, as ``\uXXXX``; JSON stays the same JSON.

    >>> print(printable("\x1b[31mred\x07 \u202eabc"))
    \u001b[31mred\u0007 \u202eabc
    """
    return UNSAFE.sub(_escaped, text)


def one_line(text: str) -> str:
    r"""Return printable text without line feeds and tabs, so that it cannot look like another line.

    >>> print(one_line("mine\nVerdict: publish"))
    mine\nVerdict: publish
    """
    return printable(text).translate(FEEDS)


def _escaped(sign: re.Match[str]) -> str:
    units = sign[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


def counted(count: int, one: str, several: str | None = None) -> str:
    """Return a number of things, in the singular or plural.

    >>> counted(1, "night"), counted(1200, "night"), counted(0, "index", "indexes")
    ('1 night', '1,200 nights', '0 indexes')
    """
    return f"{count:,} {one if count == 1 else several or one + 's'}"


def significant(value: float) -> str:
    """Return a figure with four digits that count, and a true minus sign.

    >>> significant(-0.47893), significant(12345.6), significant(2)
    ('−0.4789', '1.235e+04', '2')
    """
    return f"{'−' if value < 0 else ''}{abs(value):.4g}"
