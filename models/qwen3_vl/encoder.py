"""One multimodal input of an embedder → token ids, positions and uint8 pixels."""

import unicodedata

from models.engine.processor import Processor
from models.inputs import EncodedInput, MultimodalInput
from models.qwen3_vl.prompts import VIDEO, Prompt, PromptTokenizer, content_of
from models.qwen3_vl.visuals import VisualBudget

CLOSING_TOKEN = "<|endoftext|>"  # noqa: S105 — a token of the vocabulary


class InputEncoder:
    """Encodes inputs for one checkpoint."""

    def __init__(
        self,
        processor: Processor,
        *,
        min_pixels: int,
        max_pixels: int,
        max_tokens: int,
        instruction: str,
    ) -> None:
        self.max_tokens = max_tokens
        self.instruction = instruction
        self._budget = VisualBudget(min_pixels, max_pixels, max_tokens)
        # Invariant: every input ends on the token that the model pools at.
        self._tokenizer = PromptTokenizer(processor, closing_token=CLOSING_TOKEN)

    def encode(self, item: MultimodalInput) -> EncodedInput:
        """Tokenise and resize one input. Raises InvalidInput where it cannot fit."""
        visuals = tuple(self._budget.grids(item.images, item.video))
        system = close_sentence(self.instruction if item.instruction is None else item.instruction)

        def prompt(text: str) -> Prompt:
            parts = content_of(text, len(item.images))
            if item.video:
                parts = (VIDEO, *(parts if text or item.images else ()))
            return Prompt(system, parts, visuals, item.video)

        return self._tokenizer.encode(prompt, item.text, self.max_tokens)


def close_sentence(instruction: str) -> str:
    """The instruction with a final full stop where it has no punctuation, as in the reference."""
    stripped = instruction.strip()
    if stripped and not unicodedata.category(stripped[-1]).startswith("P"):
        stripped += "."
    return stripped
