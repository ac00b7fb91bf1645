"""Files of models in the diffusers layout, from a folder or from the Hugging Face hub.

Weights are read from safetensors; `checkpoints.py` reads those that are published as torch checkpoints only.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, Protocol, TypeVar

import httpx
import torch
from diffusers import AutoencoderKL
from huggingface_hub import (
    get_hf_file_metadata,
    hf_hub_download,
    hf_hub_url,
    snapshot_download,
    try_to_load_from_cache,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
)
from safetensors import SafetensorError
from tqdm import tqdm

from i4vgen.errors import ModelError


class Loadable(Protocol):
    """What diffusers and transformers load: a network, a tokenizer, an image processor."""

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any: ...


T = TypeVar("T", bound=Loadable)

MODEL_ID = re.compile(r"(\w[\w.-]*/[\w.-]+)(?:@([\w.-]+))?")
"""OWNER/NAME, or OWNER/NAME@REVISION for a branch, a tag or a commit."""


def file(model: str, path: str) -> Path | None:
    """One file of a model, downloaded if necessary.

    Args:
        model: A folder or a hub id (see `MODEL_ID`).
        path: Relative to the model.

    Returns:
        Its path; None if the model has no such file.

    Raises:
        ModelError: There is no such model, or the file is not cached and cannot be downloaded.
    """
    if Path(model).is_dir():
        here = Path(model, path)
        return here if here.is_file() else None
    repo, revision = split(model)
    cached = None
    try:
        cached = _cached(repo, revision, path)
        if cached is None:
            _reach(repo, revision, path)
        return Path(hf_hub_download(repo, path, revision=revision))
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, httpx.TransportError) as error:
        if cached is not None or _lacks(repo, revision, path):
            return cached
        command = f"hf download {repo}" + (f" --revision {revision}" if revision else "")
        raise ModelError(
            f"{repo} is not on this machine and the model hub cannot be reached: connect to the internet or run"
            f" `{command}` where there is a connection and copy its cache; the model pocket is always here"
        ) from error
    except EntryNotFoundError:
        return None
    except (HFValidationError, HfHubHTTPError, OSError) as error:
        raise ModelError(f"model {model!r} is neither a folder here nor a model on the hub") from error


def required_file(model: str, path: str, remedy: str = "download it again") -> Path:
    """`file`, of a model that must have it.

    Args:
        model: A folder or a hub id.
        path: Relative to the model.
        remedy: What to do about a file that is not there, in the imperative.

    Raises:
        ModelError: There is no such model, or it has no such file, or the file cannot be downloaded.
    """
    found = file(model, path)
    if found is None:
        raise ModelError(f"{model} has no {path}: {remedy}")
    return found


def split(model: str) -> tuple[str, str | None]:
    """A hub id as repository and revision (None if it names none).

    Raises:
        ModelError: It is not a hub id.
    """
    match = MODEL_ID.fullmatch(model)
    if match is None:
        raise ModelError(f"there is no model {model!r}: use pocket, a folder, or a hub id such as OWNER/NAME")
    return match[1], match[2]


def _cached(repo: str, revision: str | None, path: str) -> Path | None:
    """A file in the local cache of the hub."""
    known = try_to_load_from_cache(repo, path, revision=revision)
    return Path(known) if isinstance(known, str) else None


def _reach(repo: str, revision: str | None, path: str) -> None:
    """Asks the hub for a file once; `hf_hub_download` alone would retry for half a minute, for every file.

    Raises:
        httpx.TransportError: The hub cannot be reached.
    """
    with contextlib.suppress(HfHubHTTPError):
        get_hf_file_metadata(hf_hub_url(repo, path, revision=revision))


def _lacks(repo: str, revision: str | None, path: str) -> bool:
    """Whether the repository is in the local cache without this file."""
    try:
        snapshot_download(repo, revision=revision, local_files_only=True, allow_patterns=path)
    except LocalEntryNotFoundError:
        return False
    return True


def download(model: str, patterns: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Downloads the missing files of a model into the cache of the hub.

    A download that was interrupted resumes with the incomplete files. If the consumer stops early, the download
    continues in the background.

    Args:
        model: A folder or a hub id.
        patterns: Of the files that are needed.

    Yields:
        Bytes received and bytes in all. Nothing for folders, if no file is missing, or if the hub cannot be
        reached: missing files are then reported when the model is loaded.

    Raises:
        ModelError: The download failed.
    """
    if Path(model).is_dir():
        return
    repo, revision = split(model)
    bars = []

    class Counter(tqdm):
        """Counts bytes for the hub's client and draws nothing.

        The client counts both received and written bytes; the larger number is the one that is reported.
        """

        def __init__(self, *args: Any, unit: str = "it", **kwargs: Any):
            super().__init__(*args, **kwargs | {"disable": True})
            self.count = 0
            if unit == "B":
                bars.append(self)

        def update(self, n: float | None = 1) -> None:
            self.count += int(n or 0)

    options = {"revision": revision, "allow_patterns": list(patterns), "tqdm_class": Counter}
    try:
        plan = snapshot_download(repo, **options, dry_run=True)
    except (OSError, HFValidationError, httpx.TransportError):
        return
    total = sum(file.file_size or 0 for file in plan if file.will_download)
    if not total:
        return
    done = 0
    pool = ThreadPoolExecutor(1)
    task = pool.submit(snapshot_download, repo, **options)
    pool.shutdown(wait=False)
    while wait([task], timeout=0.5).not_done:
        done = max([done, *(bar.count for bar in bars)])
        yield min(done, total), total
    try:
        task.result()
    except (OSError, RuntimeError, httpx.TransportError) as error:  # RuntimeError: of Xet, which is not Python
        raise ModelError(
            f"the download of {repo} broke off ({first_line(error)}): start again, it goes on from there with"
            " the files that are not whole"
        ) from error
    yield total, total


