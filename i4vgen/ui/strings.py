"""Every English sentence of the app, in one place: to proof-read, to translate, to keep one voice."""

from __future__ import annotations

import math

from i4vgen import events
from i4vgen.catalog import Entry
from i4vgen.comparisons import COMPARISONS

TITLE = "I4VGen"
TAGLINE = "Image as a free stepping stone to video"
LEAD = (
    "Draw still candidates, let a reward model (or you) pick the best one, and animate it. "
    "No training: the same weights throughout."
)
OPENING = "{prompt}: the same model, from the same noise, without I4VGen on the left and with it on the right"
OPENING_BEFORE = "the model as it is"
OPENING_AFTER = "the same model, same noise"
PAPER_URL = "https://arxiv.org/abs/2406.02230"
PAPER = "Read the paper"

# 1 Imagine
IMAGINE = "Imagine"
IMAGINE_HINT = "Describe the video. The seed fixes every random number of the run."
PROMPT_PLACEHOLDER = "a rocket rising in a starry night"
DICE = "New seed"
GENERATE = "Draw candidates"
STOP = "Stop"
LEAVE_QUEUE = "Leave the queue"
EXAMPLES = "Finished examples: settings and result at once"
CHIPS = {"subject": "What", "colour": "Colour", "motion": "How it moves", "setting": "Where"}
ADVANCED = "Advanced settings"
OWN_SAMPLER = "the model's own"
SECONDS = "Seconds"
COMPARE = "Compare with"

SEVERAL = "Several prompts"
SEVERAL_HINT = (
    "Each line becomes a run of its own, with the settings that the form has when you queue it, and the best "
    "candidate. Go on working here, or close the page: what is finished will be among your runs. A restart of "
    "the server loses only what still waits."
)
SEVERAL_NOT_HERE = (
    "Prompts cannot wait on this server: a GPU is lent to whoever asks for a run, and to nobody who has left. "
    "They can where the studio has a device of its own, and <code>python -m i4vgen batch</code> takes a "
    "file of prompts."
)
SEVERAL_LINES = "Prompts, one on a line"
SEVERAL_PLACEHOLDER = "a rocket rising in a starry night\na whale swimming by the sea"
QUEUE_THEM = "Queue these prompts"
LEAVE_WITH_ALL = "Take all out of the queue"
BACK_INTO_BOX = "Back into the box"
DISMISS = "Dismiss"
NEEDS_LINES = "Write a prompt on each line first."
LINE_TWICE = "this line is there twice"
PROMPTS_FULL = "Too many prompts are queued on this server. Queue the rest later."
WAITED_TOO_LONG = "Its turn did not come within a day. Queue it again."
LOST = "Lost: the server was restarted before its turn, or had no room for the result. Queue it again."


def too_many_queued(most: int) -> str:
    """Another prompt than the most that a visitor may have in the queue."""
    return f"{most} prompts of yours are in the queue, which is the most. Queue the rest when some are done."


def too_many_lines(most: int) -> str:
    """More lines than are looked at."""
    return (
        f"{most} lines is the most at once. Where there are more, python -m i4vgen batch takes a file of them."
    )


def queued(count: int, kept: int) -> str:
    """After the lines were queued. kept: how many could not be."""
    says = [f"{count} prompt{'s are' if count != 1 else ' is'} queued."] if count else []
    if kept:
        stays = (
            "1 line could not be queued and stays"
            if kept == 1
            else f"{kept} lines could not be queued and stay"
        )
        says.append(f"{stays} in the box.")
    return " ".join(says)


def several(count: int, seconds: float | None) -> str:
    """The heading of the box. count: of prompts in the queue. seconds: to the end of them all, if known."""
    left = "" if seconds is None else f", {seconds_left(seconds)}"
    return f"{SEVERAL}: {count} queued{left}" if count else SEVERAL


def waiting(position: int, seconds: float | None) -> str:
    """A prompt that waits. position: 1 if it is next on the device."""
    place = "Next" if position == 1 else f"Position {position}"
    return f"{place}, {seconds_left(seconds)}"


def under_way(words: str, seconds: float | None) -> str:
    """A prompt whose run is under way. words: what it does."""
    return words if seconds is None else f"{words}, {seconds_left(seconds)}"


