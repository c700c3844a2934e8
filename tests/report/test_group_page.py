import time
from typing import Any

import pytest
from pages import NASTY, read, row

from pellucid.report import charts
from pellucid.report.charts import MOST_GROUPS, cloud, plain, strip, swatches
from pellucid.report.group import group_page
from pellucid.report.html import safe_link
from pellucid.report.story import ScanStory
from pellucid.report.study import names_in, outliers, regarded, scan_row, title_of


def study(count: int) -> list[dict[str, object]]:
    """Scans of two sites, one failure, one brain that is far too small."""
    rows: list[dict[str, object]] = [row(number) for number in range(count)]
    rows[3] = {
        "participant": "sub-0003",
        "suffix": "T1w",
        "failure": "The file is cut off.",
        "page": "sub-0003.html",
    }
    rows[5] = row(5, volumes_ml={"GM": 100.0, "WM": 500.0})
    rows[7] = row(7, age_years=None, site=None)
    return rows


@pytest.fixture(scope="module")
def html() -> str:
    return group_page(study(30), title="Two sites")


def test_is_whole_and_loads_nothing(html: str) -> None:
    reader = read(html)
    assert [box["type"] for box in reader.all("input")] == ["search"]
    assert len(reader.all("button")) == 6 + 4
    assert len(html) < 1_000_000


def test_counts_verdicts_and_lists_failures_and_outliers_with_links(html: str) -> None:
    assert "30 results of 30 participants: 28 usable, 1 look, 1 do not use." in html
    assert html.count('<a href="./sub-0003.html">sub-0003 T1w</a>') == 2
    assert "The file is cut off." in html
    assert html.count('<a href="./sub-0005.html#scan-1">') == 2
    assert "The volume of gray matter is far from the others: 100 ml, where the median of 29 scans is" in html
    assert "1 scan without an age cannot be shown." in html


def test_draws_what_was_asked_for(html: str) -> None:
    for words in (
        "Quality after by site",
        "Volumes by site",
        "Quality before and after",
        "Volumes against age",
    ):
        assert f">{words}</h3>" in html
    assert "by scanner" not in html
    assert (
        html.count('<span class="swatch"') == 3 * 2
    )  # Kyōto, Utah, not known; under both galleries against age


def test_cells_sort_by_number_and_missing_ones_are_empty(html: str) -> None:
    assert 'data-key="24.0">24<' in html
    assert '<td class="value" data-key=""></td>' in html
    assert 'data-key="2"><span class="verdict do-not-use">' in html


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [{}],
        [row(1)],
        [row(1, age_years=None, volumes_ml=None, quality_after={}, verdict=None, page=None)],
        [
            {
                "participant": NASTY,
                "site": NASTY,
                "suffix": NASTY,
                "failure": NASTY,
                "page": f"javascript:{NASTY}",
            }
        ],
        [
            row(number, site=f"$site_{number}$ 脳", title=NASTY, page="//elsewhere/x.html")
            for number in range(20)
        ],
    ],
)
def test_any_study_has_a_page(rows: list[dict[str, object]]) -> None:
    html = group_page(rows, title=NASTY)
    read(html)
    assert "<script>alert" not in html
    assert 'href="javascript' not in html and 'href="//' not in html


def test_two_thousand_scans_are_still_one_page() -> None:
    rows = study(2000)
    start = time.perf_counter()
    html = group_page(rows)
    # Generous: seconds on a quiet machine; it must not grow with the square of the study.
    assert time.perf_counter() - start < 60
    assert len(html) < 6_000_000
    assert html.count("<tr>") > 2000


def test_being_far_out_makes_a_usable_scan_one_to_look_at_and_leaves_worse_alone() -> None:
    rows = study(30)
    far = [one.row for one in outliers(rows)]
    assert far == [5]
    judged = regarded([*rows[:6], {**rows[5], "verdict": "do not use", "reason": "No brain."}, *rows[6:]])
    assert judged[5]["verdict"] == "look"
    assert judged[5]["reason"].startswith("The volume of gray matter is far from the others")
    assert judged[6]["verdict"] == "do not use"
    assert judged[6]["reason"].startswith("No brain. The volume of gray matter is far")
    assert judged[3]["verdict"] == "do not use"
    assert regarded(judged) == judged
    assert rows[5]["verdict"] == "usable"


