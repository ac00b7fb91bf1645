"""Ways back to a run: the showcase, the examples, this browser's history, a file, a link."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import gradio as gr
from gradio.events import Dependency

from i4vgen.errors import InvalidInputError, ModelError
from i4vgen.runs import SavedRun, open_run
from i4vgen.ui import imagine, keeping, link, shelf, texts, watch
from i4vgen.ui.context import AppContext
from i4vgen.ui.layout import refusal
from i4vgen.ui.live import live_value
from i4vgen.ui.queueing import CHECKED, QUICK
from i4vgen.ui.session import AnchorSelection, Animation, CandidateSet

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


def connect(context: AppContext, demo: gr.Blocks, stored: Stored) -> None:
    """Connects everything that brings a run back. stored: opens the runs of the examples."""
    asking, keep = context.asking, context.keeping
    everything = page(context)

    def on_load(memory: list, http: gr.Request, *settings) -> dict:
        """What the page begins with: what the link says, else the first stored example."""
        query = dict(http.query_params)
        remembered = shelf.show_memory(keep, memory)
        token = query.get(link.RUN)
        if saved := context.library.open(token):
            return show_run(context, saved, settings, texts.RESTORED) | remembered | {keep.run: token}
        given, bad = link.from_query(query)
        form = {} if not given else show_settings(context, given, settings)
        if bad:
            gr.Warning(texts.BAD_LINK.format(names=", ".join(bad)))
        if given or bad or stored.first is None:
            return form | remembered
        # The form says the same already, and somebody may be typing in it.
        return show_result(context, stored.open(stored.first), texts.STORED) | remembered

    def on_example(index: int, phase: str, *settings) -> dict:
        """An example fills the form and shows what became of it."""
        check_idle(phase)
        example = asking.examples[index]
        if example.run is None:
            return show_settings(context, {"prompt": example.prompt, "seed": example.seed}, settings)
        return show_unpacked(context, stored.open(example.run), settings, texts.STORED)

    def on_history(memory: list, phase: str, event: gr.SelectData, *settings) -> dict:
        """A run that this browser remembers; its settings alone, where the server has let go of it."""
        check_idle(phase)
        item = memory[event.index]
        saved = context.library.open(item["run"])
        if saved is None:
            gr.Info(texts.GONE)
            known = {name: value for name, value in item["settings"].items() if name in FIELDS}
            return show_settings(context, known, settings)
        return show_run(context, saved, settings, texts.RESTORED) | {keep.run: item["run"]}

    def on_file(path: str, phase: str, *settings) -> dict:
        """A run.json, or a packed run."""
        check_idle(phase)
        try:
            return show_run(context, open_run(path), settings, texts.RESTORED)
        except InvalidInputError as error:
            raise refusal(str(error).replace(path, Path(path).name), texts.NO_RUN) from error

    settings = asking.settings
    demo.load(on_load, [keep.memory, *settings], [*everything, *shelf_of(context)], **CHECKED)
    for opens, handler, what in (
        (asking.dataset.click, on_example, asking.dataset),
        (keep.gallery.select, on_history, keep.memory),
        (keep.file.upload, on_file, keep.file),
    ):
        write_link(context, opens(handler, [what, context.phase, *settings], everything, **CHECKED))
    keep.forget.click(lambda: shelf.show_memory(keep, []), None, shelf_of(context), **QUICK)
    keep.copy.click(None, None, None, js=COPY_LINK.replace("COPIED", texts.COPIED), api_visibility="private")
    # Whatever is started now is another run than the one in the address.
    starts = [asking.generate.click, asking.prompt.submit, context.choosing.animate.click]
    write_link(context, gr.on(starts, lambda: "", None, keep.run, **QUICK))


def write_link(context: AppContext, event: Dependency) -> None:
    """After the event, the address bar says what the page shows."""
    inputs = [context.keeping.run, *context.asking.settings]
    event.success(None, inputs, None, js=WRITE_LINK, api_visibility="private")


def remember_after(context: AppContext, event: Dependency) -> None:
    """After the event, the run is kept on the server, and its thumbnail in this browser."""
    keep = context.keeping

    def remember(animation: Animation | None, memory: list, *settings) -> dict:
        if animation is None or "i4vgen" not in {clip.name for clip in animation.clips}:
            return {keep.run: ""}
        token = context.library.keep(lambda path: keeping.pack_take(animation, path))
        form = imagine.with_config(imagine.Form(*settings), animation.config, animation.spec, animation.compare)
        item = shelf.entry(token, animation.clips[-1].frames[-1], asdict(form))
        return {keep.run: token} | shelf.show_memory(keep, shelf.remember(memory, item))

    inputs = [context.animation, keep.memory, *context.asking.settings]
    write_link(context, event.success(remember, inputs, [keep.run, *shelf_of(context)], **CHECKED))


def shelf_of(context: AppContext) -> list:
    """What `shelf.show_memory` fills."""
    return [context.keeping.memory, context.keeping.gallery, context.keeping.forget]


def page(context: AppContext) -> list:
    """Everything on the page that a run restores."""
    asking, choosing, watching = context.asking, context.choosing, context.watching
    states = [
        context.candidate_set,
        context.selection,
        context.animation,
        context.baselines,
        context.known_model,
        context.keeping.run,
    ]
    views = [*choosing.view, choosing.status, choosing.animate, watching.live, watching.player]
    return [*asking.settings, *states, *views, watching.report, *watching.saves]


def check_idle(phase: str) -> None:
    """A run that is under way must not find another page when it comes back."""
    if phase != "idle":
        raise refusal(texts.BUSY, texts.NOT_NOW)


def show_settings(context: AppContext, given: dict, settings: tuple) -> dict:
    """The form with these settings; everything else on the page stays."""
    try:
        return imagine.show_form(context.asking, replace(imagine.Form(*settings), **given))
    except (ModelError, InvalidInputError) as error:
        raise refusal(str(error), texts.CHECK_FORM) from error


@dataclass(frozen=True)
class Unpacked:
    """A run that was read back, as a tab remembers it."""

    run: SavedRun
    candidate_set: CandidateSet
    selection: AnchorSelection
    animation: Animation | None

    @classmethod
    def of(cls, run: SavedRun) -> Unpacked:
        return cls(run, *keeping.unpack(run))

    @property
    def is_served(self) -> bool:
        """Whether the browser can fetch its files for a good while yet: Gradio's cache is cleaned up."""
        clips = self.animation.clips if self.animation else ()
        paths = [Path(file) for file in (*self.candidate_set.files, *(clip.path for clip in clips))]
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


