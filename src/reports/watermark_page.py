"""One HTML file that shows every text with its tokens marked, and the evidence beside it.

The file needs nothing else: style and script are inline, a content policy forbids every request,
and all that comes from outside (texts, names, notes) passes through :func:`visible` and
``html.escape``. Green and red tokens differ in colour, in underline (solid, wavy) and, at a
reader's wish, by signs, so the page reads without colour vision. A thousand texts stay quick
because a browser lays out only those on the screen (``content-visibility``).
"""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from src.algorithms.watermark.schemes import SCHEMES

Row = Mapping[str, Any]

_TITLES = {"none": "none", "no_e": "no-e", "hard": "hard", "soft": "soft", "undecided": "undecided"}
_TAGS = {"g": "b", "r": "i", "x": "s", "u": "u"}


def visible(text: str) -> str:
    """Write characters that a page would obey or hide as text.

    Args:
        text: Anything.

    Returns:
        The text with control, bidirectional, zero-width and other format characters, private and
        unassigned ones and odd spaces as ``⟨U+202E⟩``; line ends and tabs as signs.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_visible_character, text))


def _visible_character(character: str) -> str:
    if character == "\n":
        return "↵\n"
    if character == "\t":
        return "→\t"
    category = unicodedata.category(character)
    if category[0] == "C" or category in ("Zl", "Zp"):
        return f"⟨U+{ord(character):04X}⟩"
    if category == "Zs" and character != " ":
        return f"⟨U+{ord(character):04X}⟩"
    return character


def render_page(rows: Sequence[Row], summary: str = "") -> str:
    """Build the page.

    Args:
        rows: Answers of a detector: ``index, label, probabilities, z_score, p_value, num_scored,
            num_green, num_e, num_letters, pieces, states``; ``scheme``, ``q_value``, ``note``,
            ``passage`` and ``rate`` where there are any.
        summary: A line of plain text for the head.

    Returns:
        A whole HTML document.
    """
    labels = [name for name in (*SCHEMES, "undecided") if any(r["label"] == name for r in rows)]
    buttons = "".join(
        f'<button type="button" data-label="{name}" aria-pressed="false">{_TITLES[name]} '
        f"<small>{sum(r['label'] == name for r in rows)}</small></button>"
        for name in labels
    )
    articles = "\n".join(map(_article, rows))
    return _PAGE.format(
        style=_STYLE,
        script=_SCRIPT,
        summary=html.escape(visible(summary)),
        num=len(rows),
        buttons=buttons,
        articles=articles,
    )


def _article(row: Row) -> str:
    z = row.get("z_score")
    label, scheme = row["label"], row.get("scheme")
    verdict = ""
    if scheme is not None:
        is_right = scheme == label
        verdict = (
            f'<span class="{"right" if is_right else "wrong"}">'
            f"{'✓' if is_right else '✗'} made by {_TITLES[scheme]}</span>"
        )
    facts = [
        ("z-score", "–" if z is None else f"{z:.2f}"),
        ("p-value", _small(row["p_value"])),
    ]
    if row.get("q_value") is not None:
        facts.append(("adjusted p", _small(row["q_value"])))
    facts += [
        ("green", f"{row['num_green']} of {row['num_scored']}"),
        ("letters e", f"{row['num_e']} of {row['num_letters']}"),
    ]
    passage = row.get("passage")
    if passage:
        facts.append(
            (
                "strongest passage",
                f"tokens {passage['start'] + 1}–{passage['stop']}, p {_small(passage['p_value'])}",
            )
        )
    if row.get("rate") is not None:
        facts.append(("attack rate", f"{row['rate']:.0%}"))
    evidence = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts)
    bars = "".join(
        f'<div class="bar"><span>{_TITLES[name]}</span>'
        f'<meter min="0" max="1" value="{row["probabilities"][name]:.4f}"></meter>'
        f"<span>{_percent(row['probabilities'][name])}</span></div>"
        for name in SCHEMES
    )
    note = f'<p class="note">{html.escape(visible(row["note"]))}</p>' if row.get("note") else ""
    return (
        f'<article data-label="{label}" data-index="{row["index"]}" '
        f'data-z="{"" if z is None else f"{z:.6f}"}">'
        f"<header><h2>Text {row['index'] + 1}</h2>"
        f'<span class="label {label}">{_TITLES[label]}</span>{verdict}</header>'
        f'<div class="evidence"><dl>{evidence}</dl><div class="bars">{bars}</div></div>{note}'
        f'<p class="text" dir="ltr">{_tokens(row)}</p></article>'
    )


def _tokens(row: Row) -> str:
    parts = []
    for piece, state in zip(row["pieces"], row["states"], strict=True):
        if piece:
            tag = _TAGS[state]
            parts.append(f"<{tag}>{html.escape(visible(piece))}</{tag}>")
    return "".join(parts) or '<span class="empty">(no text)</span>'


def _small(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else f"{value:.1e}"


def _percent(value: float) -> str:
    """Write a probability so that only certainty reads 100 %."""
    if 0.9995 <= value < 1:
        return ">99.9 %"
    return f"{value:.1%}".replace("%", " %")


_STYLE = """
:root{--ink:#1c1c1c;--paper:#fff;--soft:#f4f4f2;--line:#d6d6d2;--green:#cfe8dc;
--green-ink:#005a3c;--red:#fbdcc8;--red-ink:#8f2f00;--accent:#0060a0}
@media (prefers-color-scheme:dark){:root{--ink:#ececec;--paper:#17181a;--soft:#222427;
--line:#3c3f44;--green:#123c2c;--green-ink:#8fe0bd;
--red:#4a2412;--red-ink:#ffb892;--accent:#7cc0f5}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.55 system-ui,sans-serif}
.top{position:sticky;top:0;z-index:1;background:var(--paper);border-bottom:1px solid var(--line);
padding:.8rem 1.2rem}
.top h1{font-size:1.15rem;margin:0 0 .2rem}.top p{margin:.15rem 0}
.controls{display:flex;flex-wrap:wrap;gap:.4rem .5rem;align-items:center;margin-top:.5rem}
button{font:inherit;color:inherit;background:var(--soft);border:1px solid var(--line);
border-radius:4px;padding:.15rem .65rem;cursor:pointer}
button[aria-pressed=true]{background:var(--accent);border-color:var(--accent);color:var(--paper);
text-decoration:underline}
button small{opacity:.75}
.gap{width:1rem}
main{padding:0 1.2rem 2rem;max-width:72rem}
article{content-visibility:auto;contain-intrinsic-size:auto 16rem;
border-bottom:1px solid var(--line);padding:1rem 0}
article[hidden]{display:none}
article header{display:flex;flex-wrap:wrap;gap:.7rem;align-items:baseline}
h2{font-size:1rem;margin:0}
.label{border:1px solid currentColor;border-radius:4px;padding:0 .5rem;font-weight:600}
.label.undecided{border-style:dashed}
.wrong{font-weight:600}
.evidence{display:flex;flex-wrap:wrap;gap:.6rem 2.5rem;margin:.6rem 0;align-items:flex-start}
dl{display:flex;flex-wrap:wrap;gap:.3rem 1.6rem;margin:0;flex:1 1 26rem}
dt{font-size:.78rem;opacity:.75}dd{margin:0;font-variant-numeric:tabular-nums}
.bars{font-size:.85rem;min-width:15rem}
.bar{display:grid;grid-template-columns:3.2rem 1fr 4rem;gap:.5rem;align-items:center;
font-variant-numeric:tabular-nums}
.bar span:last-child{text-align:right}
meter{width:100%;height:.8rem}
.note{margin:.3rem 0;padding-left:.6rem;border-left:3px solid var(--accent)}
.text{white-space:pre-wrap;overflow-wrap:anywhere;margin:.4rem 0 0;line-height:1.9;
unicode-bidi:isolate}
.text b,.text i,.text s,.text u,.key b,.key i,.key s,.key u{font-weight:inherit;font-style:normal;
text-underline-offset:.22em;text-decoration:none;unicode-bidi:isolate}
.text b,.key b{background:var(--green);color:var(--green-ink);
text-decoration:underline solid 2px var(--green-ink)}
.text i,.key i{background:var(--red);color:var(--red-ink);
text-decoration:underline wavy 1.5px var(--red-ink)}
.text s,.key s{opacity:.7;text-decoration:underline dotted 1.5px}
.text u,.key u{opacity:.7}
.text b+b,.text i+i{box-shadow:-1px 0 var(--paper)}
body.signs .text b::before{content:"+";font-size:.7em}
body.signs .text i::before{content:"\\2212";font-size:.7em}
.key{display:flex;flex-wrap:wrap;gap:.3rem 1.2rem;font-size:.88rem}
.empty{opacity:.7}
"""

_SCRIPT = """
const list=document.querySelector('main');
const articles=[...list.querySelectorAll('article')];
const shown=document.querySelector('#shown');
const number=a=>a.dataset.z===''?-Infinity:Number(a.dataset.z);
const orders={input:(a,b)=>a.dataset.index-b.dataset.index,
 high:(a,b)=>number(b)-number(a)||a.dataset.index-b.dataset.index,
 low:(a,b)=>(a.dataset.z===''?Infinity:+a.dataset.z)-(b.dataset.z===''?Infinity:+b.dataset.z)
  ||a.dataset.index-b.dataset.index};
const press=(group,button)=>{for(const other of group)
 other.setAttribute('aria-pressed',String(other===button))};
const filters=[...document.querySelectorAll('[data-label]:not(article)')];
for(const button of filters)button.onclick=()=>{press(filters,button);let n=0;
 const label=button.dataset.label;
 for(const a of articles){a.hidden=label!=='all'&&a.dataset.label!==label;n+=!a.hidden}
 shown.textContent=n};
const sorts=[...document.querySelectorAll('[data-order]')];
for(const button of sorts)button.onclick=()=>{press(sorts,button);
 list.append(...articles.sort(orders[button.dataset.order]))};
document.querySelector('#signs').onclick=e=>e.currentTarget.setAttribute('aria-pressed',
 String(document.body.classList.toggle('signs')));
"""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Attribution of {num} texts</title>
<style>{style}</style>
</head>
<body>
<div class="top">
<h1>Attribution of {num} texts</h1>
<p>{summary}</p>
<div class="key"><span><b>green token</b> solid line</span><span><i>red token</i> wavy line</span>
<span><s>repeated pair</s> not scored again</span><span><u>no context</u> not scored</span></div>
<div class="controls" role="group" aria-label="Which texts, in which order">
<button type="button" data-label="all" aria-pressed="true">all <small>{num}</small></button>
{buttons}
<span class="gap"></span>
<button type="button" data-order="input" aria-pressed="true">in order</button>
<button type="button" data-order="high" aria-pressed="false">largest z first</button>
<button type="button" data-order="low" aria-pressed="false">smallest z first</button>
<span class="gap"></span>
<button type="button" id="signs" aria-pressed="false">show + and − signs</button>
<span><span id="shown">{num}</span> shown</span>
</div>
</div>
<main>
{articles}
</main>
<script>{script}</script>
</body>
</html>
"""