MODEL = "Model and reward"
MODEL_NAME = "Model"
REWARDS = "Rewards"
REWARDS_INFO = "The first one chooses the anchor, the others are shown beside it."
BASE = "Base model"
BASE_INFO = "Another Stable Diffusion 1.5 checkpoint: a hub id or a folder."
LORAS = "LoRAs"
LORAS_INFO = "LoRAs for this model, with spaces between; a weight after @, as in OWNER/NAME@0.8."


def seconds_info(fps: int) -> str:
    """Under the length in seconds."""
    return f"At {fps} frames each."


def model_facts(entry: Entry) -> str:
    """Download size, licence and caveats of a model."""
    facts = [f"{entry.download:.1f} GB to download" if entry.download else "", entry.licence, entry.about]
    return ". ".join(fact for fact in facts if fact)


def downloading(repo_or_path: str, done: int, total: int) -> str:
    """While a model comes from the hub."""
    return f"Downloading {repo_or_path}: {done / 1e9:.1f} of {total / 1e9:.1f} GB"


def unknown_words(words: list[str]) -> str:
    """The note under the prompt (HTML). words: already escaped."""
    quoted = ", ".join(f"<b>{word}</b>" for word in words)
    is_are = "is a word" if len(words) == 1 else "are words"
    return f"{quoted} {is_are} this model has never seen. It will draw the rest of the prompt."


def unread(words: str) -> str:
    """The note under the prompt (HTML). words: already escaped."""
    return f"This prompt is longer than what the model reads: <b>{words}</b> is cut off."


# 2 Choose the anchor
CHOOSE = "Choose the anchor"
CHOOSE_HINT = (
    "The candidate with the highest reward is selected. Click another one to override it, or tick up "
    "to four to animate them all."
)
GALLERY = "Candidates"
GALLERY_EMPTY = "Your candidates will appear here, each with its score."
ANCHOR = "Anchor"
BACK_TO_BEST = "Back to the best candidate"
TICK_KEY = "X"
NO_ANCHOR = "No anchor yet. Draw candidates or upload an image."
CROWN = "\u265b"
STAR = "\u2605"
PICKED = "\u2713"
SKETCH = "sketch"
STORED = "A stored run, made by this app. Pick another anchor, animate it, or draw candidates of your own."
RESTORED = "The run is restored."
ORDER = "Order of the cards"
BY_INDEX = "As drawn"
BY_SCORE = "By score"
RESCORE = "Score again"
EXPORT = "Export this set"
STAR_IT = "\u2606 Star"
UNSTAR_IT = "\u2605 Starred"
DROP_IT = "Drop it"
CHART = "All scores, from the lowest to the highest. Click a mark to pick it."
OWN = "Use an image of my own"
OWN_DROP = "Drop, paste or choose an image"
CROP = "What is cut off"
CROP_POSITION = "Move the crop"
NO_MORE = "64 candidates is the maximum."
NOT_SCORED = "Stopped. The scores are unchanged."


def animate(count: int) -> str:
    """The button that animates. count: of anchors."""
    return f"Animate {count} anchors" if count > 1 else "Animate this anchor"


def tick(number: int) -> str:
    """The box on a card."""
    return f"Animate candidate {number} as well"


def animated_with(numbers: list[int]) -> str:
    """After what the anchor card says about a candidate: which others are animated as well (HTML)."""
    *most, last = (str(number) for number in numbers)
    others = f"candidates {', '.join(most)} and {last}" if most else f"candidate {last}"
    return f"<br>Animated together with {others}"


def too_many_anchors(most: int) -> str:
    """Another anchor than the most that one run animates."""
    return f"One run animates {most} candidates at most. Untick one of them first."


def more(count: int) -> str:
    """The button for further candidates."""
    return f"{count} more candidates"


def restore(count: int) -> str:
    """The button that brings dropped candidates back."""
    return f"Bring back {count} dropped"


def card(rank: int, seed: int, index: int) -> str:
    """The small print of a card: its rank, and the seed and the number of the noise that it grew from."""
    return f"rank {rank} \u00b7 seed {seed}#{index + 1}"


def chart_mark(number: int, score: str) -> str:
    """What a mark of the chart stands for."""
    return f"Candidate {number}, score {score}"


