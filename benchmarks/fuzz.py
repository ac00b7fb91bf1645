"""Sends malformed requests to the app and counts bad answers.

    python -m benchmarks.fuzz --requests 10000

Every named endpoint, every event of the page and every route gets values of wrong types and sizes, damaged
files, states and sessions of other visitors, and bytes that are not a request. Counts server errors, errors
without a message, answers that take more than five seconds, and tracebacks in the log; measures the memory of
the process.
"""

from __future__ import annotations

import io
import json
import random
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import httpx
from PIL import Image
from tqdm import tqdm

from benchmarks.load import RUN
from benchmarks.serving import Server, main
from tests.support.gradio_protocol import API, connect, json_body, open_client, read_stream

SLOW = 5.0  # seconds
SESSIONS = 50
ROUTES = (
    "/queue/join",
    "/call/generate",
    "/call/v2/candidates",
    "/cancel",
    "/reset",
    "/upload",
    "/run/predict",
    "/component_server",
    "/process_recording",
    "/vibe-code",
    "/stream/a",
)
BODIES = (
    b"",
    b"{",
    b"[]",
    b"null",
    b"\xff\xfe\x00",
    b"[" * 100_000,
    b'{"data": [NaN, 1e999]}',
    b'{"data": null, "fn_index": 99999, "session_hash": "a"}',
    b'{"data": [], "fn_index": "x", "session_hash": []}',
    b'{"event_data": {"x": 1}, "data": [1], "fn_index": 3, "session_hash": "a", "trigger_id": "z"}',
    b'{"session_hash": "a", "fn_index": 0, "event_id": "x"}',
    b'{"component_id": 1, "fn_name": "__class__", "data": 1, "session_hash": "a"}',
    b"--x\r\n\r\n",
    b'--x\r\nContent-Disposition: form-data; name="files"; filename="\xff\x00/../a"\r\n\r\nabc\r\n--x--\r\n',
)


