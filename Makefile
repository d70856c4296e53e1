# Portside. `make` alone lists what there is. Every target does its own set-up and can be run again at any time.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
TESTBED := PYTHONPATH=dev $(BIN)/python -m testbed
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-header --annotation-style line pyproject.toml
LOCKS := dev service operator build testbed
# Extra words for pytest: make test PYTEST="-k stream"
PYTEST ?=
# Processes that run tests side by side; most tests wait more than they compute. PARALLEL=0 runs one after the other.
PARALLEL ?= 4
SIDE_BY_SIDE := -n $(PARALLEL)
# Extra words for the bench: make bench BENCH="--without-litellm"
BENCH ?=

export CLUSTER ?= auto
export KEEP ?=
# The image of kind's node, for another Kubernetes: make kind KIND_NODE=kindest/node:v1.30.13
export KIND_NODE ?=
export NAME ?= dev
# What cluster-up leaves out, such as "redis metrics-server", or all.
export WITHOUT ?=
ifdef KUBECONFIG
export KUBECONFIG
endif

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

##
## Using it
##
.PHONY: demo
demo: $(VENV)/.testbed ## The main job from end to end; KEEP=1 leaves it up; CLUSTER=own|kind|current
	@$(TESTBED) demo $(if $(KEEP),--keep) --cluster $(CLUSTER)

.PHONY: demo-down
demo-down: $(VENV)/.testbed ## Remove what `make demo KEEP=1` left up
	@$(TESTBED) demo-down

.PHONY: run
run: $(VENV)/.service ## The agent API, for this machine alone, with the echo provider; PORT=9000 AGENT=my_agent.py (or my_tools.py)
	@API_HOST=$${API_HOST:-127.0.0.1} MODEL_PROVIDER=$${MODEL_PROVIDER:-echo} LOG_FORMAT=$${LOG_FORMAT:-text} \
		exec $(BIN)/agent-service serve $(if $(AGENT),--runtime "$(AGENT)")

##
## Testing it
##
.PHONY: test
test: prepare ## Everything: unit, service, programs, lint, cluster (real API server) and e2e (real pods) tests
	@PYTHONPATH=dev:tests $(BIN)/pytest $(SIDE_BY_SIDE) $(PYTEST)

.PHONY: test-unit
test-unit: $(VENV)/.dev ## The unit tests: pure, in seconds
	@PYTHONPATH=dev:tests $(BIN)/pytest tests/unit $(PYTEST)

.PHONY: test-service
test-service: $(VENV)/.dev ## The tests of the agent API with what it needs: processes, Redis, a browser
	@PYTHONPATH=dev:tests $(BIN)/pytest $(SIDE_BY_SIDE) tests/service $(PYTEST)

.PHONY: test-programs
test-programs: $(VENV)/.dev ## The tests by other programs: charts packed, docs built, alert rules, commands
	@$(TESTBED) tools helm
	@PYTHONPATH=dev:tests $(BIN)/pytest tests/programs $(PYTEST)

.PHONY: test-cluster
test-cluster: $(VENV)/.dev ## The tests against a real API server
	@$(TESTBED) tools etcd kube-apiserver kube-controller-manager kubectl helm
	@PYTHONPATH=dev:tests $(BIN)/pytest $(SIDE_BY_SIDE) tests/cluster $(PYTEST)

.PHONY: test-e2e
test-e2e: prepare ## The tests with real pods
	@PYTHONPATH=dev:tests $(BIN)/pytest $(SIDE_BY_SIDE) tests/e2e $(PYTEST)

.PHONY: test-keda
test-keda: prepare ## The scaling tests by a real KEDA, which `make test` leaves out: it takes long to build
	@$(TESTBED) tools keda keda-adapter
	@PYTHONPATH=dev:tests $(BIN)/pytest tests/e2e/test_scaling.py --keda $(PYTEST)