def read_json(model: str, path: str) -> dict | None:
    """A JSON file of a model; None if the model has no such file.

    Args:
        model: A folder or a hub id.
        path: Relative to the model.

    Raises:
        ModelError: There is no such model, or the file is not valid JSON.
    """
    found = file(model, path)
    if found is None:
        return None
    try:
        return json.loads(found.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{found} is not valid JSON ({error}): download the model again") from error


def load(cls: type[T], model: str, subfolder: str, dtype: torch.dtype) -> T:
    """A network of a model, frozen and in evaluation mode.

    Args:
        cls: A diffusers or transformers model class.
        model: A folder or a hub id.
        subfolder: Empty for the root of the model.
        dtype: Of its weights.

    Raises:
        ModelError: Weights are missing, truncated, incomplete or of the wrong shape.
    """
    where = f"{model}/{subfolder}".rstrip("/")
    try:
        with quiet():
            network, report = cls.from_pretrained(
                **_place(model),
                subfolder=subfolder,
                torch_dtype=dtype,
                use_safetensors=True,
                output_loading_info=True,
            )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        raise ModelError(_cannot_load(where, error)) from error
    # The tables of sinusoids are computed, not learned: some motion adapters come without them.
    if missing := [key for key in report["missing_keys"] if not key.endswith("pos_embed.pe")]:
        raise ModelError(
            f"{where} lacks {len(missing)} weights, such as {missing[0]}: download the model again"
        )
    return network.requires_grad_(False).eval()


def load_vae(model: str, dtype: torch.dtype) -> AutoencoderKL:
    """The VAE of a model, in float32 if its configuration sets `force_upcast`."""
    config = read_json(model, "vae/config.json") or {}
    return load(AutoencoderKL, model, "vae", torch.float32 if config.get("force_upcast") else dtype)


def default_dtype(device: str, half: torch.dtype = torch.float16) -> torch.dtype:
    """A half precision on CUDA, float32 elsewhere."""
    return half if torch.device(device).type == "cuda" else torch.float32


def fastest_dtype(device: str, half: torch.dtype = torch.float16) -> torch.dtype:
    """`default_dtype`, but bfloat16 on CPUs that compute in it natively; others emulate it slowly."""
    if torch.device(device).type == "cpu" and computes_in_bfloat16():
        return torch.bfloat16
    return default_dtype(device, half)


def computes_in_bfloat16() -> bool:
    """Whether this CPU has native bfloat16. False if this version of PyTorch cannot tell."""
    if not hasattr(torch.cpu, "get_capabilities"):
        return False
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in ("amx_bf16", "avx512_bf16"))


def load_tokenizer(cls: type[T], model: str, subfolder: str) -> T:
    """A tokenizer of a model.

    Raises:
        ModelError: It is missing or damaged.
    """
    where = f"{model}/{subfolder}".rstrip("/")
    # transformers makes an empty tokenizer of a folder that has none.
    if all(read_json(model, f"{subfolder}/{name}.json".lstrip("/")) is None for name in ("tokenizer", "vocab")):
        raise ModelError(f"cannot load {where} (no tokenizer.json, no vocab.json): download the model again")
    try:
        with quiet():
            return cls.from_pretrained(**_place(model), subfolder=subfolder)
    except Exception as error:  # tokenizers raises bare Exception for damaged files
        raise ModelError(_cannot_load(where, error)) from error


def _place(model: str) -> dict:
    """A model as arguments of `from_pretrained`."""
    if Path(model).is_dir():
        return {"pretrained_model_name_or_path": model}
    repo, revision = split(model)
    return {"pretrained_model_name_or_path": repo, "revision": revision or "main"}


def _cannot_load(where: str, error: Exception) -> str:
    return f"cannot load {where} ({first_line(error)}): check that the model is complete, or download it again"


def first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences progress bars and load reports of the libraries; problems are raised as `ModelError`s."""
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