def test_the_row_of_a_story_is_plain_data() -> None:
    made = {"pipeline": "segment", "certainty": 0.65, "tissue_ml": {"GM": 600.0}}
    told = ScanStory(title="T1w", suffix="T1w", records=[made], quality_after={"snr": 5.0})
    found = scan_row(told, participant="sub-01", age_years=0.5, page="sub-01.html")
    assert found["verdict"] == "look" and "doubtful" in found["reason"]
    assert found["volumes_ml"] == {"GM": 600.0}
    assert found["quality_after"] == {"certainty": 0.65, "snr": 5.0}
    assert (found["participant"], found["age_years"], found["page"]) == ("sub-01", 0.5, "sub-01.html")


def test_known_numbers_come_first_and_empty_ones_not_at_all() -> None:
    rows = [{"quality_after": {"zzz": 1, "cjv": 2, "snr": 3, "efc": "n/a"}}]
    assert names_in(rows, "quality_after") == ["snr", "cjv", "zzz"]
    assert title_of("noise") == "Noise, %"


def test_links_stay_inside_the_folder() -> None:
    assert safe_link("a b/ü.html#scan-1") == "./a%20b/%C3%BC.html#scan-1"
    assert safe_link("//host/x") == "./host/x"
    assert safe_link("data:text/html,x") == "./data%3Atext/html%2Cx"
    assert safe_link("..\\x.html") == "./../x.html"


def test_charts_take_what_comes() -> None:
    groups = {f"site {number} {NASTY}": [float(number)] * (number + 1) for number in range(MOST_GROUPS + 5)}
    for png in (strip("A $title", groups), strip("none", {}), cloud("none", {}, across="age")):
        assert png.startswith(b"\x89PNG")
    assert plain("脳 \n site") == "? ? site"
    assert swatches(["only"]) == ()
    assert len({color for color, _ in swatches(["a", "b", "c"])}) == 3


def test_one_scan_far_out_does_not_press_the_others_into_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    panels: list[Any] = []
    png = charts._png
    monkeypatch.setattr(charts, "_png", lambda figure: panels.append(figure.axes[0]) or png(figure))
    values = [0.05 + 0.001 * number for number in range(12)]
    strip("CJV", {"a": values[:6], "b": [*values[6:], 0.4]})
    cloud("CJV", {"a": ([20.0] * 13, [*values, -3.0])}, across="age")
    up, down = panels
    assert up.get_ylim()[1] < 0.07 and [text.get_text() for text in up.texts] == ["0.4 "]
    assert down.get_ylim()[0] > 0.04 and [text.get_text() for text in down.texts] == ["-3 "]
    panels.clear()
    strip("CJV", {"a": values})
    strip("CJV", {"a": [*values[:5], 0.4]})
    strip("CJV", {"a": [0.5] * 12 + [0.9]})
    assert not any(panel.texts for panel in panels), "few, equal and ordinary values are drawn where they are"
    assert panels[1].get_ylim()[1] > 0.4 and panels[2].get_ylim()[1] > 0.9


def test_a_scan_that_is_far_in_many_numbers_is_named_once_with_all_of_them() -> None:
    rows = [row(number) for number in range(20)]
    rows[7] = row(7, quality_after={"snr": 1.0, "cjv": 9.0}, volumes_ml={"GM": 100.0, "WM": 520.0})
    html = group_page(rows)
    part = html[html.index('id="outliers"') : html.index('<section class="scan"')]
    assert part.count('href="./sub-0007.html#scan-1"') == 1
    for words in ("SNR is far", "CJV is far", "The volume of gray matter is far"):
        assert part.count(f"<li>{words} from the others") == 1
