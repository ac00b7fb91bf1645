"""Reward models based on CLIP: PickScore, the CLIP score, and the base of HPSv2.1 and the pocket reward."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from i4vgen.errors import ModelError
from i4vgen.weights import hub

T = TypeVar("T", bound=hub.Loadable)

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
BATCH = 16  # images per forward pass, to bound the memory


def pick_score(cosine: Tensor, logit_scale: Tensor) -> Tensor:
    """Returns the cosine times the learned scale.

    PickScore's values are about 20 (Kirstain et al. 2023, arXiv 2305.01569).
    """
    return logit_scale.exp() * cosine


def clip_score(cosine: Tensor, _logit_scale: Tensor) -> Tensor:
    """Returns the cosine, clamped to at least 0, times 100.

    Hessel et al. (2021, arXiv 2104.08718) multiply by 2.5, but 100 is the usual scale.
    """
    return 100 * cosine.clamp(min=0)


FORMULAS = {"PickScore": pick_score, "CLIP score": clip_score}


def rgb_pixels(image: Image.Image) -> Tensor:
    """Converts an image of any mode to RGB pixels [3, H, W] in 0..1."""
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).float() / 255


def normalized(pixels: Tensor) -> Tensor:
    """Normalises pixels [3, H, W] in 0..1 with CLIP's mean and standard deviation."""
    mean, std = torch.tensor(OPENAI_CLIP_MEAN), torch.tensor(OPENAI_CLIP_STD)
    return (pixels - mean[:, None, None]) / std[:, None, None]


class ClipScore:
    """Scores images by their CLIP similarity to the prompt.

    Args:
        name: The name shown to users.
        clip: The CLIP model.
        tokenizer: The tokenizer of the model.
        to_pixels: A function that preprocesses images of any size and mode to [B, 3, S, S].
        formula: A function of cosines [B] and the model's logit scale that returns scores [B].
        mean: The mean of the formula's scores over generated candidates, subtracted from each score.
        std: The standard deviation of these scores, by which each score is divided.
    """

    def __init__(
        self,
        name: str,
        clip: CLIPModel,
        tokenizer: CLIPTokenizer,
        to_pixels: Callable[[list[Image.Image]], Tensor],
        formula: Callable[[Tensor, Tensor], Tensor],
        mean: float = 0.0,
        std: float = 1.0,
    ):
        self.name = name
        self.clip: Any = clip  # Any, because transformers' annotations are incomplete
        self.tokenizer = tokenizer
        self.to_pixels = to_pixels
        self.formula = formula
        self.mean = mean
        self.std = std

    @classmethod
    def from_pretrained(
        cls,
        model: str,
        name: str = "CLIP score",
        device: str = "cpu",
        processor: str | None = None,
        dtype: torch.dtype | None = None,
    ) -> ClipScore:
        """Loads a reward model that scores by one of `FORMULAS`.

        Args:
            model: A folder or hub id of a CLIPModel, such as yuvalkirstain/PickScore_v1.
            name: A key of `FORMULAS`.
            device: The device to run on.
            processor: A folder or hub id of the tokenizer and preprocessor_config.json; None uses `model`.
                PickScore requires laion/CLIP-ViT-H-14-laion2B-s32B-b79K.
            dtype: The dtype of the network; None means float32.

        Raises:
            ModelError: A part is missing or damaged, or the parts do not fit together.
        """
        processor = processor or model
        image_processor = load_part(CLIPImageProcessorPil, processor, ("preprocessor_config.json",))
        clip: Any = hub.load(CLIPModel, model, "", dtype or torch.float32)
        tokenizer = load_tokenizer(processor, clip.config.text_config.vocab_size, model)
        clip.to(device)

        def to_pixels(images: list[Image.Image]) -> Tensor:
            return image_processor(images, return_tensors="pt").pixel_values

        size = clip.config.vision_config.image_size
        if (given := to_pixels([Image.new("RGB", (8, 8))]).shape[-2:]) != (size, size):
            raise ModelError(
                f"preprocessor_config.json in {processor} makes images of {given[1]} x {given[0]}, {model}"
                f" wants {size} x {size}: download both again"
            )
        return cls(name, clip, tokenizer, to_pixels, FORMULAS[name])

    @torch.inference_mode()
    def score(self, prompt: str, images: list[Image.Image]) -> list[float]:
        """Returns one score per image of any size and mode. Higher is better."""
        text = self.embed_prompt(prompt)
        scores = []
        for batch in batches(images):
            cosine = F.cosine_similarity(self.embed_images(batch), text)
            scores += ((self.formula(cosine, self.clip.logit_scale.float()) - self.mean) / self.std).tolist()
        return scores

    def image_features(self, images: list[Image.Image]) -> np.ndarray:
        """Returns CLIP's image embeddings, float32 [N, D] with rows of norm 1."""
        features = [F.normalize(self.embed_images(batch), dim=-1) for batch in batches(images)]
        return torch.cat(features).cpu().numpy()

    @torch.inference_mode()
    def embed_prompt(self, prompt: str) -> Tensor:
        """Returns the embedding of a prompt, truncated to the model's context, as float32 [1, D]."""
        length = self.clip.config.text_config.max_position_embeddings
        tokens = self.tokenizer([prompt], truncation=True, max_length=length, return_tensors="pt")
        return self.clip.get_text_features(**tokens.to(self.clip.device)).pooler_output.float()

    @torch.inference_mode()
    def embed_images(self, images: list[Image.Image]) -> Tensor:
        """Returns the embeddings of images, float32 [B, D], from one forward pass."""
        pixels = self.to_pixels(images).to(self.clip.device, self.clip.dtype)
        return self.clip.get_image_features(pixel_values=pixels).pooler_output.float()


def batches(images: list[Image.Image]) -> Iterator[list[Image.Image]]:
    """Splits images into batches of at most `BATCH`."""
    for start in range(0, len(images), BATCH):
        yield images[start : start + BATCH]


def load_tokenizer(processor: str, vocab_size: int, model: str) -> CLIPTokenizer:
    """Loads the tokenizer in `processor` and checks its vocabulary size against the network of `model`.

    Raises:
        ModelError: The tokenizer is missing or damaged, or its vocabulary size differs from `vocab_size`.
    """
    tokenizer = load_part(CLIPTokenizer, processor, TOKENIZER_FILES)
    if len(tokenizer) != vocab_size:
        raise ModelError(
            f"the tokenizer in {processor} has {len(tokenizer)} tokens, {model} knows {vocab_size}: download"
            " both again"
        )
    return tokenizer


def load_part(cls: type[T], model: str, files: Sequence[str]) -> T:
    """Loads the tokenizer, image processor or configuration in a model's root folder.

    Args:
        cls: The class to load.
        model: A folder or hub id.
        files: The required file, followed by optional files.

    Raises:
        ModelError: The required file is missing, or a file is damaged or cannot be downloaded.
    """
    required = hub.required_file(model, files[0])
    for name in files[1:]:
        hub.file(model, name)  # downloads the file to the same folder
    try:
        with hub.quiet():
            return cls.from_pretrained(required.parent)
    except Exception as error:  # tokenizers raises bare Exception for damaged files
        raise ModelError(f"cannot load {required} ({hub.first_line(error)}): download it again") from error
