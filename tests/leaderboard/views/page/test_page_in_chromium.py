"""The pages in Debian's headless Chromium. The pages load nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from chromium import CHROMIUM, DESKTOP, PHONE, Browser
from view_factory import make_section, make_view

from backbench.leaderboard.board.mechanisms import MEANING, mechanism
from backbench.leaderboard.views.page import build

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here (Debian's package of that name)")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pages of three sections, one of them with a name that means harm."""
    folder = tmp_path_factory.mktemp("site")
    sections = [
        make_section(),
        make_section("d4rl-embedded-quick-recurrent", 2, acting="recurrent"),
        make_section("atari-embedded-quick-window", 3, suite="atari", tasks=("breakout", "pong", "qbert", "seaquest")),
    ]
    evil = sections[0]["rows"][3]
    evil |= {"label": "<script>alert(1)</script>", "backbone": '"><img src=x onerror=alert(1)>', "mechanism": "other"}
    evil["failed"] = [{"task": "hopper-medium", "seed": 9, "reason": "<b>no</b>"}]
    lame = sections[0]["rows"][4]
    lame |= {"aggregates": None, "missing": ["hopper-medium"]}
    del lame["scores"]["hopper-medium"]
    for file, page in build(make_view(sections)).items():
        path = folder / file
        path.parent.mkdir(exist_ok=True)
        path.write_text(page, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    found = Browser(tmp_path_factory.mktemp("profile"))
    yield found
    found.close()


LABELS = "Array.from(document.querySelectorAll('.section.shown tbody.rows tr:not([hidden]) .label'), e => e.innerText)"
SHOWN = "Array.from(document.querySelectorAll('.section'), e => e).filter(e => e.offsetHeight > 0).map(e => e.id)"
EVIL = "<script>alert(1)</script>"


def index(site: Path, fragment: str = "") -> str:
    return (site / "index.html").as_uri() + fragment


def head(key: str) -> str:
    return f"document.querySelector('.section.shown th[data-key=\"{key}\"]')"


def test_pages_load_nothing_and_raise_no_error(browser: Browser, site: Path) -> None:
    for path in [site / "index.html", *sorted((site / "rows").iterdir())]:
        browser.open(path.as_uri())
        assert browser.complaints() == []
        assert browser.ask("document.querySelectorAll('img, iframe, object, script:not([type])').length") == 1
    assert browser.ask("document.scripts.length") == 1  # a row page has no data for its script


def test_complaints_find_a_foreign_script_and_image(browser: Browser, site: Path, tmp_path: Path) -> None:
    page = (site / "index.html").read_text(encoding="utf-8")
    broken = tmp_path / "broken.html"
    broken.write_text(page.replace("</main>", "<script>alert(1)</script><img src='x.png'></main>"), encoding="utf-8")
    browser.open(broken.as_uri())
    found = " ".join(browser.complaints())
    assert "script-src" in found
    assert "default-src" in found


def test_a_click_on_a_head_sorts_rows(browser: Browser, site: Path) -> None:
    browser.open(index(site))
    assert browser.ask(LABELS) == ["gloma", "transformer", "mamba", EVIL, "identity"]  # identity has no IQM
    browser.ask(head("iqm") + ".querySelector('button').click()")
    assert browser.ask(LABELS) == [EVIL, "mamba", "transformer", "gloma", "identity"]  # nothing stays last
    assert browser.ask(head("iqm") + ".getAttribute('aria-sort')") == "ascending"
    assert browser.ask("location.hash") == "#dir=ascending"
    browser.ask(head("parameters") + ".querySelector('button').click()")  # the best first: here the fewest
    assert browser.ask(LABELS) == ["gloma", "transformer", "mamba", EVIL, "identity"]
    browser.ask(head("parameters") + ".querySelector('button').click()")
    assert browser.ask(LABELS) == ["identity", EVIL, "mamba", "transformer", "gloma"]
    assert browser.ask("document.querySelectorAll('.section.shown [aria-sort]').length") == 1
    browser.ask(head("name") + ".querySelector('button').focus()")
    browser.key("Enter")
    assert browser.ask(LABELS) == [EVIL, "gloma", "identity", "mamba", "transformer"]
    browser.key(" ")
    assert browser.ask(LABELS) == ["transformer", "mamba", "identity", "gloma", EVIL]
    assert browser.ask("location.hash") == "#sort=name"
    assert browser.complaints() == []


def test_rows_are_filtered_and_columns_hidden(browser: Browser, site: Path) -> None:
    browser.open(index(site))
    browser.ask("document.querySelector('.section.shown .filter').focus()")
    browser.type("ma ")
    assert browser.ask(LABELS) == ["gloma", "mamba"]
    assert browser.ask("document.querySelector('.section.shown output').innerText") == "2 of 5 rows"
    faint = "new Set(Array.from(document.querySelectorAll('.section.shown .plots .off'), e => e.dataset.row)).size"
    assert browser.ask(faint) == 3
    width = "document.querySelector('.section.shown table.board').offsetWidth"
    before = browser.ask(width)
    browser.ask("document.querySelector('.section.shown [data-group=task]').click()")
    assert browser.ask(width) < before
    assert browser.ask(head("task:hopper-medium") + ".offsetWidth") == 0
    assert browser.ask("location.hash") == "#filter=ma+&hide=task"
    browser.open(index(site, "#filter=ma+&hide=task,cost&sort=mean&dir=ascending"))
    assert browser.ask(LABELS) == ["mamba", "gloma"]
    assert browser.ask(head("parameters") + ".offsetWidth") == 0
    assert browser.ask(head("mean") + ".offsetWidth") > 0
    browser.open(index(site, "#filter=%3Cimg%20src"))
    assert browser.ask(LABELS) == [EVIL]
    assert browser.complaints() == []


def test_rows_are_grouped_by_mechanism(browser: Browser, site: Path) -> None:
    browser.open(index(site))
    lines = """Array.from(document.querySelectorAll('.section.shown table.%s tbody.rows tr:not([hidden])'),
      e => e.firstChild.innerText.split("\\n")[0])"""
    before = browser.ask(lines % "heat")
    assert before == browser.ask(LABELS)
    browser.ask("document.querySelector('.section.shown .grouped').click()")
    assert browser.ask("location.hash") == "#group=mechanism"
    grouped = browser.ask(lines % "heat")
    assert grouped[0] == mechanism(before[0])  # the group of the best row comes first
    assert browser.ask(lines % "board") == grouped
    group = ""
    for line in grouped:
        group = line if line in MEANING else group
        assert line in (group, *(name for name in before if mechanism(name) == group))
    browser.open(index(site, "#group=mechanism&filter=attention"))
    assert browser.ask(lines % "board") == ["attention", "transformer"]
    browser.ask("document.querySelector('.section.shown .grouped').click()")
    browser.open(index(site))
    assert browser.ask(lines % "heat") == before


def test_switches_show_the_matching_section(browser: Browser, site: Path) -> None:
    browser.open(index(site))
    assert browser.ask(SHOWN) == ["d4rl-embedded-quick-window"]
    browser.ask("document.querySelector('#switches [name=acting][value=recurrent]').click()")
    assert browser.ask(SHOWN) == ["d4rl-embedded-quick-recurrent"]
    assert browser.ask("location.hash") == "#section=d4rl-embedded-quick-recurrent"
    # No recurrent one of the games: the acting goes back by itself.
    browser.ask("document.querySelector('#switches [name=suite][value=atari]').click()")
    assert browser.ask(SHOWN) == ["atari-embedded-quick-window"]
    assert browser.ask("new FormData(document.getElementById('switches')).get('acting')") == "window"
    browser.ask("document.querySelector('#switches [name=suite]:checked').focus()")
    browser.key("ArrowRight")
    assert browser.ask(SHOWN)[0].startswith("d4rl")
    browser.open(index(site, "#atari-embedded-quick-window"))
    assert browser.ask(SHOWN) == ["atari-embedded-quick-window"]
    for fragment in ("#section=nowhere", "#%", "#=&&", "#main", "#sort=__proto__&dir=x&hide=,&filter=<b>"):
        browser.open(index(site, fragment))
        assert browser.ask(SHOWN) == ["d4rl-embedded-quick-window"]
        assert browser.complaints() == []


def test_the_theme_follows_the_system_until_it_is_chosen(browser: Browser, site: Path) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    seen = {}
    for dark in (False, True):
        browser.open(index(site), dark=dark)
        browser.ask("localStorage.clear()")
        browser.open(index(site), dark=dark)
        seen[dark] = browser.ask(ground)
        browser.ask("document.getElementById('theme').click()")
        seen[dark, "other"] = browser.ask(ground)
        browser.open((site / "rows" / "d4rl-embedded-quick-window-row-0.html").as_uri(), dark=dark)
        assert browser.ask(ground) == seen[dark, "other"]  # kept on the next page
    assert seen[False] == seen[True, "other"] != seen[True] == seen[False, "other"]
    browser.ask("localStorage.clear()")


def test_text_has_contrast_in_both_themes(browser: Browser, site: Path) -> None:
    measure = """(() => {
      const parse = c => c.match(/[\\d.]+/g).map(Number).map((v, i) => c.startsWith('color(') && i < 3 ? 255 * v : v);
      const linear = v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
      const light = c => { const [r, g, b] = parse(c).slice(0, 3).map(linear);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
      const under = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
        if (parse(c)[3] !== 0) return c; } return 'rgb(255, 255, 255)'; };
      const low = [];
      for (const e of document.querySelectorAll('body *')) {
        if (!e.offsetParent && !(e instanceof SVGElement)) continue;
        if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
        if (['TITLE', 'DESC', 'SCRIPT'].includes(e.tagName.toUpperCase())) continue;
        const s = getComputedStyle(e), ink = e instanceof SVGElement ? s.fill : s.color;
        const [a, b] = [light(ink), light(under(e))].sort((x, y) => y - x);
        if ((a + 0.05) / (b + 0.05) < 4.5) low.push(`${e.tagName} ${e.getAttribute('class')} ${ink} ${under(e)}`);
      }
      return [...new Set(low)]; })()"""
    for dark in (False, True):
        for file in ("index.html", "rows/d4rl-embedded-quick-window-row-3.html"):
            browser.open((site / file).as_uri(), dark=dark)
            assert browser.ask(measure) == []


def test_a_page_fits_a_phone(browser: Browser, site: Path) -> None:
    for file in ("index.html", "rows/d4rl-embedded-quick-window-row-3.html"):
        browser.open((site / file).as_uri(), PHONE)
        assert browser.ask("innerWidth") == 360
        browser.ask("document.querySelectorAll('details').forEach(e => { e.open = true; })")
        assert browser.ask("document.documentElement.scrollWidth") == 360
        wide = """Array.from(document.querySelectorAll('body *'))
          .filter(e => e.offsetParent && !e.closest('.scroll, svg, pre') && !e.matches('.skip, .unseen'))
          .filter(e => e.getBoundingClientRect().right > 360.5).map(e => e.outerHTML.slice(0, 80))"""
        assert browser.ask(wide) == []
        small = """Array.from(document.querySelectorAll('a, button, input, summary')).filter(e => e.offsetParent)
          .map(e => [Math.round(e.getBoundingClientRect().height), e.outerHTML.slice(0, 80)]).filter(([h]) => h < 32)"""
        assert browser.ask(small) == []
    browser.open(index(site), PHONE)
    box = "document.querySelector('.section.shown .scroll')"
    assert browser.ask(f"{box}.scrollWidth > {box}.clientWidth")
    browser.ask(f"{box}.scrollLeft = 300")
    first = "document.querySelector('.section.shown tbody.rows th').getBoundingClientRect().left"
    assert browser.ask(first) == pytest.approx(browser.ask(f"{box}.getBoundingClientRect().left"), abs=2)


def test_the_first_scores_are_on_the_first_screen(browser: Browser, site: Path) -> None:
    for size in (PHONE, DESKTOP):
        browser.open(index(site), size)
        row = "document.querySelector('.section.shown tbody.rows tr').getBoundingClientRect()"
        assert browser.ask(f"{row}.bottom") <= size[1]
        browser.open((site / "rows" / "d4rl-embedded-quick-window-row-0.html").as_uri(), size)
        assert browser.ask("document.querySelector('.scroll tbody tr').getBoundingClientRect().bottom") <= size[1]


def test_the_keyboard_reaches_everything(browser: Browser, site: Path) -> None:
    browser.open(index(site))
    name = "(e => e.id || e.className || e.name || e.innerText)(document.activeElement)"
    browser.key("Tab")
    assert browser.ask(name) == "skip"
    assert browser.ask("document.activeElement.getBoundingClientRect().top") >= 0
    browser.key("Enter")
    assert browser.ask("document.activeElement.id") == "main"
    assert browser.ask("location.hash") == ""
    browser.open(index(site))
    wanted = """(() => { const seen = Array.from(document.querySelectorAll('a, button, input, summary, [tabindex="0"]'))
      .filter(e => e.offsetParent && (e.type !== 'radio' || e.checked))
      .filter(e => !e.closest('details:not([open]) > :not(summary)'));
      window.wanted = seen; return seen.length; })()"""
    count = browser.ask(wanted)
    assert count > 40
    order = []
    for _ in range(count):
        browser.key("Tab")
        order.append(browser.ask("window.wanted.indexOf(document.activeElement)"))
        assert browser.ask("getComputedStyle(document.activeElement.closest('label')?.querySelector('span')"
                           " ?? document.activeElement).outlineStyle") == "solid"  # fmt: skip
    assert order == list(range(count))  # in the order of the page


def test_without_a_script_everything_is_there(browser: Browser, site: Path) -> None:
    browser.open(index(site), script=False)
    assert browser.ask(SHOWN) == [
        "d4rl-embedded-quick-window",
        "d4rl-embedded-quick-recurrent",
        "atari-embedded-quick-window",
    ]
    assert browser.ask("document.querySelectorAll('svg.plot').length") == 29 + 29 + 19
    assert browser.ask("document.querySelectorAll('th button:enabled').length") == 0  # nothing to press in vain
    for gone in ("#theme", "#switches", ".controls"):
        assert browser.ask(f"document.querySelector('{gone}').offsetHeight") == 0
    assert browser.ask("document.querySelector('.contents a').offsetHeight") > 0
    browser.open(index(site))
    assert browser.ask("document.querySelector('#theme').offsetHeight") > 0


def test_a_command_is_copied_and_a_record_opens(browser: Browser, site: Path) -> None:
    page = (site / "rows" / "d4rl-embedded-quick-window-row-0.html").as_uri()
    key = "d4rl-embedded-quick-window-0.hopper-medium.s1.0a1b2c3d"
    browser.open(f"{page}#record-{key}")
    record = f"document.getElementById('record-{key}')"
    assert browser.ask(f"{record}.open") is True
    assert browser.ask("document.querySelectorAll('details.record[open]').length") == 1
    browser.ask(f"{record}.querySelector('.copy').click()")
    browser.ask("new Promise(done => setTimeout(done, 100))")
    assert browser.ask(f"{record}.querySelector('.copy').innerText") in ("Copied", "Selected")
    browser.open(page)
    browser.open(browser.ask("document.querySelector('.trail a').href"))
    assert browser.ask(SHOWN) == ["d4rl-embedded-quick-window"]


def test_screenshots_are_not_blank(browser: Browser, site: Path, tmp_path: Path) -> None:
    for size in (DESKTOP, PHONE):
        browser.open(index(site), size)
        path = tmp_path / f"{size[0]}.png"
        browser.picture(path)
        assert path.read_bytes().startswith(b"\x89PNG")
        assert path.stat().st_size > 100_000


def test_a_plot_is_saved_as_an_svg_of_its_own_with_its_legend(browser: Browser, site: Path, tmp_path: Path) -> None:
    browser.open(index(site))
    browser.ask("URL.createObjectURL = (blob) => { window.blob = blob; return 'data:,'; }; 1")
    browser.ask("document.querySelector('.section.shown .shot button').click(); window.blob.type")
    text = browser.ask("window.blob.text()")
    plot = ElementTree.fromstring(text)
    words = [one.text for one in plot.iter() if one.tag.endswith("text")]
    assert words[0] == browser.ask("document.querySelector('.section.shown .plot .hd').textContent")
    assert {"gloma", "transformer", "mamba"} <= set(words)
    assert "class=" not in text
    assert "var(" not in text
    (tmp_path / "plot.svg").write_text(text, encoding="utf-8")
    browser.open((tmp_path / "plot.svg").as_uri())
    assert browser.complaints() == []


def test_printing_a_plot_shows_it_and_the_legend_alone(browser: Browser, site: Path) -> None:
    browser.open(index(site))
    browser.call("Emulation.setEmulatedMedia", media="print")
    seen = "Array.from(document.querySelectorAll('.plot'), one => getComputedStyle(one).visibility)"
    browser.ask(f"window.print = () => {{ window.seen = {seen}; }}; 1")
    browser.ask("document.querySelectorAll('.section.shown .shot button')[1].click(); 1")
    during = browser.ask("window.seen")
    browser.call("Emulation.setEmulatedMedia", media="")
    assert during[0] == "visible"
    assert set(during[1:]) == {"hidden"}
    assert set(browser.ask(seen)) == {"visible"}
