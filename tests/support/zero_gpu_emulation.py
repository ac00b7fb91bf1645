"""ZeroGPU on a machine without a GPU, as far as the package `spaces` lets itself be run there.

Emulated are, from the outside in:
- the ZeroGPU API server, by an HTTP server on this machine that grants every request and notes it down;
- the parts of torch that a CPU build lacks and that `spaces` looks up when it is imported;
- the GPU of the forked process: there, `spaces` would leave its pretended CUDA and copy the packed weights to a
  real one. Instead its pretence, which computes on the CPU, stays on, and the packed weights are read back
  from disk into it.
All else is the real package: the decorator, the fork, the queues, the pretended CUDA with its checks of
devices, the packing at launch.

Not part of the test suite by itself: `test_zero_gpu.py` runs it as
`python -m tests.support.zero_gpu_emulation MODEL OTHER FOLDER`, and reads the results that it leaves in FOLDER.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

# What the runs ask for; the pretended CUDA is slow.
REQUEST = {"prompt": "a red rocket", "seed": 5, "num_candidates": 2, "num_inference_steps": 2, "num_frames": 2}
ANIMATE = {"previews": 100.0, "compare": ("vanilla",)}
TOKEN = "header.e30.signature"  # who asks for the GPU: a JWT with an empty payload


def serve_api(log: list[tuple[str, dict]]) -> str:
    """Starts an API server that always has a GPU; notes each call and its parameters down. Returns its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            url = urlsplit(self.path)
            log.append((url.path, dict(parse_qsl(url.query))))
            grant = {"idle": True, "nvidiaIndex": 0, "nvidiaUUID": "GPU-emulated", "allowToken": "granted"}
            body = json.dumps(grant if url.path == "/schedule" else None).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def pretend(folder: Path, log: list) -> None:
    """Makes this process look like a ZeroGPU Space. To be called before `spaces` is imported."""
    (folder / "cgroup").write_text("0::/emulated\n")
    os.environ |= {
        "SPACES_ZERO_GPU": "true",
        "SPACES_ZERO_DEVICE_API_URL": serve_api(log),
        "ZEROGPU_OFFLOAD_DIR": str(folder / "packed"),
        "ZEROGPU_PROC_SELF_CGROUP_PATH": str(folder / "cgroup"),
        "GRADIO_ANALYTICS_ENABLED": "False",
    }
    import torch

    torch.version.cuda = "13.0"
    torch._C._cuda_init = None  # replaced by a function that raises: a slip in the app's process fails
    torch.cuda._is_in_bad_fork = bool  # False, and it pickles

    import spaces.zero.torch

    spaces.zero.torch.unpatch = lambda: None
    spaces.zero.torch.init = pretend_in_every_thread
    spaces.zero.torch.move = unpack


def pretend_in_every_thread(uuid: str) -> None:
    """In the forked process: CUDA is pretended per thread, and `spaces` starts one for each run."""
    import spaces.zero.torch
    import torch
    from spaces.zero.torch import patching
    from torch.utils._pytree import tree_iter, tree_map_only

    strict = patching.ZeroGPUFunctionMode.__torch_function__

    def as_cuda(tensor):
        if tensor.ndim or tensor in patching.cuda_aliases:
            return tensor
        fake = patching.empty_fake(tensor)
        patching.cuda_aliases[fake] = tensor
        return fake

    def lenient(self, func, types, args=(), kwargs=None):
        """The pretence refuses numbers on the CPU beside tensors on the GPU, which CUDA takes."""
        tensors = [value for value in tree_iter(args) if isinstance(value, torch.Tensor)]
        if len(tensors) > 1 and any(tensor in patching.cuda_aliases for tensor in tensors):
            args = tree_map_only(torch.Tensor, as_cuda, args)
        return strict(self, func, types, args, kwargs)

    patching.ZeroGPUFunctionMode.__torch_function__ = lenient
    run = threading.Thread.run

    def run_pretending(self):
        spaces.zero.torch.enter_mode()
        run(self)

    threading.Thread.run = run_pretending


def unpack(callback=None) -> None:
    """In the forked process: the packed weights, from disk to the pretended GPU."""
    import torch
    from spaces.zero.torch import patching

    for pack in patching.tensor_packs:
        data = bytearray(Path(pack.path()).read_bytes())
        offset = 0
        for meta, _, aligned_size in [*(t for batch in pack.batches for t in batch), *pack.big_tensors]:
            flat = torch.frombuffer(data, dtype=meta.dtype, count=meta.numel(), offset=offset)
            for fake in pack.fakes[meta]:
                patching.cuda_aliases[fake] = flat.as_strided(meta.shape, meta.stride())
            offset += aligned_size


