"""Pages opened in a real browser that has no network."""

import html
import json
import pathlib
import re
import shutil
import subprocess
from typing import Any

import pytest

# anything that goes wrong is written down from the start
LISTEN = """<script>
const wrong = [];
addEventListener("error", event => wrong.push(event.message));
addEventListener("securitypolicyviolation", event => wrong.push(event.blockedURI));
console.error = console.warn = (...words) => wrong.push(words.join(" "));
</script>"""
WINDOW = (1140, 900)


def drive(page: pathlib.Path, script: str) -> None:
    """Adds to a page what writes down mistakes as `wrong`, and a script at its end that leaves a <pre id="result">."""
    text = page.read_text(encoding="utf-8")
    start, end = text.index("<title>"), text.rindex("</body>")  # code inside the page may have words like these too
    page.write_text(text[:start] + LISTEN + text[start:end] + script + text[end:], encoding="utf-8")


def dump(
    page: pathlib.Path, folder: pathlib.Path, milliseconds: int = 4000, window: tuple[int, int] = WINDOW
) -> tuple[str, list[str]]:
    """The DOM of a page after so long a time of its own, and what Chromium's console was told."""
    names = ("chromium", "chromium-browser", "google-chrome")
    browser = next(filter(None, map(shutil.which, names)), None)
    if browser is None:
        pytest.skip(f"no browser to open the page with: none of {', '.join(names)} is installed")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]
    flags += [f"--virtual-time-budget={milliseconds}", f"--user-data-dir={folder / 'profile'}"]
    flags += [f"--window-size={window[0]},{window[1]}", "--host-resolver-rules=MAP * ~NOTFOUND"]
    done = subprocess.run([browser, *flags, page.as_uri()], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def result_of(dom: str) -> Any:
    """What the script of `drive` left."""
    return json.loads(html.unescape(re.search(r'<pre id="result">(.*)</pre>', dom, re.DOTALL)[1]))
