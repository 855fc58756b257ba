# make train: set everything up and train the dcgan preset.  make test: the same set-up, then the tests.
# Another Python gets an environment of its own: make test PYTHON=python3.13 makes .venv-python3.13.
PYTHON ?= python3
VENV ?= .venv$(if $(filter-out python3,$(notdir $(PYTHON))),-$(notdir $(PYTHON)))
RUN := $(VENV)/bin/python
DATA := $(if $(JAXGEN_TEST_DATA),JAXGEN_TEST_DATA=$(abspath $(JAXGEN_TEST_DATA)))

PYTEST := $(DATA) $(RUN) -m pytest -n 2

.PHONY: train test test-slow parity test-rest lint clean

train: $(VENV)/installed
	$(RUN) -m train.gan --preset dcgan

test: $(VENV)/installed-test
	$(PYTEST)

# The second tier: what takes long and what a test of `make test` guards coarsely (tests/README.md).
test-slow: $(VENV)/installed-test
	$(PYTEST) -m 'slow and not parity'

# The comparisons with reference libraries (torch), which the package itself does not need. torchvision has no build for
# the CPU's torch: without its dependencies it does no harm, and tests/helpers/torch_reference.py says how it is imported.
# Gradio is here and not in the extra `test`: it is large, and holds Pillow below 13.
parity: $(VENV)/installed-parity
	$(PYTEST) -m parity

# All that `make test` leaves out, in one run.
test-rest: $(VENV)/installed-parity
	$(PYTEST) -m 'slow or parity'

lint: $(VENV)/installed-test
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m tests.benchmarks.render --check
	$(RUN) -m pyright --pythonpath $(RUN)

clean:
	rm -rf $(VENV) build *.egg-info

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "jaxgen needs Python 3.11 or newer: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml $(VENV)/bin/python
	$(RUN) -m pip install --quiet --editable .
	touch $@

$(VENV)/installed-test: pyproject.toml $(VENV)/bin/python
	$(RUN) -m pip install --quiet --editable '.[test]'
	touch $@ $(VENV)/installed

$(VENV)/installed-parity: $(VENV)/installed-test
	$(RUN) -m pip install --quiet --editable '.[test,parity,demo]'
	$(RUN) -m pip install --quiet --no-deps torchvision==0.28.0 torch-fidelity==0.4.0 lpips==0.1.4
	touch $@
