"""Films the README's moving picture, light and dark: `python -m benchmarks.moving_picture`.

A real run in a real browser: candidates appear with their scores, the anchor is picked, NI-VSDS sets it in
motion, and the videos before and after play in step.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page

from i4vgen.bundled import EXAMPLES
from i4vgen.studio.examples import read_examples
from tests.support.browsing import quiet_page, running_app, running_browser

FOLDER = Path(__file__).resolve().parents[1] / "assets" / "screenshots"
VIEWPORT = {"width": 1440, "height": 900}
SIZE = (960, 600)
"""Pixels of the picture."""

THEMES = ("light", "dark")
CANDIDATES = 8
PATIENCE = 300_000
"""Milliseconds for a run of the model."""

STEP = 150
"""Milliseconds that a frame of work in progress is shown."""

HOLD = 1200
"""Milliseconds that a state is shown which has to be read."""

MAX_STEPS = 14
"""The number of frames that show one stage at work."""

LOOPS = 2
"""How often the videos play."""

Film = list[tuple[Image.Image, int]]
"""Frames and the milliseconds that each is shown."""


def shoot(page: Page) -> Image.Image:
    """Returns what the window shows."""
    picture = Image.open(io.BytesIO(page.screenshot()))
    return picture.convert("RGB").resize(SIZE, Image.Resampling.LANCZOS)


def bring(page: Page, selector: str) -> None:
    """Scrolls a part of the page to the top of the window."""
    page.locator(selector).evaluate(
        "part => window.scrollTo(0, part.getBoundingClientRect().top + scrollY - 12)"
    )
    page.wait_for_timeout(150)  # transitions


def shoot_until(page: Page, words: str, panel: str) -> Iterator[Image.Image]:
    """Yields the window with this panel at its top again and again, until the page shows these words."""
    done = page.get_by_text(words).first
    while not done.is_visible():
        bring(page, panel)
        yield shoot(page)
        assert not page.get_by_text("interrupted").first.is_visible(), "the run failed"


def thin_out(frames: Iterator[Image.Image]) -> Film:
    """Returns different frames only, evenly chosen."""
    changed: list[Image.Image] = []
    for frame in frames:
        if not changed or frame.tobytes() != changed[-1].tobytes():
            changed.append(frame)
    count = min(MAX_STEPS, len(changed))
    return [(changed[i * (len(changed) - 1) // max(1, count - 1)], STEP) for i in range(count)]


def film(page: Page, prompt: str) -> Film:
    """Walks through one run."""
    candidates = page.get_by_label("number input for Candidates")
    candidates.fill(str(CANDIDATES))
    candidates.press("Tab")
    page.get_by_label("Prompt", exact=True).fill(prompt)
    page.get_by_label("Prompt", exact=True).blur()
    bring(page, "#masthead")
    frames: Film = [(shoot(page), HOLD)]

    page.locator("#generate").click()
    page.get_by_text("step ").first.wait_for(timeout=PATIENCE)
    bring(page, "#choose")
    frames += thin_out(shoot_until(page, "candidates in", "#choose"))
    frames += [(shoot(page), HOLD)]
    best = page.locator("#gallery button.thumbnail-lg").filter(has_text="✓")
    other = page.locator("#gallery button.thumbnail-lg").filter(has_not_text="✓").first
    other.click()
    page.get_by_text("your pick").wait_for()
    frames += [(shoot(page), HOLD // 2)]
    page.locator("#back").click()
    page.get_by_text("highest reward").first.wait_for()
    best.hover()
    frames += [(shoot(page), HOLD // 2)]

    page.locator("#animate").click()
    page.locator("#live").get_by_text("NI-VSDS").first.wait_for(timeout=PATIENCE)
    bring(page, "#watch")
    frames += thin_out(shoot_until(page, "Done in", "#watch"))
    page.locator("#player video").nth(1).wait_for(state="attached")
    bring(page, "#watch")
    scrub = page.locator("#player .scrub")
    last = int(scrub.get_attribute("max") or 0)
    milliseconds = round(1000 / float(page.locator("#player .player").get_attribute("data-fps") or 8))
    played: Film = []
    for number in range(last + 1):
        scrub.fill(str(number))
        page.wait_for_function("[...document.querySelectorAll('#player video')].every(video => !video.seeking)")
        page.wait_for_timeout(150)
        played.append((shoot(page), milliseconds))
    return frames + LOOPS * played


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompt", help="default: that of the first of examples.json")
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--themes", nargs="+", choices=THEMES, default=THEMES)
    parser.add_argument("--out", type=Path, default=FOLDER)
    parser.add_argument("--quality", type=int, default=75)
    args = parser.parse_args()
    prompt = args.prompt or read_examples(EXAMPLES)[0].prompt
    with running_app("--model", args.model) as url, running_browser() as browser:
        for theme in args.themes:
            # Reduced motion: the player waits to be told each frame.
            options = {"viewport": VIEWPORT, "reduced_motion": "reduce"}
            with quiet_page(browser, f"{url}/?__theme={theme}", **options) as page:
                frames = film(page, prompt)
            path = args.out / f"film-{theme}.webp"
            (first, _), *rest = frames
            first.save(
                path,
                save_all=True,
                append_images=[frame for frame, _ in rest],
                duration=[milliseconds for _, milliseconds in frames],
                loop=0,
                quality=args.quality,
                method=6,
                minimize_size=True,
            )
            print(f"{path.name}: {len(frames)} frames, {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
