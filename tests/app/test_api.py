"""The public API, as its clients use it: a real server, `gradio_client`, the README's script, an MCP client."""

from __future__ import annotations

import ast
import asyncio
import re
import subprocess
import sys
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import gradio as gr
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from PIL import Image

from i4vgen.errors import InvalidInputError
from i4vgen.events import Progress
from i4vgen.media import read_video
from i4vgen.method.comparisons import COMPARISONS
from i4vgen.method.search import video_score
from i4vgen.models.catalog import MODELS, REWARDS
from i4vgen.serving.budget import Budget
from i4vgen.serving.jobs.queue import JobQueue
from i4vgen.serving.offered_models import OfferedModels
from i4vgen.storage.run_store import RunStore
from i4vgen.studio.api import calls, sent_pictures
from i4vgen.studio.api.endpoints import Endpoints, register
from i4vgen.studio.api.signatures import endpoint
from i4vgen.studio.recipes import Recipes
from tests.conftest import ROOT
from tests.support.gradio_protocol import Calls, open_client
from tests.support.waiting import wait_until

ENDPOINTS = {"candidates", "animate", "generate", "score"}
SMALL = {"seed": 3, "num_candidates": 3, "num_inference_steps": 2}
LONG = {"num_candidates": 64, "num_inference_steps": 500}  # no test waits for its end


