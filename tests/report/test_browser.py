"""The pages in a real browser, opened as files: keyboard, phone, paper. Skipped where there is no Chromium."""

import base64
import contextlib
import shutil
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pages import NASTY, row, story

from pellucid.report.group import group_page
from pellucid.report.progress import Finished, Progress, Running, progress_page
from pellucid.report.story import ScanStory
from pellucid.report.subject import subject_page

FOLDER = "sub 01 50% ü?"
"""A folder whose name an address must not take apart."""
DESKTOP, PHONE = (1200, 900), (375, 800)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    selenium = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    steering = shutil.which("chromedriver")
    if chromium is None or steering is None:
        pytest.skip("needs chromium and chromedriver (Debian: chromium, chromium-driver)")
    from selenium.webdriver.chrome.service import Service

    options = selenium.ChromeOptions()
    options.binary_location = chromium
    # No sandbox: continuous integration often runs as root in a container; the pages are our own.
    for word in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--hide-scrollbars",
    ):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = selenium.Chrome(options=options, service=Service(steering))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    scans = [
        story(title=f"sub-01 {NASTY}", quality_before={"snr": 5.0}, quality_after={"snr": 6.0}),
        story(title="sub-01 T2w", same_contrast=False, after_name="synthetic T1w"),
        ScanStory(title="sub-01 FLAIR", failure=NASTY),
    ]
    rows = [row(number, site=("a", NASTY)[number % 2]) for number in range(30)]
    rows[4] = {"participant": "sub-0004", "failure": NASTY, "suffix": "T1w"}
    rows[6] = row(6, age_years=3.5)
    rows[8] = row(8, page=f"{FOLDER}/subject.html#scan-2")
    texts = {"subject": subject_page(scans, group=rows, title=NASTY), "group": group_page(rows, title=NASTY)}
    now = datetime.now().astimezone()
    texts |= {"progress": run_page(now), "dead": run_page(now - timedelta(hours=3))}
    paths = {name: folder / f"{name}.html" for name in texts}
    (folder / FOLDER).mkdir()
    (folder / FOLDER / "subject.html").write_text(texts["subject"], encoding="utf-8")
    for name, text in texts.items():
        paths[name].write_text(text, encoding="utf-8")
    return paths


def run_page(written: datetime) -> str:
    """A run as it was at a time: something runs, something failed."""
    names = [f"sub-{number:03}_ses-{NASTY}_T1w" for number in range(20)]
    finished = [
        Finished(name, ("ok", "failed")[number % 2], 61.0, NASTY) for number, name in enumerate(names)
    ]
    running = [Running(name, 5000.0, "node7, process 3", NASTY, tries=2) for name in names[:3]]
    return progress_page(
        Progress(
            title=NASTY,
            phase="working",
            how=NASTY,
            command=NASTY,
            began=written - timedelta(minutes=70),
            written=written,
            total=99,
            waiting=70,
            queued=6,
            running=running,
            finished=finished,
            left_seconds=1e4,
        )
    )


def show(browser: Any, page: Path, size: tuple[int, int]) -> None:
    """Open a page in a window of a size, as it is on a screen or a phone."""
    width, height = size
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get(page.as_uri())


