r"""Messages as each kind of channel shows them: plain text, CommonMark, HTML.

What a log, a name or a reason says is text and nothing else, in every one of them: it makes no markup, no link with
other words on it, and calls nobody (``<!channel>``, ``@everyone``). Between backticks it is code, as in all our texts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from html import escape
from typing import Final
from xml.sax.saxutils import quoteattr

from ltr_pipeline.printable import one_line, printable
from ltr_pipeline.report.message import Link, Message, Part, Points, Table, aligned

__all__ = ["html", "html_title", "markdown", "markdown_title", "plain", "quiet", "uncalled"]

_CODE: Final = re.compile(r"`([^`\n]+)`")
_SPECIAL: Final = re.compile(r"[\\`*~\[\]<>]|(?<![^\W_])_|_(?![^\W_])")
_BLOCK: Final = re.compile(r"^(\d{1,9})([.)])(?=\s|$)|^([#=]|[+-](?=[\s-]|$))", re.MULTILINE)
_INDENTED: Final = re.compile(r"^[^\S\n]+", re.MULTILINE)
_CALL: Final = re.compile(r"@(?=(?:everyone|here|channel|all)\b)|<(?=[!@#]|/?at\b)", re.IGNORECASE)
_UNFIT: Final = re.compile(r"[\s<>\"'`\\|]|[^\x21-\x7e]")
_WEB: Final = re.compile(r"https?://", re.IGNORECASE)

_MONOSPACED: Final = '<span style="font-family:monospace">{}</span>'
"""Of mails: in their text, which Apprise makes of the HTML, ``<code>`` would begin a new line."""


def quiet(text: str) -> str:
    """Return text that calls nobody in a chat, whatever is done with it there: a sign that nobody sees is put in.

    >>> [len(quiet(text)) - len(text) for text in ("@everyone", "<!channel>", "ann@example.org")]
    [1, 1, 0]
    """
    return _CALL.sub(lambda found: f"{found[0]}\u200b", text)


def uncalled(text: str) -> str:
    """Return text in which no sign ``@`` stands before a name, nor before a number."""
    return re.sub(r"@(?=\w)", "@\u200b", text)


def plain(message: Message) -> str:
    """Write the parts as plain text."""
    return quiet(message.body)


def markdown(message: Message, *, code: bool = True) -> str:
    """Write the parts as CommonMark.

    Parameters
    ----------
    code
        Whether the channel shows code in a monospaced font, and never splits it; else a table is a list.
    """
    return _joined(message, lambda part: _markdown_part(part, code=code))


def html(message: Message, *, tables: bool = True) -> str:
    """Write the parts as HTML that mail programs show; without `tables`, as the few tags that chats know."""
    return _joined(message, lambda part: _html_part(part, tables=tables))


def markdown_title(text: str) -> str:
    r"""Return a title as CommonMark, without code: it may be cut, which would leave the code open.

    >>> print(markdown_title("run_1 *x* [a](b) `c`"))
    run_1 \*x\* \[a\](b) \`c\`
    """
    return _escaped(one_line(text).strip())


def html_title(text: str) -> str:
    """Return a title as HTML."""
    return escape(quiet(one_line(text)))


def _joined(message: Message, write: Callable[[Part], str]) -> str:
    return "\n\n".join(filter(None, map(write, message.parts)))


def _markdown_part(part: Part, *, code: bool) -> str:
    safe = _markdown if code else _escaped
    match part:
        case Points(items):
            return "\n".join(f"- {safe(one_line(item))}" for item in items)
        case Table() if code:
            return f"```\n{quiet(aligned(part)).replace('`', chr(39))}\n```"
        case Table():
            return "\n".join(f"- {_listed(row)}" for row in part.rows)
        case Link(label, address):
            return _linked(label, address, safe, "[{label}](<{address}>)", "{label}: `{}`" if code else "{label}: {}")
        case _:
            return safe(printable(str(part)))


def _html_part(part: Part, *, tables: bool) -> str:
    code = _MONOSPACED if tables else "<code>{}</code>"
    match part:
        case Points(items) if not items:
            return ""
        case Points(items) if tables:
            return "<ul>" + "".join(f"<li>{_html(one_line(item), code)}</li>" for item in items) + "</ul>"
        case Points(items):
            return "<p>" + "<br/>".join(f"- {_html(one_line(item), code)}" for item in items) + "</p>"
        case Table() if tables:
            return _html_table(part)
        case Table():
            return f"<pre>{escape(quiet(aligned(part)))}</pre>"
        case Link(label, address):
            written = _linked(label, address, escape, "{label}: <a href={address}>{shown}</a>", f"{{label}}: {code}")
            return written and f"<p>{written}</p>"
        case _:
            text = _html(printable(str(part)), code).replace("\n", "<br/>")
            return text and f"<p>{text}</p>"


def _html_table(table: Table) -> str:
    def row(cells: Sequence[str], tag: str) -> str:
        line = '<tr style="border-bottom:1px solid #ccc">'
        return line + "".join(f'<{tag} align="left">{cell}</{tag}>' for cell in cells) + "</tr>"

    rows = [row([_html(one_line(cell), _MONOSPACED) for cell in table.head], "th")]
    for cells in table.rows:
        *some, last = (_html(one_line(cell), _MONOSPACED) for cell in cells)
        rows.append(row([*some, last if last == "pass" else f"<b>{last}</b>"], "td"))
    return f'<table cellpadding="6" style="border-collapse:collapse">{"".join(rows)}</table>'


def _listed(row: Sequence[str]) -> str:
    """Write a row as a sentence: how it is to be taken first, as a list has no columns."""
    name, *values, verdict = (_escaped(one_line(cell)) for cell in row)
    said = verdict if verdict == "pass" else f"**{verdict}**"
    return f"{name}: {', '.join([said, ' · '.join(values)] if values else [said])}"


def _linked(label: str, address: str, safe: Callable[[str], str], link: str, other: str) -> str:
    """Write a link where a browser can open it, else the address to be copied."""
    if not address:
        return ""
    fit = _UNFIT.sub(lambda sign: "".join(f"%{byte:02X}" for byte in sign[0].encode("utf-8", "replace")), address)
    if _WEB.match(fit):
        return link.format(label=safe(label), address=quoteattr(fit) if "href" in link else fit, shown=escape(fit))
    shown = one_line(address)
    if "`" in other:
        shown = quiet(shown).replace("`", "'")
    elif "<" in other:
        shown = escape(quiet(shown))
    else:
        shown = safe(shown)
    return other.format(shown, label=safe(label))


def _markdown(text: str) -> str:
    """Escape text, but what stands between backticks, which is code."""
    return "".join(
        f"`{quiet(piece)}`" if at % 2 else _inline(piece)
        for at, piece in enumerate(_CODE.split(_INDENTED.sub("", text)))
    )


def _escaped(text: str) -> str:
    return _inline(_INDENTED.sub("", text))


def _inline(text: str) -> str:
    """Escape text; what stands at the beginning of a line makes neither headings nor lists."""
    inline = _SPECIAL.sub(r"\\\g<0>", quiet(text))
    return _BLOCK.sub(lambda at: f"{at[1] or ''}\\{at[2] or at[3]}", inline)


def _html(text: str, code: str) -> str:
    return "".join(
        code.format(escape(piece)) if at % 2 else escape(piece) for at, piece in enumerate(_CODE.split(quiet(text)))
    )
