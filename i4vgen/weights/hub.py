"""Loads parts of models in the diffusers layout, from a folder or the Hugging Face hub.

A model may also be a single file (`single_file.py`), local or on the hub, which is read like such a folder.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, Protocol, TypeVar

import httpx
import torch
from diffusers import AutoencoderKL, ModelMixin
from huggingface_hub import (
    get_hf_file_metadata,
    hf_hub_download,
    hf_hub_url,
    snapshot_download,
    try_to_load_from_cache,
)
from huggingface_hub.errors import RemoteEntryNotFoundError
from safetensors import SafetensorError
from tqdm import tqdm

from i4vgen.bounds import short_name, shown
from i4vgen.errors import ModelError
from i4vgen.weights import clip, files, hub_errors, single_file
from i4vgen.weights.names import HUB_FILE, MODEL_ID, is_hub_file, is_single_file


class Loadable(Protocol):
    """A class of diffusers or transformers: a network, a tokenizer or an image processor."""

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any: ...


T = TypeVar("T", bound=Loadable)

DIFFUSERS_STEMS = ("diffusion_pytorch_model", "diffusion_pytorch_model")
TRANSFORMERS_STEMS = ("model", "pytorch_model")
"""The stems of the weights' file names: for safetensors and for torch checkpoints."""

VARIANTS = (None, "fp16", "bf16", "fp32")
"""The variants of a network's weights, in order of preference."""

DOWNLOAD_ERRORS = (OSError, ValueError, httpx.HTTPError, httpx.InvalidURL)
"""The errors that the hub's client raises if a download fails."""


def file(model: str, path: str) -> Path | None:
    """Returns a file of a model, downloaded if necessary; None if the model has no such file.

    Args:
        model: A folder or a hub id (`MODEL_ID`). A single file contains no other files.
        path: The path of the file within the model.

    Returns:
        The path; None also if the hub fails and the file is missing from the cached model.

    Raises:
        ModelError: The model does not exist, or the file is not cached and cannot be downloaded.
    """
    if Path(model).is_dir():
        here = Path(model, path)
        return here if here.is_file() else None
    if is_single_file(model):
        return None
    repo, revision = split(model)
    cached = None
    try:
        cached = _cached(repo, revision, path)
        if cached is None:
            _reach(repo, revision, path)
        return Path(hf_hub_download(repo, path, revision=revision))
    except RemoteEntryNotFoundError:
        return None
    except DOWNLOAD_ERRORS as error:
        if cached is not None or (hub_errors.is_of_hub(error) and _has_all(repo, revision, [path])):
            return cached
        raise ModelError(hub_errors.explain(repo, revision, error) or _cannot_load(model, error)) from error


def required_file(model: str, path: str, remedy: str = "download it again") -> Path:
    """Returns a required file of a model, downloaded if necessary.

    Args:
        model: A folder or a hub id.
        path: The path of the file within the model.
        remedy: The advice in the message for a missing file, in the imperative.

    Raises:
        ModelError: The model or the file does not exist, or the download failed.
    """
    if (existing := file(model, path)) is None:
        raise ModelError(f"{model} has no {path}: {remedy}")
    return existing


def local_file(model: str) -> str:
    """Returns the path of a single-file model, downloaded if it is on the hub (`HUB_FILE`).

    Raises:
        ModelError: The hub has no such file, or it cannot be downloaded.
    """
    match = HUB_FILE.fullmatch(model) if is_hub_file(model) else None
    if match is None:
        return model
    if (found := file(match[1], match["file"])) is None:
        raise ModelError(f"{match[1]} has no file {short_name(model)} on the hub: check its name")
    return str(found)


def kind_of(model: str) -> str:
    """Returns the kind of a single file (`single_file.kind_of`), downloaded if necessary.

    Raises:
        ModelError: The file is missing, damaged or of an unsupported kind, or cannot be downloaded.
    """
    return single_file.kind_of(local_file(model))


def split(model: str) -> tuple[str, str | None]:
    """Splits a hub id into the repository and the revision, which is None if the id has none.

    Raises:
        ModelError: `model` is not a hub id.
    """
    match = MODEL_ID.fullmatch(model)
    if match is None:
        raise ModelError(f"there is no model {model!r}: use pocket, a folder, or a hub id such as OWNER/NAME")
    return match[1], match[2]


