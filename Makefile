# `make demo` runs the app, `make test` the tests, `make test-slow` the slowest ones. All set up .venv first and need only
# Python 3.10 or newer (the tests also need Chromium, nginx and Caddy, and install them if they are missing).

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test test-slow fresh lint docs sheet evidence space clean

demo: $(VENV)/demo
	$(BIN)/python app.py

# In the order of the files: the long ones come first, and the many short ones of tests/unit fill up the end. The longest
# tests are listed, so that one that has become slow is noticed.
PYTEST = $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations 40

test: $(VENV)/test
	tests/ensure-chromium
	tests/ensure-proxies
	$(PYTEST) -m "not slow"

test-slow: $(VENV)/test
	tests/ensure-chromium
	tests/ensure-proxies
	$(PYTEST) -m slow

# Both commands on a bare Debian; needs root and debootstrap.
fresh:
	tests/fresh

# The stubs that Gradio has written go first: pyright would go by them, however old they are.
lint: $(VENV)/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/deptry .
	find i4vgen/studio -name '*.pyi' -delete
	$(BIN)/pyright --pythonpath $(BIN)/python

# The documentation with its API reference, in site/.
docs: $(VENV)/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

sheet: $(VENV)/demo
	$(BIN)/python -m benchmarks.contact_sheet

# Hours on a CPU. Stopped, it goes on from runs/evidence.
evidence: $(VENV)/test
	$(BIN)/python -m benchmarks.evidence
	$(BIN)/python -m benchmarks.evidence.publish runs/evidence/40-prompts-4-seeds
	$(BIN)/python -m benchmarks.evidence.noise_map

# Uploads the current commit's app to Hugging Face: make space SPACE=USER/NAME
space: $(VENV)/demo
	$(BIN)/python -m deploy.space $(or $(SPACE),$(error say which one: make space SPACE=USER/NAME))

$(VENV)/demo: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -r requirements.txt
	touch $@

$(VENV)/test: tests/requirements.txt benchmarks/requirements.txt $(VENV)/demo
	$(BIN)/pip install -r tests/requirements.txt
	touch $@

$(VENV)/docs: docs/requirements.txt $(VENV)/demo
	$(BIN)/pip install -r docs/requirements.txt
	touch $@

clean:
	rm -rf $(VENV)
