# Everything is set up in .venv and, for the real Prometheus and Alertmanager, in ~/.cache/promantis; nothing is
# installed as a service. PYTHON=/path/to/python3 picks another Python (3.11 or later).
PYTHON ?= python3
DATA   ?= ../shared/data
BIN    := .venv/bin
export PYTHON
.DEFAULT_GOAL := help

.PHONY: help
help: ## print this
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: .venv/.run ## the whole loop on a real Prometheus and Alertmanager; APPROVE=1 approves the fix, CHECK=1 also checks every claim
	@$(BIN)/python -m sidecar.demo.binaries >/dev/null
	@$(BIN)/promantis demo $(if $(CHECK),--check) $(if $(APPROVE),--approve)

.PHONY: run
run: .venv/.run ## start Promantis, e.g. make run ARGS=--prometheus.url=http://localhost:9090
	@$(BIN)/promantis run $(ARGS)

.PHONY: test
test: .venv/.dev check ## set up what is missing, then check

.PHONY: check
check: .venv/.dev ## format, lint, types, import order, every test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	@$(MAKE) --no-print-directory -j2 static tests # types take a core for half a minute, tests wait a tenth of theirs

.PHONY: static tests
static:
	$(BIN)/mypy
	$(BIN)/lint-imports
tests:
	$(BIN)/python -m sidecar.demo.binaries
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

.PHONY: bench
bench: .venv/.all ## speed against peers
	$(BIN)/python -m tests.bench $(ARGS)

.PHONY: soak
soak: .venv/.dev ## break what is on the way of an alert, each for 30 s under load in both modes
	$(BIN)/python -m sidecar.demo.binaries >/dev/null
	$(BIN)/python -m tests.soak $(ARGS)

.PHONY: quality
quality: .venv/.all ## accuracy against peers; DATA=folder (default ../shared/data)
	$(BIN)/python -m tests.quality --data $(DATA) $(ARGS)

.PHONY: docs
docs: .venv/.docs ## the documents as a site, in build/docs
	$(BIN)/python -m docs.build
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "build/docs/index.html"

.PHONY: lock
lock: ## resolve .requirements/*.lock from pyproject.toml (needs uv); ARGS=--upgrade takes the newest
	$(call resolve,run,)
	$(call resolve,image,--extra aws --extra kubernetes --extra logs)
	$(call resolve,dev,--group dev --extra aws --extra kubernetes)
	$(call resolve,all,--group dev --group peers --extra aws --extra kubernetes --extra plot)
	$(call resolve,docs,--group docs -c .requirements/dev.lock)

resolve = uv pip compile -q pyproject.toml $(2) -o .requirements/$(1).lock --universal --python-version 3.11 \
	--generate-hashes --custom-compile-command 'make lock' $(ARGS)

.PHONY: clean
clean: ## remove .venv and caches
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build *.egg-info
	find sidecar tests grafana -name __pycache__ -type d -prune -exec rm -rf {} +

# One stamp a lock file: a second run costs nothing, a changed lock is installed.
.venv/.%: .requirements/%.lock .make/setup
	@.make/setup $*