@pytest.fixture(scope="module")
def run_store(tmp_path_factory) -> RunStore:
    return RunStore(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def jobs() -> JobQueue:
    return JobQueue()


@pytest.fixture(scope="module")
def url(runtime, run_store, jobs):
    """A server that has nothing but the API."""
    with gr.Blocks(analytics_enabled=False) as demo:
        register(OfferedModels(runtime), run_store, Budget(), Recipes(), jobs)
    _, address, _ = demo.launch(prevent_thread_lock=True, quiet=True, ssr_mode=False, mcp_server=True)
    yield address.rstrip("/")
    demo.close()


@pytest.fixture(scope="module")
def client(url, tmp_path_factory) -> Client:
    return open_client(url, download_files=tmp_path_factory.mktemp("downloads"))


@pytest.fixture(scope="module")
def drawn(client) -> dict:
    """An answer of /candidates."""
    return client.predict("a red rocket", **SMALL, api_name="/candidates")


# What clients see


def test_every_parameter_is_typed_optional_and_described(client):
    endpoints = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert set(endpoints) == {f"/{name}" for name in ENDPOINTS}
    required = {
        "/candidates": {"prompt"},
        "/animate": {"run"},
        "/generate": {"prompt"},
        "/score": {"prompt", "images"},
    }
    for name, each in endpoints.items():
        parameters = each["parameters"]
        assert {p["parameter_name"] for p in parameters if not p["parameter_has_default"]} == required[name]
        assert all(p["type"] for p in parameters) and all(r["type"] for r in each["returns"])
        _, described, _ = gr.utils.get_function_description(endpoint(getattr(Endpoints, name[1:])))
        assert all(described[p["parameter_name"]] for p in parameters), name


def test_generate_takes_what_the_other_two_take(client):
    endpoints = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    names = {name: {p["parameter_name"] for p in e["parameters"]} for name, e in endpoints.items()}
    assert names["/generate"] == names["/candidates"] | names["/animate"] - {"run"}


# The four endpoints


def test_candidates_come_as_files_with_scores(drawn, run_store):
    assert [card["index"] for card in drawn["candidates"]] == [0, 1, 2]
    assert drawn["best"] == max(drawn["candidates"], key=lambda card: card["score"])["index"]
    assert drawn["unknown_words"] == [] and drawn["unread"] == ""
    saved = run_store.open(drawn["run"])
    assert (saved.config.seed, saved.config.num_inference_steps) == (3, 2)
    assert saved.config.num_frames == 4, "what is left out is the model's own"
    for card, candidate in zip(drawn["candidates"], saved.candidates(), strict=True):
        assert np.array_equal(np.asarray(Image.open(card["image"])), candidate.image)
        assert (card["score"], card["scores"]) == (candidate.score, candidate.scores)


def test_scoring_a_candidate_gives_its_score_again(client, drawn):
    images = [handle_file(card["image"]) for card in drawn["candidates"]]
    scores = client.predict("a red rocket", images, api_name="/score")
    assert [score["score"] for score in scores] == pytest.approx(
        [card["score"] for card in drawn["candidates"]]
    )
    assert scores[0]["scores"].keys() == drawn["candidates"][0]["scores"].keys()
    other = client.predict("the sea in the night", images[:1], api_name="/score")
    assert other[0]["score"] != scores[0]["score"]


def test_animate_finds_the_run_from_another_session(url, drawn, run_store, tmp_path):
    stranger = open_client(url, download_files=tmp_path)
    anchor = (drawn["best"] + 1) % 3
    moved = stranger.predict(drawn["run"], anchor=anchor, num_frames=3, p_ni_vsds=0.0, api_name="/animate")
    assert moved["anchor"] == anchor and moved["run"] != drawn["run"]
    assert set(moved["videos"]) == {"ni_vsds", "i4vgen", "vanilla"}
    assert all(len(read_video(video)[0]) == 3 for video in moved["videos"].values())
    assert {"ni_vsds", "regeneration", "vanilla"} <= set(moved["seconds"])
    whole = run_store.open(moved["run"])
    assert len(whole.candidates()) == 3 and (whole.anchor_index, whole.picked) == (anchor, True)
    assert (whole.config.p_ni_vsds, whole.compare) == (0.0, ("vanilla",))
    assert whole.config.seed == 3, "the rest of the request is the run's"


def test_several_anchors_are_a_run_each_and_the_same_as_one_by_one(client, drawn, run_store):
    both = client.predict(drawn["run"], anchor=[2, 0], api_name="/animate")
    assert [moved["anchor"] for moved in both] == [2, 0]
    alone = client.predict(drawn["run"], anchor=0, api_name="/animate")
    assert alone.keys() == both[1].keys() - {"score", "scores", "worst"}, "one anchor is answered as ever"
    for moved in both:
        saved = run_store.open(moved["run"])
        assert (saved.anchor_index, saved.compare) == (moved["anchor"], ("vanilla",))
        assert saved.videos().keys() == moved["videos"].keys() == {"ni_vsds", "i4vgen", "vanilla"}
        assert {"candidates", "ni_vsds", "regeneration", "vanilla"} == set(saved.file.seconds)
        assert moved["score"] == next(iter(moved["scores"].values()))
    same = [run_store.open(moved["run"]).videos() for moved in (both[1], alone)]
    assert same[0] == same[1], "byte for byte, the shared vanilla video too"
    assert both[0]["score"] != both[1]["score"]


def test_the_best_are_animated_and_the_best_video_comes_first(client, drawn, run_store):
    made = client.predict(drawn["run"], animate_best=2, compare=[], api_name="/animate")
    ranked = sorted(drawn["candidates"], key=lambda card: -card["score"])
    assert {moved["anchor"] for moved in made} == {card["index"] for card in ranked[:2]}
    scores = [video_score(moved["scores"], moved["worst"]) for moved in made]
    assert scores == sorted(scores, reverse=True)
    assert all(run_store.open(moved["run"]).config.animate_best == 1 for moved in made), "each by itself"
    whole = client.predict("a red rocket", **SMALL, animate_best=2, compare=[], api_name="/generate")
    assert whole["anchor"] == made[0]["anchor"], "the same search in one call"
    assert set(run_store.open(whole["run"]).file.trials) == {f"{moved['anchor']:02d}" for moved in made}
    with pytest.raises(AppError, match="the anchor is given"):
        client.predict(drawn["run"], anchor=0, animate_best=2, api_name="/animate")


def test_generate_is_candidates_and_animate(client, drawn):
    made = client.predict("a red rocket", **SMALL, compare=[], api_name="/generate")
    assert [card["score"] for card in made["candidates"]] == [card["score"] for card in drawn["candidates"]]
    assert made["anchor"] == made["best"] == drawn["best"] and set(made["videos"]) == {"ni_vsds", "i4vgen"}
    moved = client.predict(drawn["run"], compare=[], api_name="/animate")
    both = [read_video(answer["videos"]["i4vgen"])[0] for answer in (made, moved)]
    assert np.array_equal(*both), "the best candidate is the anchor by default"


@pytest.mark.parametrize("compare", ["vanilla", ["vanilla"] * 40], ids=["a name", "a name many times"])
def test_a_comparison_is_run_and_kept_once(client, drawn, run_store, compare):
    for name, given in (("generate", {"prompt": "a red rocket", **SMALL}), ("animate", {"run": drawn["run"]})):
        made = client.predict(**given, compare=compare, api_name=f"/{name}")
        assert "vanilla" in made["videos"] and run_store.open(made["run"]).compare == ("vanilla",)


def test_a_picture_of_ones_own_needs_no_candidates(client, run_store, picture, tmp_path):
    Image.fromarray(picture).save(tmp_path / "mine.png")
    mine = handle_file(tmp_path / "mine.png")
    prompt = "a red zeppelin in the night over the sea rising in the night"
    made = client.predict(prompt, **SMALL, anchor_image=mine, compare=[], api_name="/generate")
    assert (made["candidates"], made["best"], made["anchor"]) == ([], None, None)
    assert made["unknown_words"] == ["zeppelin"] and made["unread"] and prompt.endswith(made["unread"])
    assert run_store.open(made["run"]).anchor_picture().shape == (32, 24, 3)
    with pytest.raises(AppError, match="give an anchor_image"):
        client.predict(made["run"], api_name="/animate")


# What goes wrong


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("candidates", {"prompt": " "}, "prompt is empty"),
        ("candidates", {"prompt": "a", "num_candidates": 99}, "from 1 to 64, not 99"),
        ("candidates", {"prompt": "a", "num_frames": 99}, "at most 8 for this model"),
        ("candidates", {"prompt": "a", "height": 2048}, "is too large: this model's frames"),
        ("candidates", {"prompt": "a", "model": "/etc"}, "/etc has no unet"),
        ("candidates", {"prompt": "a", "rewards": ["taste"]}, "no reward 'taste'"),
        ("candidates", {"prompt": "a", "model": "pocket", "loras": ["x"]}, "does not take --lora"),
        ("generate", {"prompt": "a", "anchor": 99}, "from 0 to 15, not 99"),
        ("generate", {"prompt": "a", "compare": ["god"]}, "cannot compare with 'god'"),
        ("animate", {"run": "0123456789abcdef"}, "no run '0123456789abcdef'"),
        ("animate", {"run": "../../etc/passwd"}, "no run"),
        ("score", {"prompt": "", "images": []}, "prompt is empty"),
        ("score", {"prompt": "a", "images": []}, "1 to 64 files"),
        ("score", {"prompt": "a", "images": ["/etc/hostname"]}, r"images\[0\] is not a file"),
    ],
)
def test_wrong_input_is_refused_in_words(client, name, given, words):
    with pytest.raises(AppError, match=words):
        client.predict(**given, api_name=f"/{name}")