def _cached(repo: str, revision: str | None, path: str) -> Path | None:
    """Returns a file from the local cache of the hub; None if it is not cached."""
    cached = try_to_load_from_cache(repo, path, revision=revision)
    return Path(cached) if isinstance(cached, str) else None


def _reach(repo: str, revision: str | None, path: str) -> None:
    """Checks that the hub is reachable, because `hf_hub_download` retries every file for half a minute.

    Raises:
        httpx.HTTPError: The hub cannot be reached, or returns an error other than a missing file.
        OfflineModeIsEnabled: Offline mode is on.
    """
    with contextlib.suppress(RemoteEntryNotFoundError):
        get_hf_file_metadata(hf_hub_url(repo, path, revision=revision))


def _has_all(repo: str, revision: str | None, patterns: Sequence[str]) -> bool:
    """Returns whether the cached repository has all files that match the patterns.

    A snapshot that is cached without its file listing counts as complete, because missing files are unknown.
    """
    try:
        snapshot_download(repo, revision=revision, local_files_only=True, allow_patterns=list(patterns))
    except (OSError, ValueError):
        return False
    return True


def download(model: str, patterns: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Downloads the missing files of a model into the cache of the hub.

    After an interruption, complete files are kept and incomplete ones are downloaded again. If the consumer
    stops early, the download continues in the background; Ctrl-C stops it.

    Args:
        model: A folder, a hub id or a single file, local or on the hub.
        patterns: The patterns of the required files; ignored for a single file.

    Yields:
        The number of received bytes and the total. Nothing is yielded for a folder or a local file, if no file
        is missing, or if the hub is unreachable or has no such model; loading the model reports those errors.

    Raises:
        ModelError: The download failed, or `model` is not a valid name.
    """
    if is_hub_file(model) and (match := HUB_FILE.fullmatch(model)):
        model, patterns = match[1], (match["file"],)
    elif Path(model).is_dir() or is_single_file(model):
        return
    repo, revision = split(model)
    bars = []
    interrupted = threading.Event()

    class Counter(tqdm):
        """Counts bytes without drawing. The client has one bar for received and one for written bytes."""

        def __init__(self, *args: Any, unit: str = "it", **kwargs: Any):
            super().__init__(*args, **kwargs | {"disable": True})
            self.count = 0
            if unit == "B":
                bars.append(self)

        def update(self, n: float | None = 1) -> None:
            if interrupted.is_set():
                raise InterruptedError("the download was interrupted")
            self.count += int(n or 0)

    options = {"revision": revision, "allow_patterns": list(patterns), "tqdm_class": Counter}
    planning = _in_background(snapshot_download, repo, **options, dry_run=True)
    while wait([planning], timeout=0.5).not_done:
        pass
    try:
        plan = planning.result()
    except DOWNLOAD_ERRORS as error:
        absent = hub_errors.is_unreachable(error) or hub_errors.is_not_there(error)
        if absent or (hub_errors.is_of_hub(error) and _has_all(repo, revision, patterns)):
            return
        raise ModelError(hub_errors.explain(repo, revision, error) or _cannot_load(repo, error)) from error
    total = sum(file.file_size or 0 for file in plan if file.will_download)
    if not total:
        return
    task, done = _in_background(snapshot_download, repo, **options), 0
    try:
        while wait([task], timeout=0.5).not_done:
            done = max([done, *(bar.count for bar in bars)])
            yield min(done, total), total
    except KeyboardInterrupt:
        interrupted.set()
        # Unless the hub is silent, the client ends now and removes what is incomplete.
        _wait_in_spite_of_ctrl_c(task, seconds=0.5)
        raise
    try:
        task.result()
    except (OSError, RuntimeError, httpx.HTTPError) as error:  # RuntimeError: from hf_xet, a Rust library
        broke_off = (
            f"the download of {repo} broke off ({first_line(error)}): start again, complete files are kept"
        )
        known = None if hub_errors.is_unreachable(error) else hub_errors.explain(repo, revision, error)
        raise ModelError(known or broke_off) from error
    yield total, total


def _wait_in_spite_of_ctrl_c(task: Future, seconds: float) -> None:
    """Waits until a task is done or the time has passed, however often Ctrl-C is pressed."""
    end = time.monotonic() + seconds
    while not task.done() and (left := end - time.monotonic()) > 0:
        with contextlib.suppress(KeyboardInterrupt):
            wait([task], timeout=left)


def _in_background(work: Callable, *args: object, **kwargs: object) -> Future:
    """Runs work in a thread, so that Ctrl-C can interrupt the waiting main thread."""
    pool = ThreadPoolExecutor(1)
    task = pool.submit(work, *args, **kwargs)
    pool.shutdown(wait=False)
    return task


def read_json(model: str, path: str) -> dict | None:
    """Reads a JSON file of a model; None if the model has no such file.

    Args:
        model: A folder, a hub id or a single file.
        path: The path of the JSON file within the model.

    Raises:
        ModelError: The model does not exist or cannot be downloaded, the file cannot be read or is not a JSON
            object, or a single file is damaged or of an unsupported kind.
    """
    if is_single_file(model):
        return single_file.read_config(local_file(model), path)
    json_file = file(model, path)
    if json_file is None:
        return None
    try:
        values = json.loads(files.read_bytes(json_file))
    except ValueError as error:
        raise ModelError(f"{json_file} is not valid JSON ({error}): download the model again") from error
    if not isinstance(values, dict):
        raise ModelError(f"{json_file} must be a JSON object, not {shown(values)}: download the model again")
    return values


def load(cls: type[T], model: str, subfolder: str, dtype: torch.dtype, variant: str | None = None) -> T:
    """Loads a network of a model, frozen and in evaluation mode.

    Cached files are preferred to others, then safetensors to torch checkpoints (.bin). Code in a checkpoint is
    never executed.

    Args:
        cls: A diffusers or transformers model class.
        model: A folder, a hub id or a single file.
        subfolder: The network's folder within the model; empty for the root.
        dtype: The dtype of the weights, except in modules that the class keeps in float32.
        variant: The preferred variant of the weights, such as "fp16". None prefers the default variant.

    Raises:
        ModelError: The model does not exist or cannot be downloaded, or the network is missing, damaged or
            incomplete.
    """
    if is_single_file(model):
        network: Any = single_file.load(local_file(model), subfolder, dtype)
        return network
    where, copy = f"{model}/{subfolder}".rstrip("/"), _find_copy(cls, model, subfolder, variant)
    try:
        with quiet():
            network, report = cls.from_pretrained(
                **_place(model),
                **copy,
                subfolder=subfolder,
                torch_dtype=dtype,
                output_loading_info=True,
            )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        raise ModelError(_of_hub(model, error) or _cannot_load(where, error)) from error
    # Position tables are computed rather than learned, and missing from some motion adapters.
    if missing := [key for key in report["missing_keys"] if not key.endswith("pos_embed.pe")]:
        raise ModelError(
            f"{where} lacks {len(missing)} weights, such as {missing[0]}: download the model again"
        )
    return network.requires_grad_(False).eval()


def _find_copy(cls: type, model: str, subfolder: str, variant: str | None) -> dict[str, Any]:
    """Finds the preferred variant of a network's weights, as arguments for `from_pretrained`.

    Raises:
        ModelError: The network has no weights, or the model does not exist or cannot be downloaded.
    """
    safetensors, binary = DIFFUSERS_STEMS if issubclass(cls, ModelMixin) else TRANSFORMERS_STEMS
    copies = [
        ({"variant": name, "use_safetensors": suffix == "safetensors"}, f"{subfolder}/{path}".lstrip("/"))
        for stem, suffix in ((safetensors, "safetensors"), (binary, "bin"))
        for name in dict.fromkeys((variant, *VARIANTS) if variant else VARIANTS)
        for path in _weight_files(stem, suffix, name)
    ]
    if not Path(model).is_dir():  # cached variants come first
        repo, revision = split(model)
        for copy, path in copies:
            if _cached(repo, revision, path) is not None:
                return copy
    for copy, path in copies:
        if file(model, path) is not None:
            return copy
    where = f"{short_name(model)}/{subfolder}".rstrip("/")
    raise ModelError(f"{where} has no weights ({safetensors}.safetensors or .bin): download it again")


def _weight_files(stem: str, suffix: str, variant: str | None) -> tuple[str, str]:
    """Returns the file name of a variant's weights, and that of the index if they are sharded."""
    if variant is None:
        return f"{stem}.{suffix}", f"{stem}.{suffix}.index.json"
    return f"{stem}.{variant}.{suffix}", f"{stem}.{suffix}.index.{variant}.json"


def load_vae(
    model: str, dtype: torch.dtype, variant: str | None = None, subfolder: str = "vae"
) -> AutoencoderKL:
    """Loads the VAE of a model, in float32 if its configuration sets `force_upcast`.

    Raises:
        ModelError: The VAE is missing, damaged or incomplete, or cannot be downloaded.
    """
    config = read_json(model, f"{subfolder}/config.json".lstrip("/")) or {}
    return load(
        AutoencoderKL, model, subfolder, torch.float32 if config.get("force_upcast") else dtype, variant
    )


def default_dtype(device: str, half: torch.dtype = torch.float16) -> torch.dtype:
    """Returns `half` on CUDA and float32 elsewhere."""
    return half if torch.device(device).type == "cuda" else torch.float32


def fastest_dtype(device: str, half: torch.dtype = torch.float16) -> torch.dtype:
    """Returns bfloat16 on CPUs with native support (others emulate it slowly), otherwise `default_dtype`."""
    if torch.device(device).type == "cpu" and computes_in_bfloat16():
        return torch.bfloat16
    return default_dtype(device, half)


def computes_in_bfloat16() -> bool:
    """Returns whether this CPU has AMX or AVX-512 for bfloat16; False if PyTorch is too old to report it."""
    if not hasattr(torch.cpu, "get_capabilities"):
        return False
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in ("amx_bf16", "avx512_bf16"))


