# make demo    the whole chain on this computer: profile, prune, compile, deploy, measure
# make emulated  the same on emulated boards: profiled on one, installed over the serial console of another
# make test    what CI runs: lint, types, tests
# make test-long  tests that take minutes each
# make properties  the solvers against enumeration on thousands of random problems (minutes)
# make lint    ruff and mypy alone
# make setup   the virtual environment alone
# make clean   remove everything that is not in git

VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed

export PIP_DISABLE_PIP_VERSION_CHECK ?= 1
export PYTHON

# Packages of Debian beside those of Python, checks beside the boards' images: they wait for different things.
MAKEFLAGS += -j2

.PHONY: demo emulated test test-long boards qemu sshd properties lint setup venv clean

# Threads that wait asleep: beside another busy process, those that wait awake take six times as long.
demo: $(STAMP)
	@OMP_WAIT_POLICY=PASSIVE $(PY) examples/demo.py

emulated: qemu $(STAMP)
	$(PY) examples/emulated.py

# One thread a worker: thread pools of two workers would only get in each other's way. Three workers for two cores:
# a fifth of the time passes in waiting for boards.
test: lint boards sshd
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 3 --dist loadgroup

test-long: boards sshd
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist loadgroup -m long

boards: qemu $(STAMP)
	@$(PY) -m edgeprune emulator prepare --quiet >/dev/null || echo "The tests of emulated boards are skipped" >&2

# One apt at a time: not beside what may install Python, nor beside each other.
qemu: | venv
	@sh tools/install_qemu.sh

sshd: | qemu
	@sh tools/install_sshd.sh

properties: $(STAMP)
	EDGEPRUNE_PROPERTY_SEEDS=600 OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 tests/budget/test_budget_properties.py

lint: $(STAMP)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

setup: $(STAMP)

# Bytecode of all that is installed takes pip as long as the rest, on one core. Where PYTHONDONTWRITEBYTECODE is set, it
# has to be made here, or every process that a test starts would make its own. Some packages hold templates of Python
# files, which do not compile: what compileall says of them, and its status, are left aside.
$(STAMP): pyproject.toml constraints.txt | venv
	$(PY) -m pip install --quiet --no-compile -c constraints.txt -e ".[demo,jetson,test]"
	@$(PY) -m compileall -q -j 0 $(VENV)/lib edgeprune >/dev/null 2>&1 || true
	@touch $@

venv:
	@$(PY) -m pip --version >/dev/null 2>&1 || { python=$$(sh tools/find_python.sh) && "$$python" -m venv --clear $(VENV); }

clean:
	rm -rf $(VENV) build dist runs .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
