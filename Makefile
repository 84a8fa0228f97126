# `make demo [AUDIO=path]` and `make test` do their own set-up in .venv; a second call skips it.
# A set-up is done anew when pyproject.toml or constraints.txt change.

# TORCH_INDEX: address of an index with CPU builds of PyTorch, for those whose own index offers CUDA builds.
TORCH_INDEX ?=
PYTHON ?= $(shell python3.11 -c '' 2>/dev/null && echo python3.11 || echo python3)
VENV := .venv
BIN := $(VENV)/bin
OUTPUT := outputs/demo
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q

.PHONY: demo test slow kill check docs graphs judges clean help

help:
	@echo "make demo [AUDIO=path]  encode, decode and measure audio; write $(OUTPUT)/report.html"
	@echo "make test               run the quick tests"
	@echo "make judges             install what the group \"judges\" of measures needs"
	@echo "make slow               run the slow tests"
	@echo "make kill               kill training runs at random moments; compare the bits"
	@echo "make check              lint and type-check"
	@echo "make graphs             write the ONNX graphs of the shipped tokenizers anew"
	@echo "make docs               build the documentation into site/"
	@echo "make clean              delete .venv and everything built"

demo: $(VENV)/.demo-ready
	@$(BIN)/audiotokens demo $(if $(AUDIO),"$(AUDIO)") --output $(OUTPUT)

test: $(VENV)/.test-ready
	@$(PYTEST) -n auto --dist loadfile -m "not slow" tests

slow: $(VENV)/.test-ready
	@$(PYTEST) -m slow tests

kill: $(VENV)/.test-ready
	@$(PYTEST) -m slow tests/training/test_kill.py

check: $(VENV)/.test-ready
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy

docs: $(VENV)/.test-ready
	@$(BIN)/zensical build --strict --clean
	@$(BIN)/audiotokens export speech-16k-stream --web site/try \
		|| echo "The page in which the site's readers try a tokenizer, site/try, is left out."

graphs: $(VENV)/.test-ready
	@for folder in src/audiotokens/weights/*/; do $(BIN)/audiotokens export $$folder --onnx $$folder; done

# The second line installs without requirements: they are not used, and some do not install on a current Python.
judges: $(VENV)/.torch-ready
	@$(PIP) --editable ".[visqol,mos,speaker,asr,pitch]"
	@$(PIP) --no-deps distillmos xls-r-sqa resemblyzer

clean:
	@rm -rf $(VENV) site build dist outputs .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis

# The demo runs the exported graphs of the shipped tokenizers, so it needs no PyTorch.
$(VENV)/.demo-ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "$(PYTHON) is older than Python 3.11: make $(MAKECMDGOALS) PYTHON=path/to/newer"; exit 1; }
	@test -x $(BIN)/python || { echo "Making $(VENV) with $$($(PYTHON) --version)"; $(PYTHON) -m venv $(VENV); }
	@echo "Installing audiotokens (once)"
	@$(PIP) --editable ".[onnx,metrics,media,demo]"
	@touch $@

# PyTorch comes alone, before what depends on it, so that nothing else decides which build of it is taken.
$(VENV)/.torch-ready: constraints.txt | $(VENV)/.demo-ready
	@echo "Installing PyTorch (once)"
	@$(PIP) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) torch
	@touch $@

$(VENV)/.test-ready: $(VENV)/.demo-ready $(VENV)/.torch-ready
	@echo "Installing the test tools (once)"
	@$(PIP) --editable ".[torch,onnx,export,metrics,media,anchors,demo,hub,transformers,docs,dev]"
	@touch $@
