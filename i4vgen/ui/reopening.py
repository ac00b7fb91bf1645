"""Ways back to a run: the showcase, the examples, this browser's history, a file, a link."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import gradio as gr
from gradio.events import Dependency

from i4vgen.errors import ModelError, RequestError
from i4vgen.runs import SavedRun, open_run
from i4vgen.ui import imagine, keeping, link, shelf, texts, watch
from i4vgen.ui.desk import Desk
from i4vgen.ui.layout import refusal
from i4vgen.ui.live import live_value
from i4vgen.ui.queueing import CHECKED, QUICK
from i4vgen.ui.session import Pick, Round, Take

FIELDS = list(imagine.Form.__dataclass_fields__)

FRESH = 8 * 3600
"""Seconds for which the files of an unpacked run are handed on; the cache keeps them for a day."""

WRITE_LINK = """(run, ...values) => {
  const query = new URLSearchParams();
  FIELDS.forEach((name, i) => values[i] !== null && values[i] !== "" && query.set(name, values[i]));
  if (run) query.set("run", run);
  const theme = new URLSearchParams(location.search).get("__theme");
  if (theme) query.set("__theme", theme);
  history.replaceState(null, "", "?" + query);
}""".replace("FIELDS", f"{FIELDS}")

COPY_LINK = """async () => {
  const button = document.getElementById("copy-link"), words = button.textContent;
  await navigator.clipboard.writeText(location.href);
  button.textContent = "COPIED";
  setTimeout(() => { button.textContent = words; }, 1500);
}"""


def connect(desk: Desk, demo: gr.Blocks, stored: Stored) -> None:
    """Connects everything that brings a run back. stored: opens the runs of the examples."""
    asking, keep = desk.asking, desk.keeping
    everything = page(desk)

    def on_load(memory: list, http: gr.Request, *settings) -> dict:
        """What the page begins with: what the link says, else the first stored example."""
        query = dict(http.query_params)
        remembered = shelf.show_memory(keep, memory)
        token = query.get(link.RUN)
        if saved := desk.library.open(token):
            return show_run(desk, saved, settings, texts.RESTORED) | remembered | {keep.run: token}
        given, bad = link.from_query(query)
        form = {} if not given else show_settings(desk, given, settings)
        if bad:
            gr.Warning(texts.BAD_LINK.format(names=", ".join(bad)))
        if given or bad or stored.first is None:
            return form | remembered
        # The form says the same already, and somebody may be typing in it.
        return show_result(desk, stored.open(stored.first), texts.STORED) | remembered

    def on_example(index: int, phase: str, *settings) -> dict:
        """An example fills the form and shows what became of it."""
        check_idle(phase)
        example = asking.examples[index]
        if example.run is None:
            return show_settings(desk, {"prompt": example.prompt, "seed": example.seed}, settings)
        return show_unpacked(desk, stored.open(example.run), settings, texts.STORED)

    def on_history(memory: list, phase: str, event: gr.SelectData, *settings) -> dict:
        """A run that this browser remembers; its settings alone, where the server has let go of it."""
        check_idle(phase)
        item = memory[event.index]
        saved = desk.library.open(item["run"])
        if saved is None:
            gr.Info(texts.GONE)
            known = {name: value for name, value in item["settings"].items() if name in FIELDS}
            return show_settings(desk, known, settings)
        return show_run(desk, saved, settings, texts.RESTORED) | {keep.run: item["run"]}

    def on_file(path: str, phase: str, *settings) -> dict:
        """A run.json, or a packed run."""
        check_idle(phase)
        try:
            return show_run(desk, open_run(path), settings, texts.RESTORED)
        except RequestError as error:
            raise refusal(str(error).replace(path, Path(path).name), texts.NO_RUN) from error

    settings = asking.settings
    demo.load(on_load, [keep.memory, *settings], [*everything, *shelf_of(desk)], **CHECKED)
    for opens, handler, what in (
        (asking.dataset.click, on_example, asking.dataset),
        (keep.gallery.select, on_history, keep.memory),
        (keep.file.upload, on_file, keep.file),
    ):
        write_link(desk, opens(handler, [what, desk.phase, *settings], everything, **CHECKED))
    keep.forget.click(lambda: shelf.show_memory(keep, []), None, shelf_of(desk), **QUICK)
    keep.copy.click(None, None, None, js=COPY_LINK.replace("COPIED", texts.COPIED), api_visibility="private")
    # Whatever is started now is another run than the one in the address.
    starts = [asking.generate.click, asking.prompt.submit, desk.choosing.animate.click]
    write_link(desk, gr.on(starts, lambda: "", None, keep.run, **QUICK))


def write_link(desk: Desk, event: Dependency) -> None:
    """After the event, the address bar says what the page shows."""
    inputs = [desk.keeping.run, *desk.asking.settings]
    event.success(None, inputs, None, js=WRITE_LINK, api_visibility="private")


def remember_after(desk: Desk, event: Dependency) -> None:
    """After the event, the run is kept on the server, and its thumbnail in this browser."""
    keep = desk.keeping

    def remember(take: Take | None, memory: list, *settings) -> dict:
        if take is None or "i4vgen" not in {clip.name for clip in take.clips}:
            return {keep.run: ""}
        token = desk.library.keep(lambda path: keeping.pack_take(take, path))
        form = imagine.with_request(imagine.Form(*settings), take.request, take.choice, take.compare)
        item = shelf.entry(token, take.clips[-1].frames[-1], asdict(form))
        return {keep.run: token} | shelf.show_memory(keep, shelf.remember(memory, item))

    inputs = [desk.take, keep.memory, *desk.asking.settings]
    write_link(desk, event.success(remember, inputs, [keep.run, *shelf_of(desk)], **CHECKED))


def shelf_of(desk: Desk) -> list:
    """What `shelf.show_memory` fills."""
    return [desk.keeping.memory, desk.keeping.gallery, desk.keeping.forget]


def page(desk: Desk) -> list:
    """Everything on the page that a run restores."""
    asking, choosing, watching = desk.asking, desk.choosing, desk.watching
    states = [desk.round, desk.pick, desk.take, desk.baselines, desk.known_model, desk.keeping.run]
    views = [*choosing.view, choosing.status, choosing.animate, watching.live, watching.player]
    return [*asking.settings, *states, *views, watching.report, *watching.saves]


def check_idle(phase: str) -> None:
    """A run that is under way must not find another page when it comes back."""
    if phase != "idle":
        raise refusal(texts.BUSY, texts.NOT_NOW)


def show_settings(desk: Desk, given: dict, settings: tuple) -> dict:
    """The form with these settings; everything else on the page stays."""
    try:
        return imagine.show_form(desk.asking, replace(imagine.Form(*settings), **given))
    except (ModelError, RequestError) as error:
        raise refusal(str(error), texts.CHECK_FORM) from error


@dataclass(frozen=True)
class Unpacked:
    """A run that was read back, as a tab remembers it."""

    run: SavedRun
    round: Round
    pick: Pick
    take: Take | None

    @classmethod
    def of(cls, run: SavedRun) -> Unpacked:
        return cls(run, *keeping.unpack(run))

    @property
    def is_served(self) -> bool:
        """Whether the browser can fetch its files for a good while yet: Gradio's cache is cleaned up."""
        clips = self.take.clips if self.take else ()
        paths = [Path(file) for file in (*self.round.files, *(clip.path for clip in clips))]
        return all(path.is_file() and time.time() - path.stat().st_ctime < FRESH for path in paths)


