import html.parser
import re
import shutil
import subprocess

import pytest

from src.reports.watermark_page import render_page, visible

HOSTILE = "<script>document.title='run'</script>&amp;\u202egnp.exe\u0007\u200b\u00a0\"'\n\tend"


def row(index, label="hard", z=3.0, pieces=("plain", " text"), states="gr", **more):
    return {
        "index": index,
        "label": label,
        "scheme": "hard",
        "rate": None,
        "note": None,
        "probabilities": {"none": 0.0, "no_e": 0.1, "hard": 0.8, "soft": 0.1},
        "z_score": z,
        "p_value": 0.001,
        "q_value": 0.01,
        "num_scored": 2,
        "num_green": 1,
        "num_e": 1,
        "num_letters": 9,
        "passage": None,
        "pieces": list(pieces),
        "states": states,
        **more,
    }


class Reader(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.links, self.text, self._inside = [], [], "", None

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [v for k, v in attrs if k in ("src", "href", "action")]
        if ("class", "text") in attrs:
            self._inside = tag

    def handle_endtag(self, tag):
        if tag == self._inside:
            self._inside = None

    def handle_data(self, data):
        if self._inside:
            self.text += data


def read(page):
    reader = Reader()
    reader.feed(page)
    return reader


def test_texts_are_shown_and_never_run():
    page = render_page([row(0, pieces=[HOSTILE], states="g", note=HOSTILE)], HOSTILE)
    reader = read(page)
    assert reader.tags.count("script") == 1  # the page's own
    assert "<script>document" in reader.text
    for character in "\u202e\u0007\u200b\u00a0":
        assert character not in page
        assert f"⟨U+{ord(character):04X}⟩" in reader.text


def test_the_page_asks_for_nothing():
    page = render_page([row(0)])
    assert read(page).links == []
    assert "default-src 'none'" in page
    assert not re.search(r"url\(|@import|https?:", page)


def test_states_differ_in_more_than_colour():
    page = render_page([row(0, pieces=["a", "b", "c", "d"], states="grxu")])
    assert "<b>a</b><i>b</i><s>c</s><u>d</u>" in page
    assert "underline solid" in page
    assert "underline wavy" in page


def test_visible_leaves_ordinary_text_alone():
    assert visible("Zwölf 日本 e\u0301 😀") == "Zwölf 日本 e\u0301 😀"
    assert visible("a\nb\tc") == "a↵\nb→\tc"
    assert visible("\x00\ud800\ue000") == "⟨U+0000⟩⟨U+D800⟩⟨U+E000⟩"


def test_texts_without_tokens_say_so():
    page = render_page([row(0, label="undecided", z=None, pieces=[], states="", scheme=None)])
    assert "(no text)" in page
    assert 'data-z=""' in page


@pytest.fixture(scope="module")
def chromium():
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("chromium is not installed (Debian: apt-get install chromium)")
    return found


def dump(chromium, tmp_path, page, script):
    """Open a page in headless Chromium, run a script in it, return what the title became."""
    page = page.replace("</body>", f"<script>{script}</script></body>")
    path = tmp_path / "page.html"
    path.write_text(page, encoding="utf-8")
    output = subprocess.run(
        [
            chromium,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--dump-dom",
            path.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    ).stdout
    return re.search(r"<title>(.*?)</title>", output, re.DOTALL).group(1)


def test_a_browser_filters_sorts_and_runs_no_text(chromium, tmp_path):
    rows = [row(i, "soft" if i % 3 else "hard", z=float((i * 37) % 101)) for i in range(999)]
    rows.append(row(999, pieces=[HOSTILE], states="g", z=None))
    script = """
      const click=q=>document.querySelector(q).click();
      const seen=()=>[...document.querySelectorAll('article')].filter(a=>!a.hidden);
      const out=[seen().length];
      click('button[data-label=soft]');out.push(seen().length,document.querySelector('#shown').textContent);
      click('[data-order=high]');out.push(seen()[0].dataset.z);
      click('[data-order=low]');out.push(seen()[0].dataset.z);
      click('button[data-label=all]');out.push(seen().length,seen().at(-1).dataset.index);
      click('[data-order=input]');out.push(seen()[5].dataset.index);
      click('#signs');out.push(document.body.className);
      document.title=out.join(' ');
    """
    title = dump(chromium, tmp_path, render_page(rows), script)
    assert title == "1000 666 666 100.000000 0.000000 1000 999 5 signs"
