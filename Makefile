# make demo | test | check | bench: each sets up what it needs, from a clean clone.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
UV_VERSION = 0.13.8
UV = .venv/bin/uv
RUN = .venv/bin
READY = .venv/.ready

# Workers that cannot keep byte-code compile torch and transformers anew at every start.
export PYTHONDONTWRITEBYTECODE =
export PYTHONPYCACHEPREFIX = $(CURDIR)/.cache/pycache

.PHONY: demo test check bench setup system format clean

demo: setup system ## Index a small library (or PDFS=folder) and search it
	$(RUN)/quire demo $(if $(PDFS),--pdfs "$(PDFS)")

test: setup system ## Run the tests
	$(RUN)/python -m pytest

check: setup ## Lint, format and types
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy

bench: setup system ## Measure: embedder, store, retrieval
	$(RUN)/python -m benchmarks.embedder
	$(RUN)/python -m benchmarks.store
	$(RUN)/python -m benchmarks.retrieval

format: setup
	$(RUN)/ruff format .
	$(RUN)/ruff check --fix .

setup: $(READY)

$(UV):
	$(PYTHON) -m venv .venv
	$(RUN)/pip install --quiet uv==$(UV_VERSION)

# --inexact: uv itself lives in the environment that it fills.
$(READY): pyproject.toml uv.lock | $(UV)
	$(UV) sync --frozen --inexact --compile-bytecode
	@touch $@

# Tesseract reads pages without a text layer. Without it they are indexed by their look alone.
system:
	@if [ "$$(tesseract --list-langs 2>/dev/null | grep -c -x -e eng -e jpn -e kor)" = 3 ]; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
			--no-install-recommends tesseract-ocr tesseract-ocr-eng tesseract-ocr-jpn \
			tesseract-ocr-kor; \
	elif sudo -n true 2>/dev/null && command -v apt-get >/dev/null; then \
		sudo apt-get update -qq && sudo DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
			--no-install-recommends tesseract-ocr tesseract-ocr-eng tesseract-ocr-jpn \
			tesseract-ocr-kor; \
	else \
		echo "Tesseract with English, Japanese and Korean is not installed, and apt cannot be used here:" >&2; \
		echo "scanned pages will have no text and the OCR tests fail. Install" >&2; \
		echo "tesseract-ocr, tesseract-ocr-jpn and tesseract-ocr-kor." >&2; \
	fi

clean:
	rm -rf .venv .cache quire-demo
