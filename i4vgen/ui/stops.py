"""Who may stop what: one stop token for each browser tab that has a run under way or waiting."""

from __future__ import annotations

import threading

from i4vgen.runtime import StopToken


class Stops:
    """Tokens by session, as Gradio names it. They live here and not in `gr.State`: a token cannot be copied or
    pickled.
    """

    def __init__(self) -> None:
        self._tokens: dict[str | None, StopToken] = {}
        self._lock = threading.Lock()

    def begin(self, session: str | None) -> StopToken:
        """A fresh token for a new run of this session; an older run of it, if any, is told to stop."""
        token = StopToken()
        with self._lock:
            old = self._tokens.get(session)
            self._tokens[session] = token
        if old is not None:
            old.stop()
        return token

    def stop(self, session: str | None) -> None:
        """Ask this session's run to end after its current step. Nothing happens if there is none."""
        with self._lock:
            token = self._tokens.get(session)
        if token is not None:
            token.stop()

    def end(self, session: str | None, token: StopToken) -> None:
        """Forget a run that is over (unless a newer one has taken its place)."""
        with self._lock:
            if self._tokens.get(session) is token:
                del self._tokens[session]