def main(model: str, other: str, folder: Path) -> None:
    log: list[tuple[str, dict]] = []
    pretend(folder, log)

    from i4vgen.serving.zero_gpu import ZeroGPURuntime  # noqa: I001  before all that uses torch
    import gradio as gr
    import torch

    from i4vgen.weights import hub
    from i4vgen.errors import InvalidInputError
    from i4vgen.events import Progress
    from i4vgen.pipeline import Anchor, I4VGenPipeline
    from i4vgen.config import GenerationConfig
    from i4vgen.serving.runtime import Runtimes, StopToken
    from tests.support.gradio_protocol import open_client

    hub.default_dtype = lambda *_: torch.float32  # as on the CPU, so that events can be compared
    runtimes = Runtimes(ZeroGPURuntime)
    runtime = runtimes.get(model)
    backbone = runtime.load_here().backbone
    report = {"main": os.getpid(), "device": str(backbone.unet.device), "workers": []}
    candidates = I4VGenPipeline.candidates

    def candidates_and_process(self, config):
        """Says first where it runs, and leaves a file if it is closed before its end."""
        try:
            yield os.getpid()
            yield from candidates(self, config)
        except GeneratorExit:
            (folder / "closed").touch()
            raise

    I4VGenPipeline.candidates = candidates_and_process

    def make_config(**given) -> GenerationConfig:
        return GenerationConfig.for_model(runtime.defaults, **REQUEST | given)

    def keep(name: str, events: list) -> None:
        (folder / f"{name}.pickle").write_bytes(pickle.dumps(events))

    def draw_and_animate():
        worker, *events = runtime.stream(lambda pipeline: pipeline.candidates(make_config()))
        report["workers"].append(worker)
        keep("candidates", events)
        anchor = Anchor.from_candidate(events[-1])
        keep("animate", list(runtime.stream(lambda p: p.animate(make_config(), anchor, **ANIMATE))))
        yield "done"

    def stop():
        token, seen = StopToken(), []
        long = make_config(num_inference_steps=400)
        for event in runtime.stream(lambda pipeline: pipeline.candidates(long), token):
            seen.append(event)
            if isinstance(event, Progress):
                token.stop()
        report["workers"].append(seen[0])
        report["events before the stop"] = len(seen)
        report["closed"] = (folder / "closed").exists()
        yield "done"

    def fail():
        try:
            list(runtime.stream(lambda pipeline: pipeline.run(make_config(), anchor=99)))
        except InvalidInputError as error:
            report["error"] = str(error)
        yield "done"

    def take_another_model():
        keep(
            "other",
            list(runtimes.get(other).stream(lambda pipeline: pipeline.comparison("vanilla", make_config()))),
        )
        yield "done"

    def die():
        """The system kills the process with the GPU: out of memory, a driver that fails."""
        worker, long = 0, make_config(num_inference_steps=400)
        try:
            for event in runtime.stream(lambda pipeline: pipeline.candidates(long)):
                if isinstance(event, int):
                    worker = event
                if isinstance(event, Progress) and "dead" not in report:  # more of them may be on their way
                    os.kill(worker, signal.SIGKILL)
                    report["dead"] = worker
        except gr.Error as error:
            report["death"] = str(error)
        report["next"], *events = runtime.stream(lambda pipeline: pipeline.candidates(make_config()))
        keep("after death", events)
        yield "done"

    jobs = (draw_and_animate, stop, fail, take_another_model)
    with gr.Blocks() as demo:
        said = gr.Textbox()
        for job in (*jobs, die):
            gr.Button().click(job, None, said)
    demo.launch(prevent_thread_lock=True, quiet=True)  # packs the weights
    client = open_client(demo.local_url, headers={"X-IP-Token": TOKEN})
    for job in jobs:
        client.predict(api_name=f"/{job.__name__}")
    report["cuda initialised"] = torch.cuda.is_initialized()
    report["api"] = list(log)
    client.predict(api_name="/die")
    (folder / "report.json").write_text(json.dumps(report))
    for worker in multiprocessing.active_children():  # it still waits for work, as on a Space
        worker.kill()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
