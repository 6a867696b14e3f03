"""The reference that ours is held to and measured against: plain transformers, as documented.

Tests compare values with it, benchmarks compare times, recipes measure the checkpoints that they
made.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoProcessor, Qwen3VLForConditionalGeneration, Qwen3VLModel
from transformers.video_utils import VideoMetadata

from models.inputs import MultimodalInput, to_image

INSTRUCTION = "Represent the user's input."
JUDGE = (
    "Judge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".'
)
Message = list[dict[str, str]]


class PlainEmbedder:
    """processor → Qwen3VLModel → last token, one input at a time or in padded batches.

    Images must be on the patch grid, unless `resize` lets the processor put them there.
    """

    def __init__(self, model: Any, processor: Any, *, resize: bool = False) -> None:
        self.model = model.eval()
        self.processor = processor
        self._resize = {} if resize else {"do_resize": False}

    @classmethod
    def from_folder(
        cls,
        folder: Path | str,
        *,
        resize: bool = False,
        dtype: torch.dtype = torch.float32,
        device: str = "cpu",
    ) -> "PlainEmbedder":
        """Load a checkpoint."""
        model = Qwen3VLModel.from_pretrained(folder, dtype=dtype, device_map={"": device})
        return cls(model, AutoProcessor.from_pretrained(folder), resize=resize)

    @torch.inference_mode()
    def states(self, item: MultimodalInput) -> torch.Tensor:
        """Last hidden states of one input, [tokens, d]."""
        extra: dict[str, Any] = {}
        if item.images:
            extra["images"] = [_picture(image) for image in item.images]
        if item.video:
            frames = [np.asarray(frame) for frame in item.video.frames]
            extra["videos"] = [np.stack(frames)]
            extra["video_metadata"] = [
                VideoMetadata(
                    total_num_frames=len(frames),
                    fps=item.video.fps,
                    frames_indices=list(range(len(frames))),
                )
            ]
            extra["do_sample_frames"] = False
        inputs = self.processor(
            text=[self._prompt(item)], return_tensors="pt", **self._resize, **extra
        )
        states: torch.Tensor = self.model(**inputs, use_cache=False).last_hidden_state
        return states[0]

    def embed(self, item: MultimodalInput) -> np.ndarray:
        """One input → float32[d], unit length."""
        return torch.nn.functional.normalize(self.states(item)[-1], dim=0).numpy()

    @torch.inference_mode()
    def embed_padded(self, items: Sequence[MultimodalInput], batch_size: int) -> np.ndarray:
        """Inputs in padded batches → float32[len(items), d], unit length."""
        parts = []
        for start in range(0, len(items), batch_size):
            inputs = self._padded(items[start : start + batch_size])
            states = self.model(**inputs, use_cache=False).last_hidden_state
            last = inputs["attention_mask"].sum(1) - 1
            pooled = states[torch.arange(len(last), device=states.device), last].float()
            parts.append(torch.nn.functional.normalize(pooled, dim=-1).cpu().numpy())
        return np.concatenate(parts)

    def padding_share(self, items: Sequence[MultimodalInput], batch_size: int) -> float:
        """The share of tokens that are padding."""
        starts = range(0, len(items), batch_size)
        masks = [self._padded(items[s : s + batch_size])["attention_mask"] for s in starts]
        real = sum(int(mask.sum()) for mask in masks)
        return 1 - real / sum(int(mask.numel()) for mask in masks)

    def _padded(self, items: Sequence[MultimodalInput]) -> dict[str, torch.Tensor]:
        """One right-padded batch on the device."""
        self.processor.tokenizer.padding_side = "right"
        inputs = self.processor(
            text=[self._prompt(item) for item in items],
            images=[_picture(image) for item in items for image in item.images],
            padding=True,
            return_tensors="pt",
            **self._resize,
        )
        return dict(inputs.to(self.model.device))

    def _prompt(self, item: MultimodalInput) -> str:
        content: Message = [{"type": "video"}] if item.video else []
        content += [{"type": "image"}] * len(item.images)
        if item.text:
            content.append({"type": "text", "text": item.text})
        return _rendered(self.processor, item.instruction or INSTRUCTION, content)


class PlainReranker:
    """processor → Qwen3VLForConditionalGeneration → "yes" against "no", one pair at a time.

    `kept_logits`: positions for which the head is computed, 0 for all, as the documentation has it.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        dtype: torch.dtype = torch.float32,
        resize: bool = False,
        kept_logits: int = 1,
    ) -> None:
        self.model = Qwen3VLForConditionalGeneration.from_pretrained(folder, dtype=dtype).eval()
        self.processor: Any = AutoProcessor.from_pretrained(folder)
        self._answers = self.processor.tokenizer.convert_tokens_to_ids(["yes", "no"])
        self._resize = {} if resize else {"do_resize": False}
        self._kept_logits = kept_logits

    def prompt(self, query: MultimodalInput, document: MultimodalInput, instruction: str) -> str:
        """The conversation that Qwen3-VL-Reranker was trained on."""
        content: Message = [{"type": "text", "text": f"<Instruct>: {instruction}"}]
        for prefix, item in (("<Query>:", query), ("\n<Document>:", document)):
            content.append({"type": "text", "text": prefix})
            content += [{"type": "image"}] * len(item.images)
            if item.text or not item.images:
                content.append({"type": "text", "text": item.text or "NULL"})
        return _rendered(self.processor, JUDGE, content)

    @torch.inference_mode()
    def logit(self, query: MultimodalInput, document: MultimodalInput, instruction: str) -> float:
        """The logit of "yes" less that of "no" for one pair."""
        inputs = self.processor(
            text=[self.prompt(query, document, instruction)],
            images=[_picture(image) for image in (*query.images, *document.images)] or None,
            return_tensors="pt",
            **self._resize,
        )
        output = self.model(**inputs, use_cache=False, logits_to_keep=self._kept_logits)
        yes, no = output.logits[0, -1, self._answers]
        return float(yes - no)

    def score(self, query: MultimodalInput, document: MultimodalInput, instruction: str) -> float:
        """P("yes") of one pair."""
        return float(torch.sigmoid(torch.tensor(self.logit(query, document, instruction))))


def _picture(image: Any) -> Image.Image:
    return to_image(image).convert("RGB")


def _rendered(processor: Any, system: str, content: Message) -> str:
    messages = [
        {"role": "system", "content": [{"type": "text", "text": system}]},
        {"role": "user", "content": content},
    ]
    return str(processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
