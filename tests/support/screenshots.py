"""Pictures of every state of the app, for looking at: `python -m tests.support.screenshots [--url URL] [--out
screenshots]`.
"""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page

from tests.support.browsing import quiet_page, running_app, running_browser

WIDTHS = {1440: 900, 390: 844}
PATIENCE = 300_000  # milliseconds, for a run of the model


def shoot(page: Page, path: Path) -> None:
    """The whole page. Fails where it would scroll sideways."""
    page.wait_for_timeout(400)  # transitions
    page.screenshot(path=path, full_page=True)
    overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert overflow <= 0, f"{path.name}: {overflow} px wider than the screen"


def walk(page: Page, out: Path, name: str, picture: Path, only_start: bool) -> None:
    """One person's way through the app. picture: of one's own."""

    def shot(state: str) -> None:
        shoot(page, out / f"{name}-{state}.png")

    page.locator("#player video").first.wait_for(state="attached")
    page.locator("#report table").wait_for()
    shot("01-start")
    for panel in ("choose", "watch"):  # README's pictures
        page.locator(f"#{panel}").screenshot(path=out / f"{name}-{panel}.png")
    if only_start:
        return
    page.get_by_label("Prompt", exact=True).fill("a rocket rising next to a giraffe in a starry night")
    page.get_by_text("never seen").wait_for()
    page.get_by_role("button", name="Draw candidates").click()
    page.get_by_text("step ").first.wait_for()
    page.wait_for_timeout(1500)
    shot("02-drawing")
    page.get_by_text("candidates in").wait_for(timeout=PATIENCE)
    shot("03-candidates")
    page.locator("#gallery button.thumbnail-lg").filter(has_not_text="✓").first.click()
    page.get_by_text("your pick").wait_for()
    page.locator("#star").click()
    page.get_by_text("Starred").wait_for()
    for settings in ("Advanced settings", "Model and reward"):
        page.get_by_role("button", name=settings).click()
    shot("04-overruled")
    for settings in ("Advanced settings", "Model and reward"):
        page.get_by_role("button", name=settings).click()
    page.get_by_role("button", name="Use an image of my own").click()
    page.locator("#own-picture input[type=file]").set_input_files(picture)
    page.locator("#crop img").wait_for()
    shot("05-own-picture")
    page.get_by_role("button", name="Back to the best candidate").click()
    page.get_by_text("highest reward").first.wait_for()
    page.get_by_role("button", name="Use an image of my own").click()
    page.locator("#animate").click()
    page.locator("#live .trace").wait_for(timeout=PATIENCE)
    shot("06-animating")
    page.get_by_text("Done in").wait_for(timeout=PATIENCE)
    page.locator("#history img").first.wait_for(timeout=PATIENCE)
    shot("07-side-by-side")
    page.get_by_role("button", name="Wipe").click()
    shot("08-wipe")
    page.get_by_role("button", name="Grid").click()
    shot("09-grid")
    page.get_by_role("button", name="Keyboard shortcuts").click()
    shot("10-help")
    page.keyboard.press("Escape")
    page.locator("#report thead button").first.focus()
    shot("11-meaning")
    unticked = page.get_by_role("checkbox", name="Animate candidate", checked=False)
    for count in (2, 3):
        unticked.first.click()
        page.get_by_role("button", name=f"Animate {count} anchors").wait_for()
    page.locator("#animate").click()
    page.get_by_text("Anchor 2 of 3").wait_for(timeout=PATIENCE)
    shot("12-several-animating")
    page.get_by_text("Done in").wait_for(timeout=PATIENCE)
    page.locator("#keep").wait_for(timeout=PATIENCE)
    shot("13-several")
    page.get_by_role("button", name="Several prompts").click()
    page.get_by_label("Prompts, one on a line").fill(
        "a whale by the sea\na duck under water\na racing car at sunset"
    )
    page.locator("#queue-them").click()
    page.locator("#queue").get_by_text("Position 2, about").wait_for(timeout=PATIENCE)
    shot("14-queued")
    page.locator("#leave-all").click()


def main() -> None:
    """Walks through the app at both widths, light and dark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="an app that already runs (default: start one)")
    parser.add_argument("--out", type=Path, default=Path("screenshots"))
    parser.add_argument("--only", help="just the runs with this in their name, such as 390 or dark")
    parser.add_argument("--start", action="store_true", help="just how the app begins")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    picture = args.out / "mine.png"
    Image.linear_gradient("L").resize((300, 200)).convert("RGB").save(picture)
    with nullcontext(args.url) if args.url else running_app() as url, running_browser() as browser:
        for width, height in WIDTHS.items():
            for theme in ("light", "dark"):
                name = f"{width}-{theme}"
                if args.only and args.only not in name:
                    continue
                viewport = {"width": width, "height": height}
                with quiet_page(browser, f"{url}/?__theme={theme}", viewport=viewport) as page:
                    walk(page, args.out, name, picture, args.start)
                print(name)


if __name__ == "__main__":
    main()
