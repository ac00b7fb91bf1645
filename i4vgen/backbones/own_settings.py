"""Reads a model's own settings: the configurations of the networks and the optional i4vgen.json.

i4vgen.json may contain any field of `Defaults`, the step sizes of NI-VSDS (`ni_vsds_step_sizes`), and the
vocabulary of a model that was trained on a small set of words (`words`, `phrases`).
"""

from __future__ import annotations

from dataclasses import fields, replace

from i4vgen.bounds import short_name, shown
from i4vgen.config import Defaults
from i4vgen.errors import ModelError
from i4vgen.weights import hub
from i4vgen.weights.families import STABLE_DIFFUSION as FAMILY
from i4vgen.weights.names import is_single_file
from i4vgen.weights.vocabulary import Vocabulary

FILE = "i4vgen.json"


def read_config(model: str, subfolder: str = "") -> dict:
    """Reads a network's configuration.

    Raises:
        ModelError: The model does not exist, or its configuration is missing or damaged.
    """
    file = f"{subfolder}/config.json".lstrip("/")
    config = hub.read_json(model, file)
    if config is None:
        raise ModelError(f"{model} has no {file}: it is not a model in the diffusers layout")
    return config


def vae_place(model: str, vae: str | None) -> tuple[str, str]:
    """Returns the model and the subfolder of the chosen VAE, or of the model's own if `vae` is None."""
    if vae is None:
        return model, "vae"
    has_folder = not is_single_file(vae) and hub.read_json(vae, "vae/config.json") is not None
    return vae, "vae" if has_folder else ""


def read_vae_config(model: str, vae: str | None, channels: int) -> dict:
    """Reads the configuration of the VAE.

    Args:
        model: The model, used if no other VAE was chosen.
        vae: The chosen VAE; None means the model's own.
        channels: The number of latent channels that the network expects.

    Raises:
        ModelError: The configuration is missing or damaged, or the chosen VAE does not fit the model.
    """
    config = read_config(*vae_place(model, vae))
    if vae is None:
        return config
    if (kind := config.get("_class_name")) != "AutoencoderKL":
        raise ModelError(f"{short_name(vae)} is {shown(kind)}, not an AutoencoderKL: use a VAE for {FAMILY}")
    own = config.get("latent_channels", 4)
    if own != channels:
        raise ModelError(
            f"the VAE {short_name(vae)} has {own} latent channels, but the model needs {channels}: use a VAE"
            f" for {FAMILY}"
        )
    return config


def override(defaults: Defaults, model: str) -> Defaults:
    """Returns the defaults with those in the model's i4vgen.json applied."""
    own, names = hub.read_json(model, FILE) or {}, {f.name for f in fields(Defaults)}
    return replace(defaults, **{name: value for name, value in own.items() if name in names})


def step_sizes(model: str) -> tuple[float, ...] | None:
    """Reads the model's step sizes for NI-VSDS. Returns None if i4vgen.json lists none.

    Raises:
        ModelError: i4vgen.json is damaged, or the step sizes are not a list of positive numbers.
    """
    sizes = (hub.read_json(model, FILE) or {}).get("ni_vsds_step_sizes")
    if sizes is None:
        return None
    numbers = isinstance(sizes, list) and all(isinstance(s, int | float) and s > 0 for s in sizes)
    if not numbers or not sizes:
        raise ModelError(
            f"{model}/{FILE}: ni_vsds_step_sizes must be a list of positive numbers, not {sizes!r}"
        )
    return tuple(map(float, sizes))


def vocabulary(model: str) -> Vocabulary | None:
    """Reads the model's vocabulary. Returns None if i4vgen.json lists none."""
    own = hub.read_json(model, FILE) or {}
    return Vocabulary(frozenset(own["words"]), own.get("phrases", {})) if "words" in own else None
