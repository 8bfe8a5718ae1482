"""A page of HTML that stands alone: its style, its tables, its pictures, all in one file.

Nothing is fetched: no script, no font, no style sheet from elsewhere, so a page opens on a machine without a network
and looks the same in ten years. Pictures are SVG in the page; their ids are made unique, so that two pictures do not
borrow each other's clips. Text is escaped where it enters.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from .cells import shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: #f6f7f9; color: #1f2933;
       font: 16px/1.5 system-ui, -apple-system, "Segoe UI", "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 32px 24px 64px; }
h1 { font-size: 28px; line-height: 1.25; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 20px; margin: 0 0 12px; }
h3 { font-size: 16px; margin: 20px 0 6px; }
p { margin: 8px 0; max-width: 76ch; }
.lead { color: #52606d; margin-bottom: 20px; }
section { background: #fff; border: 1px solid #e4e7eb; border-radius: 10px; padding: 20px 24px; margin: 20px 0; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(120px, 1fr)); gap: 12px; margin: 20px 0; }
.card { background: #fff; border: 1px solid #e4e7eb; border-radius: 10px; padding: 12px; }
.card b { display: block; font-size: 18px; font-weight: 600; font-variant-numeric: tabular-nums; }
.card span { color: #52606d; font-size: 13px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 14px; margin: 8px 0; }
caption { caption-side: top; text-align: left; font-weight: 600; padding: 4px 0; }
th { text-align: left; color: #52606d; font-weight: 600; border-bottom: 2px solid #cbd2d9; padding: 6px 14px 6px 0; }
td { border-bottom: 1px solid #edf0f3; padding: 5px 14px 5px 0; vertical-align: top; overflow-wrap: anywhere; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
tr:hover td { background: #f8fafc; }
code { font: 13px ui-monospace, "Cascadia Mono", Menlo, Consolas, monospace; background: #f0f2f5; padding: 1px 5px;
       border-radius: 4px; overflow-wrap: anywhere; }
.side { display: flex; flex-wrap: wrap; gap: 8px 56px; }
figure { margin: 12px 0; }
figure svg { max-width: 100%; height: auto; display: block; }
figcaption { color: #52606d; font-size: 14px; max-width: 76ch; }
.good { color: #00684a; font-weight: 600; } .bad { color: #b3400a; font-weight: 600; } .dim { color: #52606d; }
nav a { margin-right: 16px; } a { color: #0b5cad; }
@media print { body { background: #fff; } section, .card { break-inside: avoid; } }
"""


class Raw(str):
    """Text that is HTML already."""


def html(cell: Any) -> str:
    """A cell of a table: numbers as people read them, text escaped, `Raw` as it is."""
    return cell if isinstance(cell, Raw) else escape(shown(cell))


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], caption: str = "") -> str:
    """Numbers to the right."""
    right = [any(_numeric(row[i]) for row in rows) for i in range(len(columns))]

    def line(cells: Sequence[str], tag: str) -> str:
        marks = [f"<{tag}{' class=n' if r else ''}>{c}</{tag}>" for c, r in zip(cells, right, strict=True)]
        return f"<tr>{''.join(marks)}</tr>"

    head = line([escape(c) for c in columns], "th") if any(columns) else ""
    body = "\n".join(line([html(cell) for cell in row], "td") for row in rows)
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f'<div class="scroll"><table>{title}<thead>{head}</thead><tbody>\n{body}\n</tbody></table></div>'


def _numeric(cell: Any) -> bool:
    return not isinstance(cell, str | bool) and cell is not None


def cards(items: Sequence[tuple[str, Any]]) -> str:
    """The few numbers that matter, large."""
    return '<div class="cards">' + "".join(_card(name, value) for name, value in items) + "</div>"


def _card(name: str, value: Any) -> str:
    return f'<div class="card"><b>{html(value)}</b><span>{escape(name)}</span></div>'


def section(title: str, *parts: str, anchor: str = "") -> str:
    """A box with a heading."""
    name = f' id="{escape(anchor)}"' if anchor else ""
    return f"<section{name}><h2>{escape(title)}</h2>\n" + "\n".join(part for part in parts if part) + "\n</section>"


def paragraph(text: str, kind: str = "") -> str:
    return f"<p{f' class={kind}' if kind else ''}>{html(text)}</p>"


def code(text: str) -> Raw:
    return Raw(f"<code>{escape(text)}</code>")


def coded(text: str) -> Raw:
    """Text in which `this` is code."""
    return Raw("".join(code(part) if k % 2 else escape(part) for k, part in enumerate(text.split("`"))))


def svg_of(figure: Figure) -> str:
    """A matplotlib figure as SVG text, the same for the same figure."""
    import matplotlib

    text = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "report", "svg.fonttype": "none"}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()


def picture(svg: str, number: int, caption: str = "") -> str:
    """An SVG document as a part of the page; `number` makes its ids its own."""
    inner = svg[max(0, svg.find("<svg")) :]
    inner = re.sub(r"<metadata>.*?</metadata>", "", inner, flags=re.DOTALL)
    wanted = set(re.findall(r'(?:href="|url\()#([^")]+)', inner))

    def named(found: re.Match[str]) -> str:
        """The id, where something refers to it; matplotlib writes some twice, with one content."""
        name = found.group(1)
        if name not in wanted:
            return ""
        wanted.discard(name)
        return f' id="f{number}-{name}"'

    inner = re.sub(r'\s\bid="([^"]*)"', named, inner)
    inner = re.sub(r'href="#', f'href="#f{number}-', inner)
    inner = re.sub(r"url\(#", f"url(#f{number}-", inner)
    words = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f"<figure>{inner.strip()}{words}</figure>"


def page(title: str, lead: str, *parts: str) -> str:
    """The whole document."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # An empty icon, or browsers would ask for one.
        '<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{escape(title)}</h1>\n<p class=lead>{html(lead)}</p>\n"
        + "\n".join(parts)
        + "\n</main>\n</body>\n</html>\n"
    )