# The tests to repeat: make test-races RACES=tests/service
RACES ?= tests
TIMES ?= 1
.PHONY: test-races
test-races: prepare ## The timing-sensitive tests while every core is busy; TIMES=3, RACES=tests/service
	@PYTHONPATH=dev:tests $(BIN)/python -m races --times $(TIMES) $(RACES) $(SIDE_BY_SIDE) $(PYTEST)

.PHONY: bench
bench: $(VENV)/.dev ## How fast the agent API is, beside others; BENCH="--soak" for growth, "--help" for all
	@PYTHONPATH=dev:tests $(BIN)/python -m bench $(BENCH)

.PHONY: bench-operator
bench-operator: $(VENV)/.dev ## How fast the operator is, beside the API server's limit; BENCH="soak" for growth
	@$(TESTBED) tools etcd kube-apiserver kube-controller-manager kubectl
	@PYTHONPATH=dev:tests $(BIN)/python -m bench.operator $(BENCH)

# What takes long happens here, where its progress is seen, and not inside a test: all of it at the same time.
.PHONY: prepare
prepare: $(VENV)/.dev
	@$(TESTBED) prepare

.PHONY: cluster-up
cluster-up: $(VENV)/.dev ## A playground: one node, operator, model API, Redis, metrics-server; WITHOUT="redis operator"
	@$(TESTBED) up --name $(NAME)

.PHONY: cluster-env
cluster-env: $(VENV)/.dev ## kubectl, helm and `kubectl agent` for that cluster: eval "$(make -s cluster-env)"
	@$(TESTBED) env --name $(NAME)

.PHONY: cluster-image
cluster-image: $(VENV)/.dev ## An image of your own in that cluster: CONTEXT=/tmp/my-agent IMAGE=registry.example.com/my-agent:1
	@$(TESTBED) image --name $(NAME) "$(CONTEXT)" "$(IMAGE)"

.PHONY: cluster-down
cluster-down: $(VENV)/.dev ## End that cluster, with all that is in it
	@$(TESTBED) down --name $(NAME)

.PHONY: kind
kind: $(VENV)/.dev ## A kind cluster instead (needs Docker); prints its KUBECONFIG
	@$(TESTBED) kind

.PHONY: kind-down
kind-down: $(VENV)/.dev ## Remove the kind cluster
	@$(TESTBED) kind --delete

##
## Reading it
##
.PHONY: docs
docs: $(VENV)/.dev ## The documents as a site, in build/docs
	$(BIN)/sphinx-build -c docs -n -W --keep-going -q . build/docs
	@echo "==> build/docs/index.html"

.PHONY: picture
picture: $(VENV)/.dev ## Redraw the pictures of the docs from their sources
	PYTHONPATH=dev:tests $(BIN)/python -m support.docs.picture

.PHONY: pictures-of-dashboards
pictures-of-dashboards: prepare ## Redraw the dashboards, from agents on a cluster of our own and a real Prometheus
	@PYTHONPATH=dev:tests $(BIN)/pytest tests/e2e/test_prometheus.py -k drawn --pictures

##
## Changing it
##
.PHONY: check
check: check-format check-types check-generated check-lock ## Formatting, lint, types, and that generated files and the lock are up to date

.PHONY: check-format
check-format: $(VENV)/.dev
	$(BIN)/ruff format --check
	$(BIN)/ruff check

.PHONY: check-types
check-types: $(VENV)/.dev
	$(BIN)/mypy

.PHONY: check-generated
check-generated: $(VENV)/.dev
	@$(TESTBED) tools helm
	PYTHONPATH=dev $(BIN)/python -m codegen --check

.PHONY: lint
lint: $(VENV)/.dev ## Linters over charts, manifests, samples, the Dockerfile and the workflows (helm, kubeconform, Checkov, ...)
	@$(TESTBED) tools helm kubectl kubeconform actionlint glua >/dev/null
	@PYTHONPATH=dev:tests $(BIN)/python -m lint

.PHONY: format
format: $(VENV)/.dev ## Format the code, and mend what the linter can mend
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

