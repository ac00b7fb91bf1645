"""The comparison player alone, in a real browser: modes, the wipe, the clock, keys and fingers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from playwright.sync_api import Page, expect

from i4vgen.media import write_image, write_video
from i4vgen.metrics import Steadiness
from i4vgen.studio.app import launch_options
from i4vgen.studio.components.compare import ComparePlayer
from i4vgen.studio.state import Clip
from tests.support.browsing import quiet_page

FRAMES, FPS = 8, 8
ALL = ["anchor", "vanilla", "freeinit", "ni_vsds", "i4vgen"]
STEADY = {
    "vanilla": Steadiness("mine & co", False, (1.0, 0.98, 0.97, 0.96, 0.41, 0.42, 0.4, 0.42), 0.74),
    "i4vgen": Steadiness("mine & co", True, (0.97,) * FRAMES, 0.98),
}
SHADES = """track => [...track.children].map(cell => {
  // What the eye gets: the lightness of each cell, 0 to 1.
  const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d");
  canvas.fillStyle = getComputedStyle(cell).backgroundColor;
  canvas.fillRect(0, 0, 1, 1);
  const linear = [...canvas.getImageData(0, 0, 1, 1).data].map(v => (v / 255) ** 2.2);
  return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
})"""
VISIBLE = "[...document.querySelectorAll('.picture')].filter(picture => picture.checkVisibility())"
VIDEOS = f"{VISIBLE}.filter(picture => picture.matches('video'))"

STATES = """player => {
  const states = [];
  const observer = new MutationObserver(() => states.push(player.dataset.state));
  observer.observe(player, { attributeFilter: ["data-state"] });
  return states;
}"""
"""What the player does from now on."""

WATCH = f"""async loops => {{
  // Watches the videos on the stage for some loops: how far apart they are, but for the worst twentieth of the
  // looks, in which a busy machine may have held one of them up, and how many frames each showed.
  const videos = {VIDEOS};
  const {{ fps, frames }} = document.querySelector('.player').dataset;
  const seen = videos.map(() => new Set());
  const apart = [];
  let turns = 0, before = 0;
  const end = performance.now() + 60000;
  while (turns < loops && performance.now() < end) {{
    await new Promise(resolve => setTimeout(resolve, 4)); // between the player's ticks, not only after them
    const times = videos.map(video => video.currentTime);
    apart.push(Math.max(...times) - Math.min(...times));
    if (times[0] < before - 0.5 * frames / fps) turns++;
    before = times[0];
    times.forEach((time, i) => seen[i].add(Math.floor(time * fps)));
  }}
  apart.sort((one, other) => one - other);
  const most = apart[Math.floor(0.95 * apart.length)] * fps;
  return {{ apart: most, turns, seen: seen.map(numbers => numbers.size) }};
}}"""


def write_clip(folder: Path, name: str, hue: int) -> Clip:
    """A bar that moves through a coloured field; of the anchor, one frame."""
    frames = np.zeros((FRAMES, 64, 64, 3), np.uint8)
    frames[..., hue % 3] = 60 + 40 * hue
    for i, frame in enumerate(frames):
        frame[:, 8 * i : 8 * i + 8] = 230
    if name == "anchor":
        write_image(folder / "anchor.png", frames[3])
        return Clip(name, str(folder / "anchor.png"), 1, FPS, 0, frames[3:4])
    write_video(folder / f"{name}.mp4", frames, FPS)
    return Clip(name, str(folder / f"{name}.mp4"), FRAMES, FPS, 1.0, frames)


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> dict[str, Clip]:
    folder = tmp_path_factory.mktemp("clips")
    return {name: write_clip(folder, name, hue) for hue, name in enumerate(ALL)}


@pytest.fixture(scope="module")
def url(clips) -> Iterator[str]:
    with gr.Blocks(analytics_enabled=False) as demo:
        player = ComparePlayer(elem_id="player")
        gr.Textbox(label="Elsewhere")
        steady = [replace(clips[name], steadiness=STEADY.get(name)) for name in ALL]
        gr.Button("steady").click(lambda: steady, None, player, show_progress="hidden")
        for words, names in (("everything", ALL), ("two", ["vanilla", "i4vgen"]), ("one", ["ni_vsds"])):
            shown = [clips[name] for name in names]
            gr.Button(words).click(lambda shown=shown: shown, None, player, show_progress="hidden")
    options = launch_options() | {"css": ".gradio-container { width: 100% }"}
    _, address, _ = demo.launch(prevent_thread_lock=True, quiet=True, **options)
    yield address
    demo.close()


@pytest.fixture
def page(browser, url) -> Iterator[Page]:
    with quiet_page(browser, url, ready="everything") as tab:
        put(tab, "everything", len(ALL))
        yield tab


def put(page: Page, button: str, count: int) -> None:
    """Gives the player another value."""
    page.get_by_role("button", name=button, exact=True).click()
    expect(page.locator(f".player[data-panes='{count}'][data-mode]")).to_be_visible()


def on_stage(page: Page) -> list[str]:
    return page.evaluate(f"{VISIBLE}.map(picture => picture.dataset.name)")


def expect_stage(page: Page, *names: str) -> None:
    page.wait_for_function(f"names => {VISIBLE}.map(p => p.dataset.name).join() === names", arg=",".join(names))


def settle(page: Page, frame: int) -> None:
    """Waits until all videos on the stage rest at a frame (from 1)."""
    expect(page.locator(".where")).to_have_text(f"{frame} / {FRAMES}")
    resting = f"video.paused && !video.seeking && Math.floor(video.currentTime * {FPS} + 0.01) === {frame - 1}"
    page.wait_for_function(f"{VIDEOS}.every(video => {resting})")


def divider(page: Page) -> float:
    """Where the divider is drawn, as a share of the stage."""
    expect(page.locator(".seam svg")).to_be_visible()
    stage, handle = page.locator(".stage").bounding_box(), page.locator(".seam svg").bounding_box()
    return (handle["x"] + handle["width"] / 2 - stage["x"]) / stage["width"]


def test_the_value_says_what_is_a_still(clips):
    value = ComparePlayer(render=False).postprocess(list(clips.values()))
    anchor, vanilla, *_ = value["panes"]
    assert (anchor["kind"], anchor["image"]["mime_type"]) == ("image", "image/png") and "video" not in anchor
    assert (vanilla["kind"], vanilla["video"]["orig_name"]) == ("video", "vanilla.mp4")
    assert (value["num_frames"], value["fps"]) == (FRAMES, FPS)


def test_modes_show_the_right_panes_and_survive_a_new_value(page):
    expect_stage(page, "vanilla", "i4vgen")
    page.get_by_role("button", name="Wipe").click()
    expect(page.locator(".seam")).to_be_visible()
    expect_stage(page, "vanilla", "i4vgen")
    page.get_by_role("button", name="Grid").click()
    expect_stage(page, *ALL)
    expect(page.get_by_label("A, on the left")).to_be_hidden()
    page.wait_for_function(f"{VIDEOS}.every(video => !video.paused)")

    page.get_by_role("button", name="Side by side").click()
    page.get_by_label("A, on the left").select_option("Anchor")
    expect_stage(page, "anchor", "i4vgen")
    page.wait_for_function("document.querySelector('img.picture').naturalWidth === 64")
    hidden = "[...document.querySelectorAll('video')].filter(video => !video.checkVisibility())"
    assert page.evaluate(f"{hidden}.map(video => video.paused)") == [True] * 3
    assert page.evaluate(WATCH, 2)["turns"] == 2, "hidden videos hold the clock up"
    page.get_by_label("B, on the right").select_option("Anchor")
    expect(page.get_by_label("A, on the left")).to_have_value("i4vgen")  # what A showed, B shows now
    left, right = (page.locator(f".pane[data-role={role}]").bounding_box()["x"] for role in "ab")
    assert left < right and page.locator(".pane[data-role=b]").get_attribute("data-name") == "anchor"

    page.get_by_label("Speed").select_option("0.5")
    page.get_by_role("button", name="Wipe").click()
    put(page, "two", 2)
    expect_stage(page, "vanilla", "i4vgen")
    assert page.locator(".player").get_attribute("data-mode") == "wipe"
    expect(page.get_by_label("Speed")).to_have_value("0.5")
    put(page, "one", 1)
    expect_stage(page, "ni_vsds")
    expect(page.locator(".choices")).to_be_hidden()
    put(page, "everything", len(ALL))
    expect_stage(page, "anchor", "i4vgen")
    assert page.locator(".player").get_attribute("data-mode") == "wipe"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_track_shows_where_a_video_breaks_and_leads_there(browser, url, theme):
    with quiet_page(browser, f"{url}?__theme={theme}", ready="everything") as page:
        put(page, "everything", len(ALL))
        expect(page.locator(".track")).to_have_count(0)  # as for a run from before there was one
        put(page, "steady", len(ALL))
        track = page.get_by_role("slider", name="Steadiness of Vanilla, frame by frame")
        expect(page.locator(".track:visible")).to_have_count(2)
        expect(page.locator(".pane[data-name=vanilla] .steady")).to_contain_text("0.74")
        expect(page.locator(".legend")).to_contain_text("as mine & co sees it")
        light = track.evaluate(SHADES)
        steady, broken = light[3], light[4]
        contrast = (max(steady, broken) + 0.05) / (min(steady, broken) + 0.05)
        assert contrast > 3, "lightness alone tells them apart"

        track.locator("i").nth(4).click()
        settle(page, 5)
        expect(track).to_have_attribute("aria-valuenow", "5")
        expect(track).to_have_attribute("aria-valuetext", "Frame 5 of 8: 0.41 alike")
        other = page.get_by_role("slider", name="Steadiness of I4VGen, frame by frame")
        expect(other).to_have_attribute("aria-valuetext", "Frame 5 of 8: 0.97 alike")
        track.focus()
        page.keyboard.press("ArrowLeft")
        settle(page, 4)
        page.keyboard.press("End")
        settle(page, FRAMES)
        page.get_by_role("button", name="Wipe").click()
        track.locator("i").first.click()
        settle(page, 1)
        page.get_by_role("button", name="Grid").click()
        expect_stage(page, *ALL)
        tops = page.locator(".pane figcaption").evaluate_all("all => all.map(e => e.offsetTop)")
        assert len(set(tops)) == 1, "the caption of a still is where the others are"


def test_the_divider_moves_by_keyboard_and_by_drag(page):
    page.get_by_role("button", name="Wipe").click()
    slider = page.get_by_role("slider", name="Divider")
    assert divider(page) == pytest.approx(0.5, abs=0.01)
    slider.focus()
    for _ in range(5):
        page.keyboard.press("ArrowLeft")
    expect(slider).to_have_value("45")
    page.wait_for_function(
        "getComputedStyle(document.querySelector('.stage')).getPropertyValue('--wipe') === '45%'"
    )
    assert divider(page) == pytest.approx(0.45, abs=0.01)

    box = page.locator(".stage .picture:visible").first.bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 0.45 * box["width"], middle)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.8 * box["width"], middle, steps=5)
    expect(slider).to_have_value("80")
    page.mouse.move(box["x"] + 2 * box["width"], middle)  # out of the picture: it stays at the edge
    expect(slider).to_have_value("100")
    page.mouse.move(box["x"] + 0.7 * box["width"], middle)
    page.mouse.up()
    page.mouse.move(box["x"] + 0.2 * box["width"], middle)  # let go: nothing moves any more
    expect(slider).to_have_value("70")
    page.mouse.click(box["x"] + 0.3 * box["width"], middle)
    expect(slider).to_have_value("30")
    clip = "getComputedStyle(document.querySelector('.pane[data-role=b] .picture')).clipPath"
    assert re.fullmatch(r"inset\(0px 0px 0px (29|30)[.\d]*%\)", page.evaluate(clip))
    expect(page.locator(".player")).to_have_attribute("data-state", "playing")


def test_keys_frames_speed_loop_and_help(page):
    page.get_by_label("Elsewhere").fill("")
    page.get_by_label("Elsewhere").press_sequentially("k l3?")
    player = page.locator(".player")
    expect(player).to_have_attribute("data-state", "playing")
    expect(player).to_have_attribute("data-mode", "side")

    player.focus()
    page.keyboard.press("k")
    expect(player).to_have_attribute("data-state", "paused")
    page.keyboard.press("Home")
    settle(page, 1)
    for key, frame in (("ArrowRight", 2), (".", 3), ("ArrowLeft", 2), (",", 1), (",", 1), ("End", 8), (".", 8)):
        page.keyboard.press(key)
        settle(page, frame)
    page.get_by_role("button", name="Frame back").click()
    settle(page, 7)
    page.locator(".scrub").fill("2")
    settle(page, 3)

    page.keyboard.press("l")  # the focus is in the scrubber now: still inside the player
    expect(page.get_by_role("button", name="Loop")).to_have_attribute("aria-pressed", "false")
    page.keyboard.press("]")
    expect(page.get_by_label("Speed")).to_have_value("2")
    page.keyboard.press("Space")
    page.wait_for_function(f"{VIDEOS}.some(video => Math.abs(video.playbackRate - 2) <= 0.2)")
    settle(page, 8)  # once through, no loop
    expect(player).to_have_attribute("data-state", "paused")
    for _ in range(4):
        page.keyboard.press("[")
    expect(page.get_by_label("Speed")).to_have_value("0.25")  # slow enough to be seen
    states = player.evaluate_handle(STATES)
    page.get_by_role("button", name="Play").click()  # from the end it starts over
    page.wait_for_function("states => states.includes('playing') && states.at(-1) === 'paused'", arg=states)

    page.keyboard.press("2")
    expect(player).to_have_attribute("data-mode", "wipe")
    page.keyboard.press("s")
    expect(page.get_by_label("A, on the left")).to_have_value("i4vgen")
    page.keyboard.press("?")
    help_ = page.get_by_role("dialog", name="Keyboard shortcuts")
    expect(help_).to_contain_text("Frame by frame")
    page.keyboard.press("3")  # nothing happens behind it
    page.get_by_role("button", name="two", exact=True).dispatch_event("click")
    expect(page.locator(".player[data-panes='2']")).to_be_visible()
    expect(help_).to_be_visible()  # a new value does not close it
    page.keyboard.press("Escape")
    expect(help_).to_be_hidden()
    expect(player).to_have_attribute("data-mode", "wipe")
    page.get_by_role("button", name="Keyboard shortcuts").click()
    page.get_by_role("button", name="Close").click()
    expect(help_).to_be_hidden()


def test_no_two_videos_are_a_frame_apart(page):
    watched = page.evaluate(WATCH, 5)
    assert watched["turns"] == 5 and watched["apart"] < 1, watched
    assert min(watched["seen"]) >= FRAMES - 1, f"the videos do not play: {watched}"
    page.get_by_role("button", name="Grid").click()
    page.get_by_label("Speed").select_option("2")
    expect_stage(page, *ALL)
    watched = page.evaluate(WATCH, 5)
    assert watched["turns"] == 5 and watched["apart"] < 1, watched
    assert len(watched["seen"]) == 4


def test_a_phone(browser, url):
    phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    with quiet_page(browser, url, ready="everything", **phone) as page:
        put(page, "everything", len(ALL))
        for mode in ("Side by side", "Grid", "Wipe"):
            page.get_by_role("button", name=mode).tap()
            expect(page.get_by_role("button", name=mode)).to_have_attribute("aria-pressed", "true")
            wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            assert page.evaluate(wide) <= 0, mode
            small = """[...document.querySelectorAll('.player :is(button, select, a, .scrub)')]
                .filter(target => target.checkVisibility())
                .filter(target => target.clientHeight && target.offsetHeight < 44 || target.offsetWidth < 44)
                .map(target => target.outerHTML)"""
            assert page.evaluate(small) == [], mode

        box = page.locator(".stage .picture:visible").first.bounding_box()
        finger = page.context.new_cdp_session(page)

        def touch(kind: str, *where: float) -> None:
            points = [{"x": box["x"] + where[0] * box["width"], "y": box["y"] + 100}] if where else []
            finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

        touch("touchStart", 0.5)
        for at in (0.45, 0.4, 0.3, 0.25):
            touch("touchMove", at)
        touch("touchEnd")
        expect(page.get_by_role("slider", name="Divider")).to_have_value("25")
        page.touchscreen.tap(box["x"] + 0.6 * box["width"], box["y"] + 100)
        expect(page.get_by_role("slider", name="Divider")).to_have_value("60")
        page.get_by_role("button", name="Pause").tap()
        expect(page.locator(".player")).to_have_attribute("data-state", "paused")


def test_less_motion_waits_for_a_click(browser, url):
    with quiet_page(browser, url, ready="everything", reduced_motion="reduce") as page:
        put(page, "two", 2)
        settle(page, 1)
        page.locator("video:visible").first.click()
        page.wait_for_function(f"{VIDEOS}.every(video => !video.paused)")
