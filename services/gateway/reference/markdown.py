"""As much of Markdown as docs/errors.md needs: headings, paragraphs, lists, `code`, **bold**, links. Pure."""

import html
import re

_CODE = re.compile(r"`([^`]+)`")
_BOLD = re.compile(r"\*\*([^*]+)\*\*")
_LINK = re.compile(r"\[([^\]]+)\]\((https?://[^)\s]+|[#/][^)\s]*)\)")


def to_html(text: str) -> str:
    """Everything is escaped first: nothing in the text can become a tag of its own."""
    return "\n".join(_block(block) for block in re.split(r"\n\s*\n", text.strip()))


def _block(block: str) -> str:
    if heading := re.fullmatch(r"(#{1,3}) (.+)", block):
        level, title = len(heading[1]), heading[2]
        return f'<h{level} id="{html.escape(title.strip("`"))}">{inline(title)}</h{level}>'
    lines = block.split("\n")
    if all(line.startswith(("- ", "  ")) for line in lines):
        items = re.split(r"(?m)^- ", block)[1:]
        return "<ul>" + "".join(f"<li>{inline(' '.join(item.split()))}</li>" for item in items) + "</ul>"
    return f"<p>{inline(' '.join(lines))}</p>"


def inline(text: str) -> str:
    escaped = html.escape(text)
    escaped = _CODE.sub(r"<code>\1</code>", escaped)
    return _LINK.sub(r'<a href="\2">\1</a>', _BOLD.sub(r"<b>\1</b>", escaped))