def scored(count: int, prompt: str) -> str:
    """After scoring again."""
    return f"{count} candidates are now ranked by \u201c{prompt}\u201d."


def judged_by(prompt: str) -> str:
    """Beside the score of an anchor that was judged by another prompt than its own (HTML, already safe)."""
    return f". Scored against \u201c{prompt}\u201d"


def anchor_is(number: int, count: int, score: str, best: bool) -> str:
    """What the anchor card says about a drawn candidate."""
    why = "highest reward" if best else "your pick"
    scored = f", score {score}" if score else ""
    return f"<b>Candidate {number}</b> of {count}{scored} \u2013 {why}"


OWN_ANCHOR = "<b>Uploaded image</b>, cropped to the shape of the video"

# 3 Watch it move
WATCH = "Watch it move"
WATCH_HINT = "The anchor is animated, then plays next to the vanilla video of the same prompt and seed."
SAVE_SIDE = "Side by side (mp4)"
SAVE_GIF = "GIF"
SAVE_ALL = "Everything (zip)"
LIVE_EMPTY = "The video appears here while it is being made."
LIVE_STORED = "From a stored run; nothing is being computed."
LIVE_ALT = "The video at this step, playing in a loop"
PLAYER = "Comparison of the finished videos"
STAGES = {
    "candidates": "Drawing candidates",
    "ni_vsds": "Animating the anchor (NI-VSDS)",
    "regeneration": "Regenerating the video",
}
STAGES_SHORT = {"ni_vsds": "NI-VSDS", "regeneration": "Regeneration"}
CLIP_LABELS = {"anchor": "Anchor", "i4vgen": "I4VGen", "ni_vsds": "NI-VSDS"}
CLIP_HINTS = {
    "anchor": "the still picture it came from",
    "i4vgen": "from your anchor",
    "ni_vsds": "before regeneration",
}
COMPARISON = "{label} video, for comparison"


def candidate(number: int) -> str:
    """What became of a candidate, where it is compared with other candidates."""
    return f"Candidate {number}"


def candidate_hint(reward: float | None, best: bool) -> str:
    """What is said of it. reward: the mean score of its frames."""
    says = f"reward {score(reward)}" if reward is not None else ""
    return " \u00b7 ".join(part for part in (CLIP_LABELS["i4vgen"], says, BEST if best else "") if part)


def of_candidate(label: str, number: int) -> str:
    """A video without I4VGen that shows a candidate all the same, as those of image-to-video models do."""
    return f"{label}, candidate {number}"


def stage(name: str) -> str:
    """What happens in a stage of the method or of a comparison."""
    return COMPARISON.format(label=COMPARISONS[name].label) if name in COMPARISONS else STAGES[name]


def stage_short(name: str) -> str:
    """The same in a word."""
    return COMPARISONS[name].label if name in COMPARISONS else STAGES_SHORT.get(name, name)


def clip_label(name: str) -> str:
    """What a video, or the anchor, is called."""
    return COMPARISONS[name].label if name in COMPARISONS else CLIP_LABELS[name]


def compare_info() -> str:
    """What the comparisons are that a run can have."""
    return " ".join(f"{comparison.label}: {comparison.hint}." for comparison in COMPARISONS.values())


def clip_hint(name: str) -> str:
    """What a video, or the anchor, is."""
    return COMPARISONS[name].hint if name in COMPARISONS else CLIP_HINTS[name]


BEST = "best"
KEEP = "Keep"
KEEP_INFO = "What the GIF, the zip and the link to this page are of. All of them are in your runs."


def keep_choice(number: int, best: bool) -> str:
    """One of several videos to keep."""
    return f"{candidate(number)} {CROWN}" if best else candidate(number)


PLAY = "Play"
PAUSE = "Pause"
LOOP = "Loop"
SCRUB = "Frame"
DOWNLOAD = "Download"
# The player
PLAYER_MODES = {"side": "Side by side", "wipe": "Wipe", "grid": "Grid"}
PLAYER_WORDS = {
    "modes": "How to compare",
    "pair": "What to compare",
    "a": "A, on the left",
    "b": "B, on the right",
    "swap": "Swap A and B",
    "divider": "Divider between A and B",
    "controls": "Controls",
    "back": "Frame back",
    "forth": "Frame forward",
    "speed": "Speed",
    "help": "Keyboard shortcuts",
    "help_hint": "They work while the player has the focus: click into it, or reach it with Tab.",
    "close": "Close",
}
PLAYER_SHORTCUTS = [
    (["Space", "K"], "Play or pause"),
    (["\u2190", "\u2192", ",", "."], "Frame by frame"),
    (["Home", "End"], "First and last frame"),
    (["[", "]"], "Slower, faster"),
    (["L"], "Loop"),
    (["1", "2", "3"], "Side by side, wipe, grid"),
    (["S"], "Swap A and B"),
    (["?"], "This help"),
]