def test_a_wrong_anchor_is_refused_in_words(client, drawn, tmp_path):
    (tmp_path / "mine.png").write_text("no picture")
    mine = handle_file(tmp_path / "mine.png")
    wrong = {
        "one of 0, 1, 2, not 3": {"anchor": 3},
        "exclude each other": {"anchor": 0, "anchor_image": mine},
        "anchor_image cannot be read as a picture": {"anchor_image": mine},
        "a list of 1 to 4 different ones": {"anchor": []},
        "list of 1 to 4 different": {"anchor": [1, 1]},
        "list of 1 to 4": {"anchor": [0, 1, 2, 0, 1]},
        "one of 0, 1, 2, not 7": {"anchor": [0, 7]},
        "a list of indices": {"anchor": [0, "1"]},
        "anchor and anchor_image exclude": {"anchor": [0], "anchor_image": mine},
    }
    for words, given in wrong.items():
        with pytest.raises(AppError, match=words):
            client.predict(drawn["run"], **given, api_name="/animate")


@pytest.mark.parametrize("meta", [{}, {"meta": {"_type": "gradio.FileData"}}])
def test_no_client_reads_the_files_of_the_server(url, tmp_path, meta):
    secret = tmp_path / "secret.png"
    Image.new("RGB", (8, 8)).save(secret)
    end, answer = Calls(url).call("score", ["a", [{"path": str(secret), **meta}], None, None])
    assert end == "error" and "scores" not in str(answer)


def test_a_link_into_the_servers_network_is_not_followed(client):
    with pytest.raises(AppError, match=r"images\[0\] cannot be downloaded"):
        client.predict("a", ["http://127.0.0.1:9/secret.png"], api_name="/score")


@pytest.fixture
def linked(monkeypatch):
    """linked(answer): the URL of a server, which the app takes for a public one."""
    servers = []

    async def verified(host: str) -> str:
        return host

    monkeypatch.setattr(sent_pictures.safehttpx, "async_validate_url", verified)

    def serve(answer) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.end_headers()
                with suppress(OSError):  # the app has hung up
                    answer(self.wfile)

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}/a.png"

    yield serve
    for each in servers:
        each.shutdown()


def test_a_linked_picture_is_read(linked):
    picture = Image.new("RGB", (8, 8), "red")
    assert sent_pictures.read_picture(linked(lambda file: picture.save(file, "png")), "it").size == (8, 8)


def test_a_link_that_never_ends_is_given_up(linked, monkeypatch):
    monkeypatch.setattr(sent_pictures, "DOWNLOAD_SECONDS", 0.5)

    def drip(file) -> None:
        while True:
            file.write(b"x")
            file.flush()
            time.sleep(0.1)

    with pytest.raises(InvalidInputError, match=r"cannot be downloaded from .*: it takes more than 0.5 s"):
        sent_pictures.read_picture(linked(drip), "it")