class Fuzzer:
    """Makes requests from seeds.

    Attributes:
        problems: Counts of the problems, by their description.
        slowest: The longest answers: seconds and request.
    """

    def __init__(self, url: str):
        self.url = url
        self.client = connect(timeout=30)
        self.config = self.client.get(f"{url}/config").json()
        self.endpoints = self.client.get(f"{url}{API}/info").json()["named_endpoints"]
        self.problems: Counter[str] = Counter()
        self.slowest: list[tuple[float, str]] = []
        self.uploaded: list[str] = []
        self.locks = [threading.Lock() for _ in range(SESSIONS)]
        self.left: Counter[int] = Counter()

    def one(self, seed: int) -> None:
        """Sends one request and records its problems."""
        rng = random.Random(seed)
        ask: Callable[[random.Random], str] = rng.choices(
            [self.call, self.join, self.upload, self.visit, self.send], weights=[4, 4, 1, 2, 2]
        )[0]
        start = time.monotonic()
        try:
            what = ask(rng)
        except httpx.TransportError as error:
            what = f"{ask.__name__}: {type(error).__name__}"
            self.problems[what] += 1
        took = time.monotonic() - start
        if took > SLOW:
            self.problems["slower than 5 s"] += 1
        self.slowest = sorted([*self.slowest, (took, what)])[-5:]

    def call(self, rng: random.Random) -> str:
        """Calls a named endpoint with some wrong parameters."""
        name = rng.choice(sorted(self.endpoints))
        values = []
        for each in self.endpoints[name]["parameters"]:
            usual = {"prompt": "a racing car", "num_candidates": 1, "num_inference_steps": 1, "compare": []}
            value = usual.get(each["parameter_name"], each.get("parameter_default"))
            values.append(odd_value(rng, self.uploaded) if rng.random() < 0.3 else value)
        if rng.random() < 0.1:
            values = values[: rng.randrange(len(values) + 1)] + [odd_value(rng, self.uploaded)] * rng.randrange(
                3
            )
        joined = self.post(f"{API}/call{name}", {"data": values})
        if joined.status_code == 200 and "event_id" in joined.json():
            self.listen(f"{API}/call{name}/{joined.json()['event_id']}", name)
        return name

    def join(self, rng: random.Random) -> str:
        """Sends an event of the page with data that the page would not send."""
        event = rng.choice(self.config["dependencies"])
        number = rng.randrange(SESSIONS)
        data = [odd_value(rng, self.uploaded) for _ in event["inputs"]]
        body = {"fn_index": event["id"], "data": data}
        body |= {"event_data": odd_value(rng, self.uploaded), "trigger_id": rng.choice([None, 1, event["id"]])}
        with self.locks[number]:  # two listeners of one session would share its messages
            session = f"fuzz{number}-{self.left[number]}"
            joined = self.post(f"{API}/queue/join", body | {"session_hash": session})
            stream = f"{API}/queue/data?session_hash={session}"
            if joined.status_code == 200 and not self.listen(stream, f"event {event['api_name']}"):
                self.left[number] += 1  # abandons the session and its waiting events
        return f"event {event['api_name']}"

    def upload(self, rng: random.Random) -> str:
        """Uploads a file whose content does not match its name."""
        name = rng.choice(
            ["a.png", "run.json", "run.zip", "../../x.png", "a.mp4", "\u202e.svg", "x" * 300 + ".png"]
        )
        answer = self.client.post(f"{self.url}{API}/upload", files={"files": (name, odd_file(rng))})
        self.judge(answer, "upload")
        if answer.status_code == 200:
            self.uploaded = [*answer.json(), *self.uploaded][:50]
        return "upload"

    def visit(self, rng: random.Random) -> str:
        """Requests a route with invalid parts."""
        tail = rng.choice(
            ["/etc/passwd", "../../app.py", "%2e%2e/%2e%2e/etc/passwd", "\x00", "C:\\", "http://127.0.0.1/", ""]
        )
        route = rng.choice(
            [
                "/?run=" + "x" * rng.choice([16, 5000]),
                "/?seed=nan&p_re=9&compare=a,b",
                "/config",
                "/theme.css",
                f"{API}/file={tail}",
                f"{API}/proxy={tail}",
                f"{API}/stream/{tail}",
                f"{API}/info",
                "/monitoring",
                f"{API}/component_server",
                f"{API}/queue/status",
                f"{API}/queue/data?session_hash=unknown",
                f"{API}/call/generate/unknown",
                f"{API}/heartbeat/x",
                f"/static/{tail}",
                f"/assets/{tail}",
                f"{API}/custom_component/{tail}/a/b",
                "/login",
                f"{API}/nothing",
                "/docs",
            ]
        )
        if route.endswith("/heartbeat/x"):  # a stream without an end
            return route
        self.judge(
            self.client.request(rng.choice(["GET", "GET", "HEAD", "POST"]), self.url + quote(route)), route
        )
        return route[:40]

    def send(self, rng: random.Random) -> str:
        """Sends malformed bytes to a route that expects a request."""
        route = API + rng.choice(ROUTES)
        kind = rng.choice(["application/json", "multipart/form-data; boundary=x", "text/plain", "a/b/c"])
        answer = self.client.post(
            f"{self.url}{route}", content=rng.choice(BODIES), headers={"content-type": kind}
        )
        self.judge(answer, route)
        return f"bytes to {route}"

    def post(self, route: str, body: dict) -> httpx.Response:
        answer = self.client.post(f"{self.url}{route}", **json_body(body))
        self.judge(answer, route.split("?")[0])
        return answer

    def listen(self, route: str, what: str) -> bool:
        """Reads a stream of events. Returns whether it ended in time."""
        start, told = time.monotonic(), {}
        try:
            with self.client.stream("GET", f"{self.url}{route}", timeout=SLOW) as stream:
                for event, data in read_stream(stream.iter_lines()):
                    told = data if isinstance(data, dict) else {}
                    failed = event == "error" or told.get("success") is False
                    if failed and not (told.get("output") or {"error": data}).get("error"):
                        self.problems[f"an error without words: {what}"] += 1
                    if time.monotonic() - start > SLOW:
                        return False
        except httpx.ReadTimeout:
            waits = told.get("msg") == "estimation"  # the server has sent its position in the queue
            self.problems[f"{'waits' if waits else 'silent'} for 5 s: {what}"] += 1
            return False
        return True

    def judge(self, answer: httpx.Response, what: str) -> None:
        if answer.status_code >= 500 and answer.status_code != 503:  # 503 with a message: the queue is full
            self.problems[f"{answer.status_code}: {what[:40]}"] += 1


