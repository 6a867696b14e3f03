"""The made-up pages that the shipped quality predictor learnt from: image, transcript, fields.

    python -m recipes.ocr_quality.corpus FONTS OUT

FONTS is a folder with the fonts of Debian packages, unpacked (the list is in
models/checkpoints/ocr-quality/README.md). OUT gets NAME.png, NAME.txt and, where there are fields,
NAME.json; names begin with the kind of page. The same fonts and seed give the same pages.
"""

import argparse
import json
import random
from pathlib import Path

from recipes.ocr_quality.forms import form
from recipes.ocr_quality.letters import letter
from recipes.ocr_quality.receipts import receipt
from recipes.ocr_quality.sheet import FontShelf

KINDS = {
    "receipt": (150, receipt),
    "form": (130, form),
    "letter": (80, letter),
    "japanese": (16, lambda fonts, rng: letter(fonts, rng, "ja")),
    "korean": (12, lambda fonts, rng: letter(fonts, rng, "ko")),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("fonts", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--share", type=float, default=1.0, help="of the usual number of pages")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    fonts = FontShelf(args.fonts)
    for kind, (count, make) in KINDS.items():
        for number in range(round(count * args.share)):
            image, truth, fields = make(fonts, random.Random(f"{args.seed} {kind} {number}"))
            stem = args.out / f"{kind}-{number:03}"
            image.save(stem.with_suffix(".png"))
            stem.with_suffix(".txt").write_text(truth)
            if fields:
                stem.with_suffix(".json").write_text(json.dumps(fields, indent=1))


if __name__ == "__main__":
    main()
