# The house's commands. `make` alone lists them.
# The recipes name files by relative paths, so that a checkout may live anywhere.

VENV  := .venv
BIN   := $(VENV)/bin
STAMP := $(VENV)/.installed

# PYTHON=... chooses the interpreter; otherwise the first of these that runs and is new enough is taken.
PYTHON     ?=
CANDIDATES := $(or $(PYTHON),python3 python3.13 python3.12 python3.11)

# The stamp names the folder that the environment was built in. Another folder (a moved checkout) or an
# interpreter that no longer runs makes the environment unusable, so then it is built anew.
STATE := $(shell [ -x $(BIN)/python ] && cat $(STAMP) 2>/dev/null)
ifneq ($(STATE),$(CURDIR))
STALE := rebuild
endif

.DEFAULT_GOAL := help
.PHONY: help install demo serve check test test-long test-clients bench faults docs catalogue lock clean rebuild

# Clients that depend on each other's past cannot share an environment: instructor, litellm and the rest each want
# another openai. So each has its own, built when its tests are run, and `make install` stays light.
CLIENTS := $(basename $(notdir $(wildcard requirements-clients/*.in)))

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

install: $(STAMP) ## build .venv from the pinned requirements (quick when nothing changed)
	@:

demo: install ## run the gateway with simulated providers (PORT=... moves it)
	@$(BIN)/mana-llm demo

serve: install ## run the gateway with the settings from the environment and .env
	@$(BIN)/mana-llm serve

check: install ## lint, format, types, import rules and the tests of the house
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check --quiet
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo --cache-dir .cache/imports
	@$(BIN)/pytest tests/house --ignore tests/house/test_image.py

test: install ## run every test but the long ones and the official clients
	@$(BIN)/pytest

test-long: install ## run the tests that take minutes
	@$(BIN)/pytest -m long

test-clients: install $(CLIENTS:%=.venv-clients/%/.installed) ## run the tests that drive the official client libraries
	@$(BIN)/pytest -m clients --ignore tests/clients
	@for client in $(CLIENTS); do \
		PYTHONPATH=src .venv-clients/$$client/bin/python -m pytest -W ignore -m clients \
			"tests/clients/test_$$(echo $$client | tr - _).py" || exit 1; \
	done

bench: install ## measure against the performance budget
	@$(BIN)/python -m benchmarks

faults: install ## run the scorecard of sixteen faults (ARGS='--gateway URL --model NAME' takes another gateway)
	@$(BIN)/python -m benchmarks.faults $(ARGS)

docs: install ## write the pages that are made from the code and the tests
	@$(BIN)/python -m docs.generate

catalogue: install ## renew the catalogue of models from a table of facts (SOURCE=path, DATE=2026-11-20)
	@$(BIN)/python -m tools.catalogue $(SOURCE) $(DATE)

# uv resolves once for every Python and platform that we support; pip would only see this machine's.
# It lives in a folder of its own, because it is needed for nothing else.
COMPILE = .cache/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade \
	--no-annotate --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock'

lock: install ## renew the pins in requirements*.txt from requirements*.in
	@[ -x .cache/lock/bin/uv ] || { $(BIN)/python -m venv .cache/lock && .cache/lock/bin/pip install -q uv; }
	@$(COMPILE) requirements.in -o requirements.txt
	@$(COMPILE) requirements-build.in -o requirements-build.txt
	@$(COMPILE) requirements-dev.in -o requirements-dev.txt
	@for client in $(CLIENTS); do \
		$(COMPILE) requirements-clients/$$client.in -o requirements-clients/$$client.txt || exit 1; \
	done

clean: ## remove the environment, the caches and what builds leave behind
	@rm -rf $(VENV) .venv-clients .cache .hypothesis build dist
	@find src tests benchmarks docs -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

.venv-clients/%/.installed: requirements-clients/%.txt | install
	@$(BIN)/python -m venv --clear $(@D)
	@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

# Whatever has no stamp was never finished, so it is cleared; what has one is brought up to date in place.
# The project goes in by a second call: pip cannot check the hash of a folder.
$(STAMP): requirements-dev.txt pyproject.toml $(STALE)
	@python=''; \
	for name in $(CANDIDATES); do \
		if "$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
			python=$$name; break; \
		fi; \
	done; \
	if [ -z "$$python" ]; then \
		echo 'mana-llm needs Python 3.11 or newer; none of these is: $(CANDIDATES).' >&2; \
		echo 'Install one, or name it: make install PYTHON=/path/to/python3' >&2; \
		exit 1; \
	fi; \
	if [ -n '$(STALE)' ]; then "$$python" -m venv --clear $(VENV); fi
	@rm -f $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@printf '%s\n' '$(CURDIR)' > $(STAMP)
