"""Gradio's protocol over HTTP, also for requests that neither a browser nor `gradio_client` would send.

`open_client` opens a `gradio_client` that is as patient as the rest.

A `Tab` sends the page's events and reads their answers, `Calls` calls the named endpoints. Both take values of
any kind, say which visitor asks, and need not wait for an answer.
"""

from __future__ import annotations

import json
import ssl
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

import httpx
from gradio_client import Client

from tests.support.waiting import PATIENCE, wait_until

API = "/gradio_api"
TIMEOUT = 120.0
"""Seconds of silence until a request is given up, on machines under load too."""


class Answer(NamedTuple):
    """The end of an event.

    Attributes:
        data: The values of its outputs; empty if it failed.
        error: What it failed with, as the visitor reads it; None if it did not.
    """

    data: list
    error: str | None


class EventFailedError(Exception):
    """An event was answered with an error, whose words these are."""


@cache
def _certificates() -> ssl.SSLContext:
    """Shared by all connections: reading the certificates takes longer than most requests."""
    return httpx.create_ssl_context()


def connect(visitor: str | None = None, timeout: float = TIMEOUT) -> httpx.Client:
    """A connection to a server on this machine.

    Args:
        visitor: The address of the visitor, as a proxy would tell it.
        timeout: Seconds of silence until a request fails.
    """
    headers = {"x-forwarded-for": visitor} if visitor else {}
    # The server closes idle connections after five seconds: kept for as long, some are used too late.
    limits = httpx.Limits(keepalive_expiry=2)
    return httpx.Client(timeout=timeout, headers=headers, limits=limits, verify=_certificates())


def open_client(url: str, **options: Any) -> Client:
    """A `gradio_client` that waits longer than five seconds for an answer."""
    return Client(url, verbose=False, httpx_kwargs={"timeout": PATIENCE}, **options)


@contextmanager
def device_taken(url: str) -> Iterator[None]:
    """Keeps the device of a studio busy with a run of another client. Other runs wait until the end."""
    run = {"prompt": "a rocket", "num_candidates": 64, "num_inference_steps": 500}
    job = open_client(url).submit(**run, api_name="/candidates")
    try:
        wait_until(lambda: job.status().progress_data)
        yield
    finally:
        job.cancel()


def json_body(body: object) -> dict[str, Any]:
    """The options of httpx for a JSON body. Half characters, which httpx's own `json` refuses, are escaped."""
    return {"content": json.dumps(body), "headers": {"content-type": "application/json"}}


def read_stream(lines: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """The server-sent events in the lines of a stream: the name, "" if it has none, and the value of each."""
    name = ""
    for line in lines:
        kind, _, text = line.partition(":")
        if kind == "event":
            name = text.strip()
        elif kind == "data":
            yield name, json.loads(text)


class Tab:
    """A tab with the page, without a browser.

    Attributes:
        config: What the page is made of, from the server's /config.
        events: Its events by their names, which are those of the handlers.
        session: The name of the tab. May be changed, as if another one was opened.
        http: The connection.
    """

    def __init__(
        self,
        url: str,
        session: str | None = None,
        visitor: str | None = None,
        config: dict | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        """Opens a tab.

        Args:
            url: The address of the app.
            session: The name of the tab; by default one of its own.
            visitor: The address of the visitor, as a proxy would tell it.
            config: From another tab on the same app; by default it is fetched.
            timeout: Seconds of silence until a request fails.
        """
        self.url, self.session = url.rstrip("/"), session or uuid.uuid4().hex
        self.http = connect(visitor, timeout)
        self.config = config or self.http.get(f"{self.url}/config").json()
        self.events = {each["api_name"]: each for each in self.config["dependencies"]}
        self._components = {each["id"]: each["props"] for each in self.config["components"]}

    def values(self, event: str, fields: Mapping[str, object] | None = None) -> list:
        """The values of an event's inputs as the page begins.

        Args:
            event: Its name.
            fields: Other values, by the ids or the labels of their components.

        Raises:
            KeyError: The event has no input of that name.
        """
        left, found = dict(fields or {}), []
        for component in self.events[event]["inputs"]:
            props = self._components[component]
            name = next((props[key] for key in ("elem_id", "label") if props.get(key) in left), None)
            found.append(props.get("value") if name is None else left.pop(name))
        if left:
            raise KeyError(*left)
        return found

    def join(self, event: str, data: list | None = None, **more: object) -> str:
        """Sends an event and does not wait for its answer. Returns its id.

        Args:
            event: Its name.
            data: The values of its inputs; by default as the page begins.
            more: Of the request, such as `event_data`.
        """
        values = self.values(event) if data is None else data
        body = {"fn_index": self.events[event]["id"], "data": values, "session_hash": self.session}
        joined = self.http.post(f"{self.url}{API}/queue/join", **json_body(body | more))
        return joined.raise_for_status().json()["event_id"]

    def answers(self, number: int = 1) -> list[Answer]:
        """The next answers to events of this tab, in the order in which they come."""
        found: list[Answer] = []
        with self.http.stream("GET", f"{self.url}{API}/queue/data?session_hash={self.session}") as stream:
            for _, message in read_stream(stream.iter_lines()):
                if message.get("msg") == "process_completed":
                    output = message["output"]
                    failed = not message["success"]
                    found.append(Answer([], output["error"]) if failed else Answer(output["data"], None))
                if len(found) == number:
                    return found
        raise AssertionError(f"the stream ended after {len(found)} of {number} answers")

    def send(self, event: str, data: list | None = None, **more: object) -> list:
        """Sends an event. Returns the values of its outputs. For the arguments see `join`.

        Raises:
            EventFailedError: It was answered with an error.
        """
        self.join(event, data, **more)
        (answer,) = self.answers()
        if answer.error is not None:
            raise EventFailedError(answer.error)
        return answer.data


class Calls:
    """The named endpoints, as an HTTP client calls them."""

    def __init__(self, url: str, http: httpx.Client | None = None) -> None:
        """
        Args:
            url: The address of the app.
            http: The connection, if it is to be another one than usual.
        """
        self.url, self.http = f"{url.rstrip('/')}{API}", http or connect()

    def values(self, endpoint: str, given: Mapping[str, object]) -> list:
        """The values of an endpoint's parameters, in their order: the given ones, else the defaults."""
        parameters = self.http.get(f"{self.url}/info").json()["named_endpoints"][f"/{endpoint}"]["parameters"]
        return [given.get(each["parameter_name"], each.get("parameter_default")) for each in parameters]

    def start(self, endpoint: str, data: list) -> str:
        """Calls an endpoint and does not wait for its answer. Returns the path of the answer."""
        joined = self.http.post(f"{self.url}/call/{endpoint}", **json_body({"data": data}))
        return f"{self.url}/call/{endpoint}/{joined.raise_for_status().json()['event_id']}"

    def call(self, endpoint: str, data: list) -> tuple[str, Any]:
        """Calls an endpoint. Returns how it ended, "complete" or "error", and with which values."""
        with self.http.stream("GET", self.start(endpoint, data)) as stream:
            *_, last = read_stream(stream.iter_lines())
        return last
