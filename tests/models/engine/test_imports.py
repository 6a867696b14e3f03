"""What loading a model brings into a process: seconds of every command, worker and replica."""

import subprocess
import sys

import pytest

HEAVY = ("torchvision", "torch._dynamo", "torch._inductor", "transformers", "sympy", "ray")
EMBED = """
from models.inputs import MultimodalInput
from models.options import EmbedderOptions
from models.qwen3_vl.embedder import Qwen3VLEmbedder
Qwen3VLEmbedder(EmbedderOptions(device="cpu")).embed([MultimodalInput(text="seat tube")])
"""
RERANK = """
from models.inputs import MultimodalInput
from models.options import RerankerOptions
from models.qwen3_vl.reranker import Qwen3VLReranker
seat, tube = MultimodalInput(text="seat"), MultimodalInput(text="tube")
Qwen3VLReranker(RerankerOptions(device="cpu")).score(seat, [seat, tube])
"""


@pytest.mark.parametrize("code", [EMBED, RERANK], ids=["embedder", "reranker"])
def test_a_model_needs_torch_alone(code: str) -> None:
    shown = f"import sys\nprint([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code + shown], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