# 4 Your runs
RUNS = "Your runs"
RUNS_HINT = (
    "Kept in this browser. Open one, or drop a run, or a video of one, anywhere on the page, to restore it."
)
OPEN_RUN = "Open a run or a file of one"
COPY_LINK = "Copy the link to this page"
COPIED = "Copied"
FORGET = "Forget all"
NO_ROOM = "The server has no room to keep another run for now: save what you want to keep."
GONE = "This run has expired on the server. Its settings are in the form: the same seed gives the same run."
NO_RUN = "No run in this file"
NOT_UNDERSTOOD = "This request is not one that the app can read: /gradio_api/info describes those that it can."
OUT_OF_STEP = "The page and the server are out of step. Reload the page."
ONLY_IN_THE_BROWSER = "This event is the browser's own: there is nothing on the server to call."
FOREIGN_PAGE = "Pages of other sites may not use this app, unless its owner allows them (--allow-origin)."
FOREIGN_NAME = (
    "This app is its owner's alone and answers only where the address is localhost or a number. Its owner can"
    " allow this name as well (--allow-origin), or everybody (--public)."
)
QUEUE_FULL = "Too many runs are waiting already. Try again in a few minutes."
TOO_MANY_CLICKS = "Too many clicks of yours are waiting already. Try again in a moment."
TOO_MANY_RUNS = "{most} runs of yours are waiting or under way. Start another one when one of them is done."
OTHER_MODEL = "This run was made with {model}, which this app does not offer. Draw with another model."
NOT_IN_FORM = "The form does not go as far as this run: {names}. The closest it can say is in it now."
TOO_LARGE = "This run has more steps than the form allows. Its settings are in the form: draw again."
BAD_LINK = "Some settings in the link could not be used: {names}."


def too_large(height: int, width: int, most: int) -> str:
    """A video of too many pixels."""
    return f"height x width can be at most {most} pixels with this model here, not {height} x {width}"


def request_too_large(most: int, values: int) -> str:
    """A request of too many bytes, or of too many values."""
    return (
        f"This request is too large: at most {most / 2**20:g} MB and {values} values. Pictures, videos and runs"
        " are uploaded."
    )


def too_long(seconds: float, most: float) -> str:
    """A run that would take too many seconds."""
    return (
        f"this would take at least {math.ceil(seconds)} s here, and a run of this server may take"
        f" {math.floor(most)} s: ask for fewer steps, candidates, anchors, frames or comparisons"
    )


def too_much_work(times: float, most: float) -> str:
    """A run of too much work."""
    return (
        f"this run takes {times:.0f} times as long as the model's usual one, and this server makes runs of at"
        f" most {most:g} times that: ask for fewer steps, candidates, frames or comparisons"
    )


def recipe_opened(reason: str | None, index: int | None) -> str:
    """When a picture or a video was opened whose run the server does not have.

    Args:
        reason: Why its anchor was the anchor; None for a file from before there was one.
        index: Of the anchor.
    """
    anchor = ""
    if reason == events.UPLOADED:
        anchor = " It was animated from an uploaded image, which is not in the file."
    elif reason == events.PICKED and index is not None:
        anchor = f" Its anchor was candidate {index + 1}, picked by hand."
    return f"The settings of this file are in the form. Draw, and the same seed gives the same run.{anchor}"


def run_caption(prompt: str, seed: int, model: str) -> str:
    """Under the thumbnail of a run."""
    return f"{prompt}\nseed {seed} \u00b7 {model}"


# How a run goes
WAITING = "Waiting for the device\u2026"
STARTING = "Getting the model ready\u2026"
MEASURING = "estimating the time left"
NEARLY = "almost done"


TRACE = "Size of the update, step by step"


