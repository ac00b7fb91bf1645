"""Pictures of every state of the app, for looking at: `python -m tests.screenshots [--url URL] [--out
screenshots]`.
"""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from pathlib import Path

from playwright.sync_api import Page

from tests.browsing import quiet_page, running_app, running_browser

WIDTHS = {1440: 900, 390: 844}


def shoot(page: Page, path: Path) -> None:
    """The whole page. Fails where it would scroll sideways."""
    page.wait_for_timeout(400)  # transitions
    page.screenshot(path=path, full_page=True)
    overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert overflow <= 0, f"{path.name}: {overflow} px wider than the screen"


def walk(page: Page, out: Path, name: str) -> None:
    """One person's way through the app."""
    shoot(page, out / f"{name}-1-empty.png")
    page.get_by_label("Prompt", exact=True).fill("a rocket rising next to a giraffe in a starry night")
    page.get_by_text("never learned").wait_for()
    page.get_by_role("button", name="Draw candidates").click()
    page.get_by_text("step ").first.wait_for()
    page.locator("#gallery img").first.wait_for()
    shoot(page, out / f"{name}-2-drawing.png")
    page.get_by_text("candidates in").wait_for(timeout=120_000)
    shoot(page, out / f"{name}-3-candidates.png")
    page.locator("#gallery button.thumbnail-lg").filter(has_not_text="✓").first.click()
    page.get_by_text("your pick").wait_for()
    for settings in ("Advanced settings", "Model and reward"):
        page.get_by_role("button", name=settings).click()
    shoot(page, out / f"{name}-4-overruled.png")
    for settings in ("Advanced settings", "Model and reward"):
        page.get_by_role("button", name=settings).click()
    page.locator("#animate").click()
    page.locator("#live .film img").wait_for(timeout=60_000)
    shoot(page, out / f"{name}-5-animating.png")
    page.get_by_text("Done in").wait_for(timeout=180_000)
    page.wait_for_timeout(600)
    shoot(page, out / f"{name}-6-compare.png")


def main() -> None:
    """Walks through the app at both widths, light and dark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="an app that already runs (default: start one)")
    parser.add_argument("--out", type=Path, default=Path("screenshots"))
    parser.add_argument("--only", help="just the runs with this in their name, such as 390 or dark")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    with nullcontext(args.url) if args.url else running_app() as url, running_browser() as browser:
        for width, height in WIDTHS.items():
            for theme in ("light", "dark"):
                name = f"{width}-{theme}"
                if args.only and args.only not in name:
                    continue
                viewport = {"width": width, "height": height}
                with quiet_page(browser, f"{url}/?__theme={theme}", viewport=viewport) as page:
                    walk(page, args.out, name)
                print(name)


if __name__ == "__main__":
    main()
