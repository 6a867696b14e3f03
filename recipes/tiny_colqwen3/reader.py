"""The vision tower learns to read: each visual token points to the codes of what it shows.

Two softmax losses over the cells of a batch and the tokens in it: which tokens a cell shows, and
which cells show a token, which is what MaxSim asks. A third draws each cell towards the sum of
the codes, which teaches single letters first. Training sees grey windows of pages.
"""

import logging
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import Qwen3VLConfig
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLVisionModel

from recipes.tiny.look import _LUMA, _look_at_neighbours, patchify
from recipes.tiny_colqwen3 import architecture as arch
from recipes.tiny_colqwen3.codes import Codes
from recipes.tiny_colqwen3.letters import LETTERS, Letters
from recipes.tiny_colqwen3.pages import PrintedPages
from recipes.tiny_colqwen3.sharing import SharedMlp, SharedPatches
from recipes.tiny_colqwen3.windows import Phase, Windows, batches

log = logging.getLogger(__name__)

# Letters are read by this layer, words by the next.
LETTER_LAYER = 1
# Words soon make the lower layers forget letters unless these learn much more slowly.
LOWER_GAIN = 0.1
RANDOM_TOKENS = 768
WARM_UP_STEPS = 30
SNAPSHOT_STEPS = 100


class Reader(nn.Module):
    """Vision tower, codes that it points to, and the code of an empty cell."""

    table: torch.Tensor
    influence: torch.Tensor

    def __init__(self, config: Qwen3VLConfig, codes: Codes, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.visual = Qwen3VLVisionModel._from_config(config.vision_config)
        self.visual.patch_embed = SharedPatches()
        self.register_buffer("table", codes.table.clone())
        self.blank = nn.Parameter(functional.normalize(torch.randn(arch.CODE_DIMS), dim=0))
        self.log_scale = nn.Parameter(torch.tensor(math.log(12.0)))
        self.letters = nn.Linear(arch.VISION_HIDDEN, len(LETTERS))
        self.register_buffer("influence", codes.influence.clone())
        with torch.no_grad():
            self._start_weights()

    def _start_weights(self) -> None:
        """Shared weights where there can be, and heads that start out looking at neighbours."""
        nn.init.zeros_(self.visual.pos_embed.weight)
        self.visual.pos_embed.weight.requires_grad_(False)
        for module in self.visual.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=module.in_features**-0.5)
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.letters.weight, std=0.02)
        nn.init.constant_(self.letters.bias, -3.0)
        for number, block in enumerate(self.visual.blocks):
            # Letters first: what neighbours show is let in as training finds it useful.
            block.attn.proj.weight.mul_(0.05)
            block.mlp = SharedMlp(pooled=number > 0)
            first = arch.VISION_HEADS * number
            _look_at_neighbours(block.attn, self.visual.rotary_pos_emb.inv_freq, first)

    def forward(self, windows: Windows) -> tuple[torch.Tensor, torch.Tensor]:
        """Unit vectors (cells, CODE_DIMS) of what cells show; logits (patches, 36) of letters."""
        count, height, width = windows.images.shape
        grid = torch.tensor([[1, height // 16, width // 16]]).expand(count, 3)
        patches = torch.from_numpy(np.concatenate([patchify(image) for image in windows.images]))
        seen: list[torch.Tensor] = []
        hook = self.visual.blocks[LETTER_LAYER].register_forward_hook(
            lambda _module, _inputs, hidden: seen.append(hidden)
        )
        out = self.visual(patches, grid_thw=grid)
        hook.remove()
        cells = (out.pooler_output + out.deepstack_features[0]).float()
        letters = self.letters(functional.layer_norm(seen[0], seen[0].shape[-1:]))
        return functional.normalize(cells[:, : arch.CODE_DIMS], dim=-1), letters.float()

    def spell(self, patches: torch.Tensor) -> torch.Tensor:
        """Logits (patches, 36) of letters, by the lower layers without their attention."""
        hidden = self.visual.patch_embed(patches)
        for block in self.visual.blocks[: LETTER_LAYER + 1]:
            hidden = hidden + block.mlp(block.norm2(hidden))
        letters: torch.Tensor = self.letters(functional.layer_norm(hidden, hidden.shape[-1:]))
        return letters.float()

    @torch.no_grad()
    def export(self) -> dict[str, torch.Tensor]:
        """State of the tower in the layout of the checkpoint: three channels, nothing aside."""
        state = {
            name: value.detach().clone()
            for name, value in self.visual.state_dict().items()
            if not name.startswith("patch_embed.") and ".mlp." not in name
        }
        weight, state["patch_embed.proj.bias"] = self.visual.patch_embed.matrix()
        luma = torch.tensor(_LUMA).view(1, 3, 1, 1, 1)
        filters = weight.view(-1, 1, 1, 16, 16) * luma / 2
        state["patch_embed.proj.weight"] = filters.expand(-1, 3, 2, 16, 16).contiguous()
        for number, block in enumerate(self.visual.blocks):
            for name, value in block.mlp.state().items():
                state[f"blocks.{number}.mlp.{name}"] = value
        for merger in ("merger", "deepstack_merger_list.0"):
            state[f"{merger}.linear_fc2.weight"][arch.ASIDE] = 0.0
            state[f"{merger}.linear_fc2.bias"][arch.ASIDE] = 0.0
        return state


def reading_loss(
    reader: Reader, windows: Windows, pull: float
) -> tuple[torch.Tensor, dict[str, float]]:
    """Loss of a batch; `pull` weighs what is only there to begin with, sums of codes and letters.

    Also what to log: the loss of letters, how often a cell's nearest token is one that it shows
    ("read"), and how often a token's nearest cell shows it, by influence ("placed").
    """
    cells, letters = reader(windows)
    shown, column = torch.from_numpy(windows.tokens).long().unique(return_inverse=True)
    others = torch.randint(len(reader.table), (RANDOM_TOKENS,))
    others = others[~torch.isin(others, shown)].unique()
    codes = functional.normalize(reader.table[torch.cat([shown, others])], dim=-1)
    codes = torch.cat([codes, functional.normalize(reader.blank, dim=0)[None]])
    weights = torch.zeros(len(cells), len(codes))
    place = (torch.from_numpy(windows.cells), column)
    value = torch.from_numpy(windows.weights) * reader.influence[shown][column]
    weights.index_put_(place, value, accumulate=True)
    weights[:, -1] = (weights.sum(1) == 0).float()
    logits = reader.log_scale.exp() * cells @ codes.T
    wanted = weights / weights.sum(1, keepdim=True)
    by_cell = -(wanted * logits.log_softmax(1)).sum(1).mean()
    columns, marks = logits[:, : len(shown)], weights[:, : len(shown)]
    found = (columns + marks.clamp(min=1e-9).log()).logsumexp(0) - columns.logsumexp(0)
    influence = reader.influence[shown]
    # `marks` carries the influence as a factor, which must not count as a loss.
    found = found - influence.clamp(min=1e-9).log()
    by_token = -(found * influence).sum() / influence.sum()
    target = functional.normalize(weights @ codes.detach(), dim=-1)
    loss = by_cell + by_token + pull * (1 - (cells * target).sum(1)).mean()
    spelling = letter_loss(letters, torch.from_numpy(windows.letters))
    loss = loss + pull * spelling
    with torch.no_grad():
        full = weights[:, :-1].sum(1) > 0
        read = weights[full].gather(1, logits[full].argmax(1, keepdim=True)) > 0
        best = marks.gather(0, columns.argmax(0, keepdim=True))[0] > 0
        figures = {
            "loss": loss.item(),
            "letters": spelling.item(),
            "read": read.float().mean().item(),
            "placed": ((best * influence).sum() / influence.sum()).item(),
            "scale": reader.log_scale.exp().item(),
        }
    return loss, figures


def letter_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean over patches of the binary cross entropies of all letters, the doubtful left out."""
    losses = functional.binary_cross_entropy_with_logits(
        logits, (targets > 0).float(), reduction="none"
    )
    return (losses * (targets >= 0)).sum(1).mean()


def _by_depth(reader: Reader) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Parameters that letters depend on, and the others of the tower."""
    modules = [reader.visual.patch_embed, *reader.visual.blocks[: LETTER_LAYER + 1], reader.letters]
    lower = [p for module in modules for p in module.parameters()]
    known = {id(p) for p in lower}
    rest = [p for p in reader.visual.parameters() if p.requires_grad and id(p) not in known]
    return lower, rest


def train_spelling(
    reader: Reader, pages: PrintedPages, letters: Letters, phase: Phase, seed: int, lr: float = 2e-3
) -> None:
    """Train the lower layers in place to name the letters of single patches that hold some.

    A tower that starts with whole windows sees nothing but ink and paper for hundreds of steps.
    """
    trained = [reader.visual.patch_embed, reader.letters]
    for block in reader.visual.blocks[: LETTER_LAYER + 1]:
        trained += [block.norm2, block.mlp]
    parameters = [p for module in trained for p in module.parameters()]
    optimiser = torch.optim.AdamW(parameters, weight_decay=0.02, betas=(0.9, 0.98))
    running = None
    for step, windows in enumerate(batches(pages, letters, phase, seed)):
        for group in optimiser.param_groups:
            group["lr"] = lr * min(1.0, (step + 1) / WARM_UP_STEPS, 1.1 - step / phase.steps)
        written = (windows.letters > 0).any(1)
        patches = np.concatenate([patchify(image) for image in windows.images])[written]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = reader.spell(torch.from_numpy(patches))
        loss = letter_loss(logits, torch.from_numpy(windows.letters[written]))
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        running = loss.item() if running is None else 0.95 * running + 0.05 * loss.item()
        if step % 50 == 0 or step == phase.steps - 1:
            log.info("spelling step %d of %d: loss %.3f", step, phase.steps, running)


def train_reader(
    reader: Reader,
    pages: PrintedPages,
    letters: Letters,
    phases: Sequence[Phase],
    seed: int,
    lr: float = 1.5e-3,
    snapshot: Path | None = None,
) -> None:
    """Train in place; the learning rate falls linearly over all phases."""
    lower, upper = _by_depth(reader)
    optimiser = torch.optim.AdamW(
        [
            {"params": lower, "weight_decay": 0.0, "gain": LOWER_GAIN},
            {"params": [p for p in upper if p.ndim > 1], "weight_decay": 0.02, "gain": 1.0},
            {"params": [p for p in upper if p.ndim == 1], "weight_decay": 0.0, "gain": 1.0},
            {"params": [reader.blank], "weight_decay": 0.0, "gain": 1.0},
            {"params": [reader.log_scale], "weight_decay": 0.0, "gain": 5.0},
        ],
        betas=(0.9, 0.98),
    )
    total = sum(phase.steps for phase in phases)
    step, running = 0, dict[str, float]()
    for number, phase in enumerate(phases):
        for windows in batches(pages, letters, phase, seed + number):
            left = 1 - step / total
            for group in optimiser.param_groups:
                group["lr"] = group["gain"] * lr * min(1.0, (step + 1) / WARM_UP_STEPS, 1.02 * left)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss, figures = reading_loss(reader, windows, pull=2.0 * left)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(reader.parameters(), 1.0)
            optimiser.step()
            for name, value in figures.items():
                running[name] = 0.95 * running.get(name, value) + 0.05 * value
            if step % 20 == 0 or step == total - 1:
                shown = ", ".join(f"{name} {value:.3f}" for name, value in running.items())
                log.info("reader step %d of %d: %s", step, total, shown)
            if snapshot is not None and step % SNAPSHOT_STEPS == 0:
                torch.save(reader.state_dict(), snapshot)
            step += 1