def quote(route: str) -> str:
    return route.replace("\x00", "%00").replace("\\", "%5C")


def odd_value(rng: random.Random, uploaded: list[str], depth: int = 0) -> object:
    """Draws a JSON value, usually of a wrong type."""
    path = rng.choice([*uploaded, "/etc/passwd", "../app.py"])
    plain = [
        None,
        True,
        False,
        0,
        -1,
        1,
        2**70,
        1.5,
        float("1e308"),
        "",
        "a racing car",
        "x" * rng.choice([10, 5000]),
        "\ud800",
        "<img src=x onerror=alert(1)>",
        "../../etc/passwd",
        "own",
        "vanilla",
        "pocket",
        "animatediff",
        "http://127.0.0.1:1/a.png",
        {"path": path, "meta": {"_type": "gradio.FileData"}},
        {"path": path},
        [path],
        {"__type__": "update", "value": 3},
        {"image": {"path": path, "meta": {"_type": "gradio.FileData"}}, "caption": None},
        ["own"] * rng.choice([1, 3000]),
        [],
        {},
        {"index": rng.choice([0, 99, -1, "a", [0, 0]]), "value": None},
        [{"run": "x", "picture": "AAAA", "settings": {"prompt": "a", "seed": 1, "model": "pocket"}}] * 30,
    ]
    if depth < 3 and rng.random() < 0.1:
        return [odd_value(rng, uploaded, depth + 1) for _ in range(rng.randrange(5))]
    return rng.choice(plain)


@cache
def huge_picture() -> bytes:
    """Makes a small PNG that decodes to 400 million pixels."""
    buffer = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(buffer, "PNG")
    return buffer.getvalue()


def odd_file(rng: random.Random) -> bytes:
    """Draws the content of a file: damaged, huge when decoded, or of another type."""
    buffer = io.BytesIO()
    match rng.randrange(6):
        case 0:
            buffer.write(huge_picture())
        case 1:
            with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
                packed.writestr("run.json", b"[" * rng.choice([10, 10**6]))
                packed.writestr("candidates.safetensors", bytes(rng.choice([10, 10**7])))
        case 2:
            run = {"request": {"prompt": "a", "height": 96}, "compare": ["vanilla"], "model": "/etc"}
            buffer.write(json.dumps(run | {"rewards": ["own"] * 5000}).encode())
        case 3:
            buffer.write(b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>")
        case 4:
            Image.new("RGB", (64, 64), "red").save(buffer, rng.choice(["PNG", "JPEG", "BMP", "GIF"]))
        case 5:
            buffer.write(rng.randbytes(rng.choice([0, 10, 5000])))
    data = buffer.getvalue()
    return data[: rng.randrange(len(data) + 1)] if rng.random() < 0.2 else data


def run(server: Server, requests: int, seed: int) -> dict:
    """Sends all requests. Returns the report."""
    fuzzer = Fuzzer(server.url)
    # The memory of the model and of the remembered sessions is no leak: it is allocated before measuring.
    open_client(server.url, download_files=False).predict(**RUN, api_name="/generate")
    warm_up = min(1000, requests // 10)
    for number in range(warm_up):
        fuzzer.one(seed + number)
    before = server.memory()
    with ThreadPoolExecutor(4) as pool:
        numbers = range(seed + warm_up, seed + requests)
        list(tqdm(pool.map(fuzzer.one, numbers), total=len(numbers), desc="fuzzing", disable=None))
    time.sleep(2)
    tracebacks = server.tracebacks()
    alive = fuzzer.client.get(f"{server.url}/config").status_code == 200
    return {
        "requests": requests,
        "alive": alive,
        "problems": dict(fuzzer.problems.most_common()),
        "tracebacks": tracebacks.total(),
        "most_frequent": dict(tracebacks.most_common(12)),
        "memory_mb": [round(before), round(server.memory())],
        "disk_mb": round(server.disk()),
        "slowest_s": [(round(seconds, 2), what) for seconds, what in fuzzer.slowest],
    }


if __name__ == "__main__":
    main("benchmarks.fuzz", __doc__, {"requests": 10_000, "seed": 0}, run)