def show_run(context: AppContext, saved: SavedRun, settings: tuple, words: str) -> dict:
    """The page as the run left it. Raises `gr.Error` for a run that cannot be read or shown."""
    try:
        return show_unpacked(context, Unpacked.of(saved), settings, words)
    except (ModelError, InvalidInputError) as error:
        raise refusal(str(error), texts.NO_RUN) from error


def show_unpacked(context: AppContext, unpacked: Unpacked, settings: tuple, words: str) -> dict:
    """Form, candidates, choice, videos and figures of a run."""
    run = unpacked.run
    form = imagine.with_config(imagine.Form(*settings), run.config, run.spec, run.compare)
    return imagine.show_form(context.asking, form) | show_result(context, unpacked, words)


def show_result(context: AppContext, unpacked: Unpacked, words: str) -> dict:
    """Everything but the form. A run.json alone has none of it: then all stays."""
    candidate_set, selection, animation = unpacked.candidate_set, unpacked.selection, unpacked.animation
    if not candidate_set.candidates and animation is None:
        return {}
    ready = watch.make_anchor(candidate_set, selection) is not None
    changes = {
        context.candidate_set: candidate_set,
        context.selection: selection,
        context.animation: animation,
        context.keeping.run: "",
    }
    changes |= context.show_choice(candidate_set, selection) | {context.choosing.status: live_value(words)}
    changes |= {context.choosing.animate: gr.update(interactive=ready)}
    return changes | watch.show_take(context.watching, animation)
