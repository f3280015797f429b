"""The page in a real Chromium: looked at, filtered, sorted, printed, checked by axe-core.

Needs Debian's chromium and chromium-driver, and axe-core below build/axe (see the Makefile).
Screenshots and the printed page are left in build/screenshots to be looked at, but on CI.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/unit"))

import conversation_samples  # noqa: E402
import report_hostile  # noqa: E402
import report_proofs  # noqa: E402
import report_samples as samples  # noqa: E402

from remedies.operations.report import compared  # noqa: E402
from remedies.report import load, sheet  # noqa: E402
from remedies.report.record import Report  # noqa: E402
from remedies.report.redact import fit  # noqa: E402
from remedies.values import replace  # noqa: E402

AXE = ROOT / "build/axe/node_modules/axe-core/axe.min.js"
SHOTS = ROOT / "build/screenshots"
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


class Browser:
    """One Chromium with a fresh profile, and what it logs."""

    def __init__(self, profile: Path) -> None:
        program, driver = shutil.which("chromium"), shutil.which("chromedriver")
        assert program, "apt-get install chromium"
        assert driver, "apt-get install chromium-driver"
        options = webdriver.ChromeOptions()
        options.binary_location = program
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(driver))
        self.driver.set_page_load_timeout(300)
        self.driver.set_script_timeout(120)
        self.driver.get("about:blank")
        self.requests()  # those of its own start page

    def command(self, name: str, **arguments: Any) -> Any:
        return self.driver.execute_cdp_cmd(name, arguments)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def open(self, page: Path, width: int = 1280, scheme: str = "light") -> None:
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=width < 500,
        )
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.command("Emulation.setEmulatedMedia", media="", features=[feature])
        self.driver.get(page.as_uri())

    def requests(self) -> list[str]:
        """Return the addresses that were asked for since the last call."""
        messages = [json.loads(entry["message"])["message"] for entry in self._log("performance")]
        return [
            m["params"]["request"]["url"]
            for m in messages
            if m["method"] == "Network.requestWillBeSent"
        ]

    def complaints(self) -> list[str]:
        return [entry["message"] for entry in self._log("browser")]

    def keep(self, name: str, width: int) -> None:
        """Draw the page into a file, to be looked at."""
        height = min(6000, self.run("return document.documentElement.scrollHeight"))
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        shot = self.command("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        SHOTS.mkdir(parents=True, exist_ok=True)
        (SHOTS / name).write_bytes(base64.b64decode(shot["data"]))

    def _log(self, name: str) -> list[dict[str, str]]:
        log: Any = self.driver.get_log
        entries: list[dict[str, str]] = log(name)
        return entries

    def shown(self, selector: str) -> int:
        every = "[...document.querySelectorAll(arguments[0])]"
        return int(self.run(f"return {every}.filter(e => e.checkVisibility()).length", selector))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("profile"))
    try:
        yield browser
    finally:
        browser.driver.quit()
        browser.driver.service.stop()


def page(folder: Path, report: Report) -> Path:
    path = folder / "report.html"
    path.write_text("".join(load("html").render(fit(report))), encoding="utf-8")
    return path


PAGES = {
    "host": samples.full(),
    "proofs": report_proofs.proofs(),
    "fleet": compared(samples.fleet(100), samples.fleet(40)),
    "markup": samples.poisoned(samples.MARKUP),
    "long": samples.poisoned(samples.LONG),
    "breakers": samples.poisoned(samples.BREAKERS),
}


# A scheme is colours alone: what fits in one fits in the other.
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_quiet_fits_and_asks_for_nothing(
    browser: Browser, tmp_path: Path, name: str, width: int, scheme: str
) -> None:
    path = page(tmp_path, PAGES[name])
    browser.open(path, width, scheme)
    assert browser.complaints() == []
    assert {url for url in browser.requests() if not url.startswith("data:")} == {path.as_uri()}
    assert browser.run("return document.documentElement.scrollWidth <= innerWidth")
    assert browser.run("return document.images.length") == 0
    if os.environ.get("CI") != "true":  # nobody looks at them there
        browser.keep(f"{name}-{width}-{scheme}.png", width)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["host", "proofs", "fleet"])
def test_axe_finds_no_serious_violation(
    browser: Browser, tmp_path: Path, name: str, scheme: str
) -> None:
    assert AXE.exists(), "npm install --prefix build/axe axe-core"
    report = samples.fleet(20) if name == "fleet" else PAGES[name]
    browser.open(page(tmp_path, report), 1280, scheme)
    # A scheme is colours alone: whatever else is wrong is so in each.
    rules = {} if scheme == "light" else {"runOnly": ["color-contrast"]}
    browser.run("for (const details of document.querySelectorAll('details')) details.open = true")
    browser.run(AXE.read_text(encoding="utf-8"))
    found = browser.driver.execute_async_script(
        "const [rules, done] = arguments;"
        "axe.run(rules).then(done, error => done({error: String(error)}));",
        rules,
    )
    assert "error" not in found
    assert {"color-contrast"} <= {passed["id"] for passed in found["passes"]}
    said = [
        (v["id"], v["impact"], v["nodes"][0]["html"][:200], v["nodes"][0]["failureSummary"])
        for v in found["violations"]
    ]
    assert [v for v in said if v[1] in ("serious", "critical")] == []


OUTSIDE = """
return [...document.querySelectorAll("svg.picture")].flatMap((picture) =>
  [...picture.querySelectorAll("rect.stop")].flatMap((box, n) => {
    const own = box.getBBox();
    return [...picture.querySelectorAll(".stop-title, .stop-line, .dies")].filter((text) => {
      const its = text.getBBox();
      return its.y + its.height / 2 > own.y && its.y + its.height / 2 < own.y + own.height
        && (its.x < own.x || its.x + its.width > own.x + own.width
          || its.y < own.y || its.y + its.height > own.y + own.height);
    }).map((text) => text.textContent);
  }))