def split(browser: Any) -> str:
    """Where the border of the first comparison is."""
    figure = "document.querySelector('.compare')"
    return str(browser.execute_script(f"return getComputedStyle({figure}).getPropertyValue('--split')"))


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("name", ["subject", "group", "progress"])
def test_nothing_is_wider_than_the_window(
    browser: Any, pages: dict[str, Path], name: str, size: tuple[int, int]
) -> None:
    show(browser, pages[name], size)
    wide = browser.execute_script(
        "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert wide == [size[0], size[0]]
    # What is wider than the window is in a box of its own that scrolls.
    outside = browser.execute_script(
        "return [...document.querySelectorAll('main *')].filter(e => !e.closest('.scroll, pre, details') && "
        "e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"
    )
    assert outside == []


@pytest.mark.parametrize("name", ["subject", "group", "progress"])
def test_no_script_or_policy_complains_and_nothing_ran_that_should_not(
    browser: Any, pages: dict[str, Path], name: str
) -> None:
    browser.get_log("browser")
    show(browser, pages[name], DESKTOP)
    assert browser.get_log("browser") == []
    loaded = browser.execute_script(
        "return performance.getEntriesByType('resource').map(e => e.name.slice(0, 5))"
    )
    assert set(loaded) <= {"data:"}
    assert browser.execute_script("return [...document.images].every(i => i.complete && i.naturalWidth > 0)")


def test_the_border_moves_by_keyboard_and_says_where_it_is(browser: Any, pages: dict[str, Path]) -> None:
    from selenium.webdriver.common.keys import Keys

    show(browser, pages["subject"], DESKTOP)
    slider = browser.find_element("css selector", ".compare input")
    second = "return getComputedStyle(document.querySelectorAll('.pair img')[1]).clipPath"
    assert split(browser) == "50%"
    half = browser.execute_script(second)
    slider.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert split(browser) == "52%"
    assert browser.execute_script(second) != half
    slider.send_keys(Keys.HOME)
    assert split(browser) == "0%"
    assert slider.get_attribute("aria-valuetext") == "0 % before, the rest enhanced"
    slider.send_keys(Keys.END)
    assert split(browser) == "100%"
    others = browser.find_elements("css selector", ".compare input")
    assert others[1].get_attribute("value") == "50"


def test_the_slider_is_reached_by_the_tab_key_and_has_a_name(browser: Any, pages: dict[str, Path]) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    show(browser, pages["subject"], DESKTOP)
    for _ in range(12):
        ActionChains(browser).send_keys(Keys.TAB).perform()
        focused = browser.switch_to.active_element
        if focused.tag_name == "input":
            break
    assert focused.tag_name == "input"
    assert focused.accessible_name.startswith("Move the border between before and enhanced")
    assert browser.execute_script("return getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_without_scripts_both_images_stand_side_by_side(browser: Any, pages: dict[str, Path]) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        show(browser, pages["subject"], DESKTOP)
        first, second = (image.rect for image in browser.find_elements("css selector", ".pair img")[:2])
        assert not browser.find_element("css selector", ".slider").is_displayed()
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert second["x"] >= first["x"] + first["width"]
    assert second["y"] == first["y"]


def test_the_table_sorts_by_numbers_with_missing_ones_last_both_ways(
    browser: Any, pages: dict[str, Path]
) -> None:
    from selenium.webdriver.common.keys import Keys

    show(browser, pages["group"], DESKTOP)
    button = browser.find_elements("css selector", ".sort")[5]
    assert button.text == "Age, years"
    ages = "return [...document.querySelectorAll('#scans tbody tr')].map(r => r.cells[5].textContent)"
    button.send_keys(Keys.ENTER)
    up = browser.execute_script(ages)
    button.send_keys(Keys.SPACE)
    down = browser.execute_script(ages)
    assert up[:2] == ["3.5", "20"] and up[-1] == ""
    assert down[0] == "49" and down[-2:] == ["3.5", ""]
    head = browser.find_elements("css selector", "#scans th[aria-sort='descending']")
    assert [one.text for one in head] == ["Age, years"]


def test_a_link_leads_to_the_scan_on_the_subject_s_page(browser: Any, pages: dict[str, Path]) -> None:
    show(browser, pages["group"], DESKTOP)
    browser.find_element("link text", "sub-0008 T1w").click()
    assert browser.current_url.endswith("/subject.html#scan-2")
    assert browser.find_element("css selector", ":target").text.startswith("sub-01 T2w")


def test_words_choose_rows(browser: Any, pages: dict[str, Path]) -> None:
    show(browser, pages["group"], DESKTOP)
    browser.find_element("css selector", ".filter input").send_keys("SUB-001")
    shown = browser.execute_script(
        "return [...document.querySelectorAll('#scans tbody tr')].filter(r => !r.hidden).length"
    )
    assert shown == 10


def test_a_page_of_a_run_that_was_killed_says_so(browser: Any, pages: dict[str, Path]) -> None:
    note = "return document.querySelector('[data-written]')"
    show(browser, pages["progress"], DESKTOP)
    assert not browser.execute_script(note).is_displayed()
    show(browser, pages["dead"], DESKTOP)
    assert browser.execute_script(note).text.startswith(
        "This page was not written for 3 h. The run was killed"
    )


def test_a_page_of_a_run_is_read_again_by_itself(browser: Any, pages: dict[str, Path]) -> None:
    first = pages["progress"].read_text(encoding="utf-8")
    quick = pages["progress"].with_name("quick.html")
    quick.write_text(first.replace('http-equiv="refresh" content="10"', 'http-equiv="refresh" content="1"'))
    show(browser, quick, DESKTOP)
    quick.write_text(quick.read_text().replace("20 of 99 scans", "21 of 99 scans"))
    from selenium.common.exceptions import WebDriverException

    for _ in range(100):
        time.sleep(0.1)
        # Between two readings there is no page.
        with contextlib.suppress(WebDriverException):
            if "21 of 99 scans" in browser.find_element("css selector", ".lead").text:
                return
    pytest.fail("the page was not read again")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_by_day_and_night(browser: Any, pages: dict[str, Path], scheme: str) -> None:
    """Contrast of text against its ground by WCAG 2.1: at least 4.5."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    show(browser, pages["subject"], DESKTOP)
    colors = browser.execute_script(
        "const of = (s, k) => getComputedStyle(document.querySelector(s))[k];"
        "return [of('body', 'backgroundColor'), of('body', 'color'), of('.plane > p', 'color'), of('nav a', 'color'),"
        "of('.look', 'color'), of('.do-not-use', 'color')]"
    )
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    ground, *inks = (luminance(color) for color in colors)
    assert (ground > 0.5) == (scheme == "light")
    assert all((max(ground, ink) + 0.05) / (min(ground, ink) + 0.05) >= 4.5 for ink in inks)


def luminance(color: str) -> float:
    """Relative luminance of "rgb(r, g, b)"."""
    parts = [int(part) / 255 for part in color.removeprefix("rgb(").removesuffix(")").split(",")]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_paper_shows_both_images_and_no_controls(browser: Any, pages: dict[str, Path]) -> None:
    show(browser, pages["subject"], DESKTOP)
    printed = browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": False})
    assert base64.b64decode(printed["data"]).startswith(b"%PDF")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    first, second = (image.rect for image in browser.find_elements("css selector", ".pair img")[:2])
    assert second["x"] >= first["x"] + first["width"]
    assert not browser.find_element("css selector", ".slider").is_displayed()
    assert not browser.find_element("css selector", "details").is_displayed()
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
