PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 8000
VENV := .venv/bin

.PHONY: serve test lint bench docs-check lock

serve: .venv/runtime
	@STANDIN_OLLAMA=$${STANDIN_OLLAMA-auto} $(VENV)/python manage.py serve --host $(HOST) --port $(PORT)

test: .venv/dev
	@$(VENV)/python -m pytest

lint: .venv/dev
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .
	$(VENV)/mypy .
	$(VENV)/lint-imports
	$(VENV)/python manage.py makemigrations --check --dry-run

bench: .venv/dev
	$(VENV)/python -m benchmarks

docs-check: .venv/dev
	$(VENV)/python -m pytest tests/docs

# The newest versions that pyproject.toml allows, Django kept at the long-term release.
lock:
	for group in "" "--group dev"; do \
		uv pip compile --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
			--custom-compile-command "make lock" --constraints requirements/constraints.txt pyproject.toml $$group \
			--output-file requirements/$$([ -z "$$group" ] && echo runtime || echo dev).txt; \
	done

.venv/runtime: requirements/runtime.txt
	@echo "Installing into .venv ..."
	@test -x $(VENV)/python || $(PYTHON) -m venv .venv
	@$(VENV)/python -m pip install --quiet --require-hashes -r requirements/runtime.txt
	@touch $@

.venv/dev: requirements/dev.txt .venv/runtime
	@$(VENV)/python -m pip install --quiet --require-hashes -r requirements/dev.txt
	@touch $@
