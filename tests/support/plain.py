"""The reference: plain transformers, one input at a time, as its documentation shows."""

from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoProcessor, Qwen3VLForConditionalGeneration, Qwen3VLModel
from transformers.video_utils import VideoMetadata

from models.inputs import MultimodalInput


class PlainEmbedder:
    """processor → Qwen3VLModel → last token, float32."""

    def __init__(self, folder: str) -> None:
        self.model = Qwen3VLModel.from_pretrained(folder, dtype=torch.float32).eval()
        self.processor: Any = AutoProcessor.from_pretrained(folder)

    @torch.inference_mode()
    def states(self, item: MultimodalInput) -> torch.Tensor:
        """Last hidden states of one input, [tokens, d]. Images must be on the patch grid."""
        content: list[dict[str, str]] = [{"type": "video"}] if item.video else []
        content += [{"type": "image"}] * len(item.images)
        if item.text:
            content.append({"type": "text", "text": item.text})
        instruction = item.instruction or "Represent the user's input."
        prompt = self.processor.apply_chat_template(
            [
                {"role": "system", "content": [{"type": "text", "text": instruction}]},
                {"role": "user", "content": content},
            ],
            tokenize=False,
            add_generation_prompt=True,
        )
        extra: dict[str, Any] = {}
        if item.images:
            extra["images"] = [Image.fromarray(np.asarray(image)) for image in item.images]
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
        inputs = self.processor(text=[prompt], do_resize=False, return_tensors="pt", **extra)
        states: torch.Tensor = self.model(**inputs, use_cache=False).last_hidden_state
        return states[0]

    def embed(self, item: MultimodalInput) -> np.ndarray:
        """float32[d], unit length."""
        return torch.nn.functional.normalize(self.states(item)[-1], dim=0).numpy()


class PlainReranker:
    """processor → Qwen3VLForConditionalGeneration → P("yes") against "no", one pair at a time."""

    def __init__(self, folder: str) -> None:
        self.model = Qwen3VLForConditionalGeneration.from_pretrained(
            folder, dtype=torch.float32
        ).eval()
        self.processor: Any = AutoProcessor.from_pretrained(folder)
        self.answers = self.processor.tokenizer.convert_tokens_to_ids(["yes", "no"])

    def prompt(self, query: MultimodalInput, document: MultimodalInput, instruction: str) -> str:
        content = [{"type": "text", "text": f"<Instruct>: {instruction}"}]
        for prefix, item in (("<Query>:", query), ("\n<Document>:", document)):
            content.append({"type": "text", "text": prefix})
            content += [{"type": "image"}] * len(item.images)
            if item.text or not item.images:
                content.append({"type": "text", "text": item.text or "NULL"})
        system = (
            "Judge whether the Document meets the requirements based on the Query and the "
            'Instruct provided. Note that the answer can only be "yes" or "no".'
        )
        rendered = self.processor.apply_chat_template(
            [
                {"role": "system", "content": [{"type": "text", "text": system}]},
                {"role": "user", "content": content},
            ],
            tokenize=False,
            add_generation_prompt=True,
        )
        return str(rendered)

    @torch.inference_mode()
    def score(self, query: MultimodalInput, document: MultimodalInput, instruction: str) -> float:
        """One pair; images must be on the patch grid."""
        images = [Image.fromarray(np.asarray(each)) for each in (*query.images, *document.images)]
        inputs = self.processor(
            text=[self.prompt(query, document, instruction)],
            images=images or None,
            do_resize=False,
            return_tensors="pt",
        )
        logits = self.model(**inputs, use_cache=False, logits_to_keep=1).logits[0, -1]
        yes, no = logits[self.answers]
        return float(torch.sigmoid(yes - no))