def step(name: str, number: int, total: int, left: str) -> str:
    """The progress line: what is happening, how far it is, how long it will take."""
    return f"{stage(name)}: step {number} of {total}, {left}"


def of_anchor(number: int, count: int, words: str) -> str:
    """The progress line, where there are several anchors."""
    return f"Anchor {number} of {count}. {words}" if count > 1 else words


def step_facts(timestep: float, weight: float, update: float) -> str:
    """What the last step did, for those who know the method."""
    return f"t = {timestep:.4g} \u00b7 weight {weight:.3f} \u00b7 update {update:.4f}"


def seconds_left(seconds: float | None) -> str:
    """A duration as a person would say it."""
    if seconds is None:
        return MEASURING
    if seconds < 2:
        return NEARLY
    if seconds < 100:
        return f"about {round(seconds)} s left"
    return f"about {round(seconds / 60)} min left"


def candidates_done(count: int, seconds: float) -> str:
    """After stage 1."""
    return f"{count} candidate{'s' if count != 1 else ''} in {seconds:.0f} s."


def candidates_stopped(count: int, asked: int) -> str:
    """After a stop in stage 1."""
    if not count:
        return "Stopped before the first new candidate was finished."
    return f"Stopped. {count} of {asked} candidates are finished and ready to pick."


def animate_done(seconds: float) -> str:
    """After stage 2."""
    return f"Done in {seconds:.0f} s."


def animate_stopped(finished: bool) -> str:
    """After a stop in stage 2."""
    if finished:
        return "Stopped. What was finished plays below, and your candidates are untouched."
    return "Stopped. Your candidates and the anchor are untouched: animate again whenever you like."


LEFT_QUEUE = "You left the queue. Your candidates and videos are unchanged."

# What can go wrong
STILL_DRAWING = "The candidates are still being drawn. Choose when they are finished, or stop first."
CHECK_FORM = "Check the form"
NOT_NOW = "Not now"
NO_MODEL = "This model is not available"
SORRY = "Something went wrong"
BUSY = "A run is still in progress. Wait for it to finish or stop it first."
NEEDS_PROMPT = "Write a prompt first: describe the video in a few words."
NEEDS_NUMBER = "{name} needs a number."
NEEDS_ANCHOR = "Choose an anchor first: draw candidates or upload an image."
BAD_PICTURE = "That file could not be read as an image. Use a PNG, JPEG or WebP file."
INTERRUPTED = "The run was interrupted."
FAILED_CALL = "the run failed: {error}"
FAILED = "The run failed: {error}. Your prompt and candidates are still here."

# What the figures mean
REPORT = "What the figures say"
REPORT_VIDEO = "Video"
REPORT_BEST = "(best)"
NO_FIGURE = "\u2013"
METRIC_LABELS = {"flicker": "Flicker", "motion": "Motion", "consistency": "Anchor kept"}
METRIC_MEANINGS = {
    "flicker": "Mean difference between frames that steady motion or a fade does not explain, in percent of "
    "the range from black to white.",
    "motion": "Mean displacement from one frame to the next, over the whole picture, in percent of its "
    "longer side.",
    "consistency": "How much of the anchor is found again in each frame, wherever it has moved to.",
}
REWARD_MEANING = "How well the frames show the prompt: the mean score that this reward model gives them."
BETTER = {
    "higher": "Higher is better.",
    "lower": "Lower is better.",
    None: "Neither is better: more means livelier.",
}
BETTER_ARROWS = {"higher": "\u2191", "lower": "\u2193", None: ""}


def reward_label(name: str) -> str:
    """The head of a reward model's column."""
    return f"Reward: {name}"


SLICES = "One row of pixels over time"


def slices_hint(row: int, height: int) -> str:
    """How to read the slices. row: counts from 1."""
    return (
        f"Row {row} of {height} of every frame, the first frame on top. What stands still is a vertical band, "
        "what moves steadily a slanted one; flicker makes edges ragged."
    )


def slice_alt(label: str) -> str:
    """What the picture of a slice is, for those who do not see it."""
    return f"{label}: one row of pixels from every frame, the first frame on top"


def score(value: float | None) -> str:
    """A reward: two decimals, always signed, a true minus."""
    return "" if value is None else f"{value:+.2f}".replace("-", "\u2212")