class Stored:
    """The runs of the examples, unpacked once for everybody. first: the one that the page begins with."""

    def __init__(self, examples: Sequence[imagine.Example]) -> None:
        self.first = examples[0].run if examples else None
        self._unpacked: dict[Path, Unpacked] = {}

    def open(self, path: Path) -> Unpacked:
        """The run of an example."""
        known = self._unpacked.get(path)
        if known is None or not known.is_served:
            known = self._unpacked[path] = Unpacked.of(open_run(path))
        return known


def show_run(desk: Desk, saved: SavedRun, settings: tuple, words: str) -> dict:
    """The page as the run left it. Raises `gr.Error` for a run that cannot be read or shown."""
    try:
        return show_unpacked(desk, Unpacked.of(saved), settings, words)
    except (ModelError, RequestError) as error:
        raise refusal(str(error), texts.NO_RUN) from error


def show_unpacked(desk: Desk, unpacked: Unpacked, settings: tuple, words: str) -> dict:
    """Form, candidates, choice, videos and figures of a run."""
    run = unpacked.run
    form = imagine.with_request(imagine.Form(*settings), run.request, run.choice, run.compare)
    return imagine.show_form(desk.asking, form) | show_result(desk, unpacked, words)


def show_result(desk: Desk, unpacked: Unpacked, words: str) -> dict:
    """Everything but the form. A run.json alone has none of it: then all stays."""
    round_, pick, take = unpacked.round, unpacked.pick, unpacked.take
    if not round_.candidates and take is None:
        return {}
    ready = watch.make_anchor(round_, pick) is not None
    changes = {desk.round: round_, desk.pick: pick, desk.take: take, desk.keeping.run: ""}
    changes |= desk.show_choice(round_, pick) | {desk.choosing.status: live_value(words)}
    changes |= {desk.choosing.animate: gr.update(interactive=ready)}
    return changes | watch.show_take(desk.watching, take)
