"""The former name of `python -m recipes.ocr_quality.corpus`; it goes with 0.3."""

import runpy

if __name__ == "__main__":
    runpy.run_module("recipes.ocr_quality.corpus", run_name="__main__")
