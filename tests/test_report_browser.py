"""The report in a real browser: the table is there, every picture has loaded, nothing is wider than the screen."""

import json
import re
import shutil
import subprocess

import pytest
from report_rows import rows

from pynn.report import render

pytest.importorskip("matplotlib", reason="the report extra (matplotlib) is not installed")

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium is installed")

ROWS = [row for row in rows() if row["question"] in ("2.4", "5.3", "6.2", "7.1")]

# Runs in the page that is tested, after it has loaded, and leaves what it saw in the title.
PROBE = """<script>
addEventListener("load", async () => {
  const images = [...document.images];
  await Promise.all(images.map(image => image.decode()));
  const drawings = [...document.querySelectorAll("figure > svg")];
  const box = element => element.getBoundingClientRect();
  const sized = element => box(element).width > 20 && box(element).height > 20;
  document.title = "PROBE" + JSON.stringify({
    rows: document.querySelectorAll("table.results tbody tr").length,
    questions: [...document.querySelectorAll("table.results tbody th")].map(head => head.textContent),
    images: images.length,
    loaded: images.filter(image => image.complete && image.naturalWidth > 0 && sized(image)).length,
    drawings: drawings.length,
    drawn: drawings.filter(svg => sized(svg) && svg.getBBox().width > 0).length,
    width: document.documentElement.scrollWidth,
    screen: innerWidth,
    outside: [...document.querySelectorAll("main *")].filter(
      element => box(element).right > innerWidth + 1 && !element.closest(".inside, svg")).length,
  }) + "PROBE";
});
</script></body>"""


def browse(page, profile, *arguments: str) -> str:
    command = [
        BROWSER,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--disable-sync",
        "--disable-component-update",
        "--disable-background-networking",
        "--no-first-run",
        "--hide-scrollbars",
        "--virtual-time-budget=600000",  # passes at once where nothing waits; drawing takes real time
        f"--user-data-dir={profile}",
        *arguments,
        page.as_uri(),
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=True).stdout


@pytest.fixture(scope="module")
def text():
    return render(ROWS)


@pytest.mark.parametrize("width", [1280, 400])
def test_browser_shows_the_table_and_every_picture(text, tmp_path, width):
    (tmp_path / "report.html").write_text(text.replace("</body>", PROBE), encoding="utf-8")
    frame = tmp_path / "frame.html"  # a window has a least width, a frame has none
    frame.write_text(
        f'<iframe src="report.html" style="border:0;width:{width}px;height:900px"></iframe>'
        '<script>addEventListener("load", () => { const timer = setInterval(() => {'
        'document.title = document.querySelector("iframe").contentDocument.title;'
        'if (document.title.startsWith("PROBE")) clearInterval(timer) }, 50) })</script>'
    )
    dom = browse(frame, tmp_path / "profile", "--allow-file-access-from-files", "--dump-dom")
    seen = json.loads(re.search(r"PROBE(.*?)PROBE", dom).group(1))
    assert seen["questions"] == [row["question"] for row in ROWS]
    assert seen["rows"] == len(ROWS)
    assert seen["loaded"] == seen["images"] == 88
    assert seen["drawn"] == seen["drawings"] == 15
    assert seen["screen"] == width
    assert seen["width"] <= width
    assert seen["outside"] == 0


def test_screenshot_is_not_blank(text, tmp_path):
    image = pytest.importorskip("PIL.Image")
    page, picture = tmp_path / "report.html", tmp_path / "page.png"
    page.write_text(text, encoding="utf-8")
    browse(page, tmp_path / "profile", "--window-size=1280,2400", f"--screenshot={picture}")
    with image.open(picture) as shown:
        assert shown.size == (1280, 2400)
        colours = shown.convert("RGB").getcolors(1 << 24)
    white = max(count for count, _ in colours) / (1280 * 2400)
    assert len(colours) > 200
    assert 0.5 < white < 0.98