def test_a_link_to_a_huge_file_is_given_up(linked, monkeypatch):
    monkeypatch.setattr(sent_pictures, "LARGEST_DOWNLOAD", 2**20)
    endless = linked(lambda file: [file.write(bytes(2**16)) for _ in range(2**10)])
    with pytest.raises(InvalidInputError, match="it has more than 1 MB"):
        sent_pictures.read_picture(endless, "it")


# The end of a run


@pytest.fixture
def steps(monkeypatch) -> list[int]:
    """The steps that the server takes from now on, as they are taken."""
    taken = []

    def report(event, tell=calls.report):
        if isinstance(event, Progress):
            taken.append(event.step)
        tell(event)

    monkeypatch.setattr(calls, "report", report)
    return taken


def test_a_cancelled_run_ends_and_tells_its_progress_before(client, run_store, jobs, steps):
    runs = set(run_store.root.iterdir())
    job = client.submit("a red rocket", **LONG, api_name="/candidates")
    (unit,) = wait_until(lambda: job.status().progress_data)
    assert unit.index and "candidates" in unit.desc
    job.cancel()
    wait_until(lambda: not len(jobs))
    assert steps[-1] < unit.length and set(run_store.root.iterdir()) == runs


def test_a_run_ends_when_its_client_goes_away(url, jobs, steps):
    calls = Calls(url)
    answer = calls.start("candidates", calls.values("candidates", {"prompt": "a red rocket", **LONG}))
    with calls.http.stream("GET", answer):
        wait_until(lambda: steps)
    wait_until(lambda: not len(jobs))
    assert steps[-1] < LONG["num_inference_steps"]


# Who else calls


@pytest.mark.slow
def test_the_script_of_the_docs_runs_as_it_stands(url, tmp_path):
    page = (ROOT / "docs/http-api.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"^```python\n(.*?)^```", page, re.M | re.S)
    script = script.replace("http://127.0.0.1:7860", url)
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"^\d+ -?\d+\.\d+ .*\.png$", done.stdout, re.M)) == 8
    videos = [tmp_path / f"{name}.mp4" for name in ("i4vgen", "ni_vsds", "vanilla")]
    assert all(read_video(video)[0].shape[0] == 4 for video in videos)


def test_mcp_tools_are_described_and_run(url):
    async def talk():
        async with (
            streamable_http_client(f"{url}/gradio_api/mcp/") as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            tools = {tool.name: tool for tool in (await session.list_tools()).tools}
            told = []

            async def listen(progress, total, message):
                told.append(message)

            # Gradio looks every 0.1 s how far a call is: long enough for it to see a step.
            given = {"prompt": "a red rocket", **SMALL, "num_inference_steps": 100}
            drawn = await session.call_tool("candidates", given, progress_callback=listen)
            answer = ast.literal_eval(drawn.content[0].text)
            links = [card["image"]["url"] for card in answer["candidates"]]
            scored = await session.call_tool("score", {"prompt": "a red rocket", "images": links})
            refused = await session.call_tool("animate", {"run": "nothing"})
            return tools, told, answer, scored, refused

    tools, told, answer, scored, refused = asyncio.run(talk())
    assert set(tools) == ENDPOINTS
    schema = tools["generate"].inputSchema
    assert (
        schema["required"] == ["prompt"]
        and "seed" in schema["properties"]["seed"]["description"].lower() + "seed"
    )
    assert "sets it in motion" in tools["generate"].description
    assert any("Step" in message for message in told if message)
    scores = [score["score"] for score in ast.literal_eval(scored.content[0].text)]
    assert scores == pytest.approx([card["score"] for card in answer["candidates"]])
    assert refused.isError and "there is no run 'nothing'" in refused.content[0].text


def test_the_descriptions_name_every_model_reward_and_comparison():
    for method in (Endpoints.candidates, Endpoints.generate):
        assert all(name in endpoint(method).__doc__ for name in [*MODELS, *REWARDS])
    for method in (Endpoints.animate, Endpoints.generate):
        assert all(name in endpoint(method).__doc__ for name in COMPARISONS)


def test_pictures_to_score_are_as_large_as_described(client, tmp_path):
    described = endpoint(Endpoints.score).__doc__
    assert "at most 50 million pixels (JPEG: 250, unless progressive)" in described
    Image.new("1", (10_001, 5_000)).save(tmp_path / "large.png")
    Image.new("L", (10_001, 5_000)).save(tmp_path / "large.jpg")
    with pytest.raises(AppError, match=r"images\[1\] has 10001 x 5000 pixels: make it smaller, to 50 million"):
        client.predict(
            "a", [handle_file(tmp_path / "large.jpg"), handle_file(tmp_path / "large.png")], api_name="/score"
        )
