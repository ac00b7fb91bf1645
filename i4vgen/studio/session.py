"""The state of a tab on the server, between clicks and during runs."""

from __future__ import annotations

import asyncio
import hashlib
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import chain

import gradio as gr

from i4vgen.serving.jobs.job import Handle
from i4vgen.studio.state import AnchorSelection, AnimationSet, Baselines, CandidateSet

SESSIONS = 300
"""Maximum number of sessions of tabs and clients."""

MAX_BYTES = 4 * 2**30
"""Maximum size of their pictures, latents and videos in memory, when another session begins."""

FORGET_AFTER = 24 * 3600
"""Seconds without a request after which a session is deleted."""

IDLE = "idle"

_TAB = re.compile(r"[0-9a-f]{32}")


def visitor_of(request: gr.Request | None) -> str:
    """Returns an id for the address of a request, hashed because it becomes part of file names."""
    client = request.client if request is not None else None
    return hashlib.sha256((client.host if client else "").encode()).hexdigest()[:12]


@dataclass(frozen=True)
class SubmittedRun:
    """A run that a tab has submitted.

    Attributes:
        handle: The handle of its job.
        panel: The name of its buttons.
    """

    handle: Handle
    panel: str


@dataclass
class Session:
    """The state of a tab.

    Attributes:
        visitor: The id of the visitor, from `visitor_of`.
        candidate_set: The candidates that the tab shows.
        selection: The selected anchors.
        animations: The animations that the tab shows.
        baselines: The comparisons that the next run may reuse.
        made_here: Whether a run of this tab made the animations; False if they are those of an opened run.
        run: The latest run of the tab.
        lock: Held while a click is handled. A run changes only fields that clicks leave alone meanwhile.
    """

    visitor: str = ""
    candidate_set: CandidateSet = field(default_factory=CandidateSet)
    selection: AnchorSelection = field(default_factory=AnchorSelection)
    animations: AnimationSet = field(default_factory=AnimationSet)
    baselines: Baselines = field(default_factory=Baselines)
    made_here: bool = False
    run: SubmittedRun | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def phase(self) -> str:
        """The panel of the run that is queued or in progress; `IDLE` without one."""
        return IDLE if self.run is None or self.run.handle.is_over else self.run.panel

    @property
    def is_empty(self) -> bool:
        """Whether the session has nothing to restore."""
        return (
            self.run is None
            and not self.candidate_set.candidates
            and self.selection.picture is None
            and not self.animations.animations
        )

    @property
    def num_bytes(self) -> int:
        """The size of the pictures, latents and videos in memory."""
        sets = [self.candidate_set, *(each.candidate_set for each in self.animations.animations)]
        clips = chain(self.baselines.clips.values(), *(each.clips for each in self.animations.animations))
        arrays = [clip.frames for clip in clips]
        for candidate in chain.from_iterable(each.candidates for each in sets):
            arrays += [candidate.image, candidate.latents]
        return sum({id(array): array.nbytes for array in arrays}.values())


class Sessions:
    """The sessions of all tabs.

    Gradio names a new session whenever a page is loaded. A reloaded page continues its session by the token
    of its tab.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        """Creates an empty store.

        Args:
            now: Returns the time in seconds.
        """
        self._now = now
        self._lock = threading.Lock()
        self._tabs: OrderedDict[str | None, str] = OrderedDict()  # tokens by session name
        self._sessions: OrderedDict[str | None, tuple[float, Session]] = OrderedDict()  # latest last

    def of(self, name: str | None) -> Session:
        """Returns the session with this name, or a new one."""
        with self._lock:
            key = self._tabs.get(name, name)
            if name in self._tabs:
                self._tabs.move_to_end(name)
            _, session = self._sessions.pop(key, (0.0, None))
            if session is None:
                self._free_memory()
                session = Session()
            self._sessions[key] = self._now(), session
            self._forget()
            return session

    def attach(self, name: str | None, tab: object) -> Session:
        """Continues the session of a tab, or gives it the one that earlier events of the page have begun.

        Args:
            name: The name of the new session.
            tab: The tab's token: 128 bits in hexadecimal digits. Other values are ignored.

        Returns:
            The session.
        """
        if isinstance(tab, str) and _TAB.fullmatch(tab):
            with self._lock:
                self._tabs.pop(name, None)
                self._tabs[name] = tab
                if name in self._sessions and tab not in self._sessions:
                    self._sessions[tab] = self._sessions.pop(name)
                self._forget_tabs()
        return self.of(name)

    def _forget_tabs(self) -> None:
        """Deletes surplus names, the oldest first, except of sessions with a queued or active run."""
        extra = len(self._tabs) - 2 * SESSIONS
        for name, tab in list(self._tabs.items()):
            if extra <= 0:
                break
            if tab not in self._sessions or self._sessions[tab][1].phase == IDLE:
                del self._tabs[name]
                extra -= 1

    def _forget(self) -> None:
        """Deletes expired and surplus sessions, the oldest first, except those with a queued or active run."""
        extra, since = len(self._sessions) - SESSIONS, self._now() - FORGET_AFTER
        for name, (seen, session) in list(self._sessions.items()):
            if extra <= 0 and seen > since:
                break
            if session.phase == IDLE:
                del self._sessions[name]
                extra -= 1

    def _free_memory(self) -> None:
        """Deletes idle sessions, the oldest first, until the others fit into `MAX_BYTES`.

        Measuring all of them takes milliseconds, so it is done for new sessions and not for every click.
        """
        sizes = {name: session.num_bytes for name, (_, session) in self._sessions.items()}
        surplus = sum(sizes.values()) - MAX_BYTES
        for name, (_, session) in list(self._sessions.items()):
            if surplus > 0 and sizes[name] and session.phase == IDLE:
                del self._sessions[name]
                surplus -= sizes[name]
