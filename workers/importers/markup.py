"""Answers typed into a rich editor become plain text: known tags and entities go, everything else stays.

An answer such as `x<y and y>z` is no HTML: only names of real tags count, and only closed entities.
"""

from __future__ import annotations

import html
import re

_BREAKING = "address|blockquote|br|dd|div|dl|dt|figure|h[1-6]|hr|li|ol|p|pre|section|table|tr|ul"
_INLINE = "a|abbr|b|big|cite|code|em|font|i|img|kbd|mark|q|s|samp|small|span|strike|strong|sub|sup|td|th|tt|u"
_OTHER = "article|body|caption|center|col|colgroup|del|figcaption|head|html|ins|label|tbody|tfoot|thead"

#: Attributes are name=value pairs, so that `a <b and c> d` keeps its words.
_ATTRIBUTES = r"""(?:\s+[\w:-]+\s*=\s*(?:"[^"]*"|'[^']*'|[^\s"'<>]+))*\s*"""
_UNSEEN = re.compile(r"<(script|style|title)\b[^>]*>.*?</\1\s*>|<!--.*?-->", re.IGNORECASE | re.DOTALL)
_BREAK = re.compile(rf"</?(?:{_BREAKING}){_ATTRIBUTES}/?>", re.IGNORECASE)
_TAG = re.compile(rf"</?(?:{_INLINE}|{_OTHER}){_ATTRIBUTES}/?>", re.IGNORECASE)
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,30});")
_BLANKS = re.compile(r"[ \t\u00a0]+")
_LINE_ENDS = re.compile(r" *(?:\r\n|\r|\n) *")


def to_text(cell: str) -> str:
    """The words of a cell, lines kept; a cell without tags and entities comes back as it was."""
    if "<" not in cell and "&" not in cell:
        return cell
    bare = _TAG.sub("", _BREAK.sub("\n", _UNSEEN.sub("", cell.replace("\x00", ""))))
    text = _ENTITY.sub(lambda found: html.unescape(found.group()), bare)
    if text == cell:
        return cell
    # Two tags between two paragraphs are one line's end; what is left of the layout says nothing.
    lines = _LINE_ENDS.sub("\n", _BLANKS.sub(" ", text)).split("\n")
    return "\n".join(line for line in lines if line)


def words(cell: str) -> str:
    """A question's text in the form in which two of them are compared: no tags, one blank, no case."""
    return " ".join(to_text(cell).split()).casefold()
