# make repro   the whole pipeline on the shipped default world: environment, data, `dvc repro`
# make test    everything a change must pass
# make test-fast  of these, what takes at most two minutes on two cores: without the tests marked slow
# make test-e2e  of these, the tests with real servers alone
# make ui      the results in MLflow's pages, on this machine only
# make server  Prefect's server and pages, on this machine only
# make worker  deploys prefect.yaml and runs what it schedules, and what its forms ask for
# make clean   throws away the environment and caches; data, results and DVC's cache stay
#
# On a machine without an NVIDIA GPU, ask for torch's CPU build, which is ten times smaller, by the address of its
# index (PyTorch's installation page names it):
#   make repro TORCH_INDEX=ADDRESS
TORCH_INDEX ?=
PYTHON ?= $(shell command -v python3.11 || command -v python3)
UI_PORT ?= 5000
PREFECT_PORT ?= 4200

export PATH := $(CURDIR)/.venv/bin:$(PATH)
export DO_NOT_TRACK := true
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true
export PREFECT_SERVER_ANALYTICS_ENABLED := false
# Who holds a deployment's place outlives the server: else a run that is killed with it would keep it for ever.
export PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE := prefect.server.concurrency.lease_storage.filesystem
export HF_HUB_DISABLE_TELEMETRY := 1

.PHONY: repro test test-fast test-e2e ui server worker clean
.DELETE_ON_ERROR:

repro: .venv data/world/.rendered
	dvc repro

# Two processes, each file in one of them. In the order of their names: the tests with real servers, which take
# longest, begin early.
test: .venv
	ruff check .
	ruff format --check .
	pyright
	lint-imports
	pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder $(PYTEST)

test-fast: .venv
	ruff check .
	ruff format --check .
	lint-imports
	pytest --numprocesses 2 --dist loadfile -m 'not slow and not e2e' $(PYTEST)

test-e2e: .venv
	pytest -m e2e $(PYTEST)

ui: .venv
	@echo "MLflow: http://127.0.0.1:$(UI_PORT)  (stop with Ctrl-C)"
	MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false mlflow ui --workers 1 --host 127.0.0.1 --port $(UI_PORT) \
		--backend-store-uri sqlite:///mlflow.db --default-artifact-root mlartifacts

server: .venv
	@echo "Prefect: http://127.0.0.1:$(PREFECT_PORT)  (stop with Ctrl-C)"
	PREFECT_API_URL=http://127.0.0.1:$(PREFECT_PORT)/api prefect server start --host 127.0.0.1 --port $(PREFECT_PORT)

worker: export PREFECT_API_URL ?= http://127.0.0.1:$(PREFECT_PORT)/api
worker: export MOTIVE_PROJECT := $(CURDIR)
worker: .venv
	python -m flows.ready
	python -m flows.deploy
	prefect worker start --pool motive

# The stamp is written last, so that an interrupted installation is not taken for a finished one. Bytecode is compiled
# here, once: without it the large imports take twice as long in each stage.
.venv: .venv/.installed ;

.venv/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"Motive needs Python 3.11 or newer; {sys.executable} is " + sys.version.split()[0] + ": make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv .venv
	$(if $(TORCH_INDEX),.venv/bin/python -m pip install --quiet --constraint constraints.txt --index-url $(TORCH_INDEX) torch)
	env -u PYTHONDONTWRITEBYTECODE .venv/bin/python -m pip install --quiet --compile --constraint constraints.txt --editable '.[dev,ray,s3,postgres]'
	touch $@

data/world/.rendered: | .venv
	python -m toyworld render --out data/world --workers 2
	touch $@

clean:
	rm -rf .venv .motive/work .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find src flows tests testing benchmarks -name __pycache__ -type d -exec rm -rf {} +