.PHONY: generate
generate: $(VENV)/.dev ## Write the files that are generated from the models, the charts and the agent API
	@$(TESTBED) tools helm
	PYTHONPATH=dev $(BIN)/python -m codegen

.PHONY: lock
lock: $(VENV)/.dev ## Bring requirements/ in step with pyproject.toml; LOCK_FLAGS=--upgrade takes new releases
	$(call write-lock,requirements,$(LOCK_FLAGS))

.PHONY: check-lock
check-lock: $(VENV)/.dev
	@echo "==> Is requirements/ in step with pyproject.toml?"
	@copy=$$(mktemp -d); trap 'rm -rf "$$copy"' EXIT; cp requirements/*.txt "$$copy/"; \
		$(call write-lock,$$copy,); \
		diff -ru <(cat requirements/*.txt | grep -v '# via') <(cat "$$copy"/*.txt | grep -v '# via') \
		|| { echo 'requirements/ is stale: run `make lock`'; exit 1; }

# One resolution for all: the images get the very versions that were tested.
define write-lock
$(LOCK) $(2) --extra service --extra operator --group dev --group build --output-file $(1)/dev.txt && \
	$(LOCK) --extra service --constraint $(1)/dev.txt --output-file $(1)/service.txt && \
	$(LOCK) --extra operator --constraint $(1)/dev.txt --output-file $(1)/operator.txt && \
	$(filter-out pyproject.toml,$(LOCK)) --group build --constraint $(1)/dev.txt --output-file $(1)/build.txt && \
	$(LOCK) --group testbed --constraint $(1)/dev.txt --output-file $(1)/testbed.txt
endef

.PHONY: clean
clean: ## Remove the environment, the clusters and everything cached
	@if [ -x $(BIN)/python ]; then $(TESTBED) clean || true; fi
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis

##
## Releasing it
##
RELEASE := PYTHONPATH=dev $(BIN)/python dev/release.py

.PHONY: package
package: $(VENV)/.dev ## Both charts as packages, in build/charts
	@$(RELEASE) package

.PHONY: sbom
sbom: $(VENV)/.dev ## What is in the images, of Python's, as CycloneDX in build/sbom
	@mkdir -p build/sbom
	@for target in service operator; do PYTHONWARNINGS=ignore $(BIN)/cyclonedx-py requirements --output-reproducible --pyproject pyproject.toml \
		--of JSON -o build/sbom/agent-$$target.cdx.json requirements/$$target.txt && echo build/sbom/agent-$$target.cdx.json; done

.PHONY: release-notes
release-notes: $(VENV)/.dev ## The changelog's section: make release-notes VERSION=0.1.0
	@$(RELEASE) notes "$(VERSION)"

.PHONY: check-release
check-release: $(VENV)/.dev ## What is missing for a release: make check-release VERSION=0.2.0
	@$(RELEASE) check "$(VERSION)"

##
## The Python environment: .service is enough to run the agent API, .testbed for the demo; .dev has everything
##
$(VENV)/.python:
	@echo "==> Making a Python environment in $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo 'Python 3.11 or later is needed: make PYTHON=/path/to/python3.11 …'; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "    This machine gets a Debian package that it lacks, which stays installed: python3-venv"; \
		{ apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q python3-venv; } >/dev/null \
		|| { echo 'Python has no venv module: install it (on Debian: apt-get install python3-venv).'; exit 1; }; }
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/.service: $(VENV)/.python requirements/service.txt requirements/build.txt pyproject.toml
	$(call install,requirements/service.txt -r requirements/build.txt)

$(VENV)/.testbed: $(VENV)/.python requirements/testbed.txt requirements/build.txt pyproject.toml
	$(call install,requirements/testbed.txt -r requirements/build.txt)

$(VENV)/.dev: $(VENV)/.service requirements/dev.txt
	$(call install,requirements/dev.txt)

define install
	@echo "==> Installing $(1)"
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r $(1) \
		|| { echo 'The packages could not be installed: is the network there?'; exit 1; }
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	@touch $@
endef
