"""Rewards that are a CLIP and nothing else: PickScore and the CLIP score here, others by their own loaders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from PIL import Image
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from i4vgen import hub
from i4vgen.errors import ModelError

T = TypeVar("T", bound=hub.Loadable)

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
BATCH = 16  # images per forward pass: bounds the memory, whatever the number of candidates


def pick_score(cosine: torch.Tensor, logit_scale: torch.Tensor) -> torch.Tensor:
    """Cosine times the learned scale: around 20 with the released model (Kirstain et al. 2023,
    arXiv 2305.01569).
    """
    return logit_scale.exp() * cosine


def clip_score(cosine: torch.Tensor, _logit_scale: torch.Tensor) -> torch.Tensor:
    """Cosine, at least 0, in hundredths: 0 to 100 (Hessel et al. 2021, arXiv 2104.08718, who multiply by 2.5;
    by 100 is what people report).
    """
    return 100 * cosine.clamp(min=0)


FORMULAS = {"PickScore": pick_score, "CLIP score": clip_score}


class ClipScore:
    """Scores images by how similar CLIP finds them to the prompt."""

    def __init__(
        self,
        name: str,
        clip: CLIPModel,
        tokenizer: CLIPTokenizer,
        to_pixels: Callable[[list[Image.Image]], torch.Tensor],
        formula: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        mean: float = 0.0,
        std: float = 1.0,
    ):
        """to_pixels: images of any size and mode -> [B, 3, S, S], as the model was trained.
        formula: cosines [B] and the model's logit scale -> scores [B].
        mean, std: of the formula's scores over generated candidates; 0 and 1 leave them on their customary
        scale.
        """
        self.name = name
        self.clip: Any = clip  # whose annotations leave open what its parts are
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
        """Loads a score of `FORMULAS`, on its customary scale: not mean 0, deviation 1.

        model: a folder or a hub id of a CLIPModel: yuvalkirstain/PickScore_v1, openai/clip-vit-large-patch14.
        processor: the same for its tokenizer and preprocessor_config.json, None if they lie with the model.
        PickScore's are those of laion/CLIP-ViT-H-14-laion2B-s32B-b79K. dtype: None for float32.
        Raises `ModelError` if anything is missing, damaged or does not fit together.
        """
        processor = processor or model
        image_processor = load_part(CLIPImageProcessorPil, processor, ("preprocessor_config.json",))
        clip: Any = hub.load(CLIPModel, model, "", dtype or torch.float32)
        tokenizer = load_tokenizer(processor, clip.config.text_config.vocab_size, model)
        clip.to(device)

        def to_pixels(images: list[Image.Image]) -> torch.Tensor:
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
        """One score per image of any size and mode. Higher is better."""
        text = self.embed_prompt(prompt)
        scores = []
        for start in range(0, len(images), BATCH):
            cosine = F.cosine_similarity(self.embed_images(images[start : start + BATCH]), text)
            scores += ((self.formula(cosine, self.clip.logit_scale.float()) - self.mean) / self.std).tolist()
        return scores

    @torch.inference_mode()
    def embed_prompt(self, prompt: str) -> torch.Tensor:
        """[1, D] in float32."""
        # One prompt needs no padding. Longer ones than the model can read are cut.
        length = self.clip.config.text_config.max_position_embeddings
        tokens = self.tokenizer([prompt], truncation=True, max_length=length, return_tensors="pt")
        return self.clip.get_text_features(**tokens.to(self.clip.device)).pooler_output.float()

    @torch.inference_mode()
    def embed_images(self, images: list[Image.Image]) -> torch.Tensor:
        """[B, D] in float32, in one forward pass."""
        pixels = self.to_pixels(images).to(self.clip.device, self.clip.dtype)
        return self.clip.get_image_features(pixel_values=pixels).pooler_output.float()


def load_tokenizer(processor: str, words: int, model: str) -> CLIPTokenizer:
    """The tokenizer of a folder or a hub id, for the network of `model`, which knows so many tokens.

    Raises `ModelError` if it is missing or damaged, or is not the network's.
    """
    tokenizer = load_part(CLIPTokenizer, processor, TOKENIZER_FILES)
    if len(tokenizer) != words:
        raise ModelError(
            f"the tokenizer in {processor} has {len(tokenizer)} tokens, {model} knows {words}: download both"
            " again"
        )
    return tokenizer


def load_part(cls: type[T], model: str, files: Sequence[str]) -> T:
    """The tokenizer, the image processor or the configuration of a model, from the root of its folder.

    files: the one that must be there, then those that may.
    Raises `ModelError` if it is missing or damaged.
    """
    found = hub.required_file(model, files[0])
    for name in files[1:]:
        hub.file(model, name)  # downloaded to the same folder
    try:
        with hub.quiet():
            return cls.from_pretrained(found.parent)
    except Exception as error:  # tokenizers raises bare Exception for damaged files
        raise ModelError(f"cannot load {found} ({hub.first_line(error)}): download it again") from error
