# `make demo` runs the app, `make test` runs every test. Both set up .venv first; nothing else is needed than Python 3.10
# or newer (and, for the browser tests, a Chromium: it is installed if there is none).

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test fresh lint sheet evidence space clean

demo: $(VENV)/demo
	$(BIN)/python app.py

test: $(VENV)/test
	tests/ensure-chromium
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# Both commands on a bare Debian; needs root and debootstrap.
fresh:
	tests/fresh

# The stubs that Gradio has written go first: pyright would go by them, however old they are.
lint: $(VENV)/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	find i4vgen/ui -name '*.pyi' -delete
	$(BIN)/pyright --pythonpath $(BIN)/python

sheet: $(VENV)/demo
	$(BIN)/python -m benchmarks.contact_sheet

# Hours on a CPU. Stopped, it goes on from runs/evidence.
evidence: $(VENV)/test
	$(BIN)/python -m benchmarks.evidence
	$(BIN)/python -m benchmarks.evidence.publish runs/evidence
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

clean:
	rm -rf $(VENV)