def load_tokenizer(cls: type[T], model: str, subfolder: str) -> T:
    """Loads a tokenizer of a model.

    Raises:
        ModelError: The tokenizer is missing or damaged, or cannot be downloaded.
    """
    if is_single_file(model):
        tokenizer: Any = clip.load_tokenizer()
        return tokenizer
    where = f"{model}/{subfolder}".rstrip("/")
    # transformers creates an empty tokenizer from a folder without one.
    if all(read_json(model, f"{subfolder}/{name}.json".lstrip("/")) is None for name in ("tokenizer", "vocab")):
        raise ModelError(f"cannot load {where} (no tokenizer.json, no vocab.json): download the model again")
    try:
        with quiet():
            return cls.from_pretrained(**_place(model), subfolder=subfolder)
    except Exception as error:  # tokenizers raises bare Exception for damaged files
        raise ModelError(_of_hub(model, error) or _cannot_load(where, error)) from error


def _place(model: str) -> dict:
    """Returns the arguments of `from_pretrained` that locate a model."""
    if Path(model).is_dir():
        return {"pretrained_model_name_or_path": model}
    repo, revision = split(model)
    return {"pretrained_model_name_or_path": repo, "revision": revision or "main"}


def _cannot_load(where: str, error: Exception) -> str:
    return f"cannot load {where} ({first_line(error)}): check that the model is complete, or download it again"


def _of_hub(model: str, error: Exception) -> str | None:
    """Explains an error of the hub raised in diffusers or transformers; None for other errors."""
    is_on_hub = MODEL_ID.fullmatch(model) and not Path(model).is_dir()
    return hub_errors.explain(*split(model), error) if is_on_hub else None


def first_line(error: Exception) -> str:
    """Returns the first line of an error's message, or the name of its class if the message is empty."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences the progress bars and load reports of diffusers and transformers."""
    import diffusers.utils.logging
    import transformers.utils.logging

    libraries = (diffusers.utils.logging, transformers.utils.logging)
    levels = [library.get_verbosity() for library in libraries]
    bars = [library.is_progress_bar_enabled() for library in libraries]
    for library in libraries:
        library.set_verbosity(logging.CRITICAL)
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library, level, bar in zip(libraries, levels, bars, strict=True):
            library.set_verbosity(level)
            if bar:
                library.enable_progress_bar()