"""
OVERLAP = """
return [...document.querySelectorAll("svg.picture .dies")].filter((mark) => {
  const title = mark.previousElementSibling.getBBox();
  return title.x + title.width > mark.getBBox().x;
}).map((mark) => mark.previousElementSibling.textContent)
"""


@pytest.mark.parametrize("name", ["proofs", "markup", "long", "breakers"])
def test_every_text_of_a_picture_lies_in_its_box(
    browser: Browser, tmp_path: Path, name: str
) -> None:
    browser.open(page(tmp_path, PAGES[name]))
    pictures = browser.run("return document.querySelectorAll('svg.picture rect.stop').length")
    assert pictures > (50 if name == "proofs" else 1)
    assert browser.run(OUTSIDE) == []
    assert browser.run(OVERLAP) == []


def test_findings_are_filtered_by_word_and_outcome(browser: Browser, tmp_path: Path) -> None:
    browser.open(page(tmp_path, samples.full()))
    assert browser.shown("#findings [data-outcome]") == 7
    words = browser.driver.find_element(By.CSS_SELECTOR, "#findings input[name=words]")
    words.send_keys("docker0 reset")
    assert browser.shown("#findings article") == 1
    assert browser.driver.find_element(By.CSS_SELECTOR, "#findings output").text == "1 of 7 shown"
    words.clear()
    words.send_keys(" ")
    outcome = browser.driver.find_element(By.CSS_SELECTOR, "#findings select[name=outcome]")
    outcome.send_keys("waived")
    assert browser.shown("#findings [data-outcome]") == 1
    assert browser.shown("#findings .group") == 1


def test_the_matrix_is_filtered_and_sorted(browser: Browser, tmp_path: Path) -> None:
    path = page(tmp_path, samples.fleet(1000))
    browser.requests()  # those of the tests before
    browser.open(path)
    assert browser.complaints() == []
    assert {url for url in browser.requests() if not url.startswith("data:")} == {path.as_uri()}
    assert browser.run("return document.querySelectorAll('#matrix tbody tr').length") == 1001
    browser.driver.find_element(By.CSS_SELECTOR, "#fleet input[name=words]").send_keys("edge-0999")
    assert browser.shown("#matrix tbody tr") == 1
    words = browser.driver.find_element(By.CSS_SELECTOR, "#fleet input[name=words]")
    words.clear()
    words.send_keys(" ")
    outcome = browser.driver.find_element(By.CSS_SELECTOR, "#fleet select[name=outcome]")
    outcome.send_keys("unreached")
    assert browser.shown("#matrix tbody tr") == 1
    assert browser.shown("#matrix tbody td[colspan]") == 1
    outcome.send_keys("any")
    head = browser.driver.find_element(By.CSS_SELECTOR, "#matrix thead th")
    button = head.find_element(By.TAG_NAME, "button")
    first = "return document.querySelector('#matrix tbody th').textContent"
    button.click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert browser.run(first) == "edge-0000.example.net"
    button.click()
    assert head.get_attribute("aria-sort") == "descending"
    assert browser.run(first) == "edge-9999.example.net"


def test_the_page_reads_without_script(browser: Browser, tmp_path: Path) -> None:
    browser.command("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(page(tmp_path, samples.full()))
        assert browser.shown("form.tools") == 0
        assert browser.shown("#findings article") == 5
        assert browser.shown("th button") == 0
        assert browser.shown("svg.picture") == 5
    finally:
        browser.command("Emulation.setScriptExecutionDisabled", value=False)


def test_nothing_a_host_says_runs_even_if_it_were_not_escaped(
    browser: Browser, tmp_path: Path
) -> None:
    path = page(tmp_path, samples.full())
    attack = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
    path.write_text(path.read_text().replace("tcp through NAT", attack))
    browser.open(path)
    assert browser.driver.title != "owned"
    assert any("Content Security Policy" in said for said in browser.complaints())


def test_no_text_in_any_field_runs_loads_or_draws_a_complaint(
    browser: Browser, tmp_path: Path
) -> None:
    browser.requests()  # those of the tests before
    for value in report_hostile.VALUES:
        path = page(tmp_path, report_hostile.poisoned(value))
        browser.open(path)
        assert browser.complaints() == []
        asked = {url for url in browser.requests() if not url.startswith("data:")}
        assert asked == {path.as_uri()}
        assert browser.run("return document.images.length") == 0
        assert browser.driver.title.startswith("Audit report: ")


def test_the_page_prints_with_everything_on_paper(browser: Browser, tmp_path: Path) -> None:
    browser.open(page(tmp_path, samples.full()))
    pdf = base64.b64decode(
        browser.command("Page.printToPDF", preferCSSPageSize=True, printBackground=True)["data"]
    )
    assert pdf.startswith(b"%PDF")
    SHOTS.mkdir(parents=True, exist_ok=True)
    (SHOTS / "host.pdf").write_bytes(pdf)
    assert browser.run("return [...document.querySelectorAll('details')].every(d => d.open)")
    assert browser.run("return document.querySelectorAll('th button').length") > 5, "put back"


def test_twenty_five_thousand_transactions_open_and_scroll(
    browser: Browser, tmp_path: Path
) -> None:
    deeds = tuple(replace(samples.DEED, id=f"{samples.DEED.id}-{i}") for i in range(25_000))
    report = replace(samples.full(), hosts=(replace(samples.HOST, deeds=deeds),))
    browser.open(page(tmp_path, report))
    assert browser.run("return document.querySelectorAll('#deeds tbody tr').length") == 25_000
    box = "const box = document.querySelector('#deeds').closest('.wide');"
    bottom = browser.run(f"{box} box.scrollTop = box.scrollHeight; return box.scrollTop")
    assert bottom > 500_000
    words = browser.driver.find_element(By.CSS_SELECTOR, "#transactions input[name=words]")
    words.send_keys("-24999")
    assert browser.run("return document.querySelector('#transactions output').textContent") == (
        "1 of 25000 shown"
    )


@pytest.mark.parametrize("text", [samples.MARKUP, samples.LONG])
@pytest.mark.parametrize("kind", ["svg", "html"])
def test_the_picture_of_a_conversation_fits_and_runs_nothing(
    browser: Browser, tmp_path: Path, kind: str, text: str
) -> None:
    drawn = conversation_samples.hostile(text)
    path = tmp_path / f"picture.{kind}"
    path.write_text("".join(getattr(sheet, kind)(*drawn)), encoding="utf-8")
    browser.requests()  # those of tests before
    browser.open(path)
    assert browser.complaints() == []
    assert {url for url in browser.requests() if not url.startswith("data:")} == {path.as_uri()}
    assert browser.run("return document.querySelectorAll('svg rect.stop').length") >= 4
    assert browser.run(OUTSIDE) == []
    assert browser.run(OVERLAP) == []
    right = "[...document.querySelectorAll('text.told')].map(e => e.getBBox())"
    widest = browser.run(f"return Math.max(0, ...{right}.map(b => b.x + b.width))")
    assert widest <= browser.run("return document.documentElement.getBoundingClientRect().width")
