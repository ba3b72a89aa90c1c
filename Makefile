# Everything runs in .venv, which is made on first use. Nothing needs root; without an OpenCL device Intel's CPU runtime
# is installed into .venv too.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
COMPILED := The installation failed, see above. dectris-compression is compiled on this machine: it takes a C and a C++ \
	compiler and the headers of Python (Debian, Ubuntu: build-essential python3-dev).
# For the tests: memory that was freed is used again. By default glibc gives every image of 4M pixels back, and the system
# zeroes the pages of the next one: a quarter of the processor time of tests/golden. What stays is not zero, either.
KEEP_MEMORY := MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=17179869184
HAS_DEVICE := $(BIN)/python -c 'from ringwatch_gpu import devices; devices.choose()' 2>/dev/null
INSTALL_FROM := import platform as p; v = ".".join(p.python_version_tuple()[:2]); print(f"For {p.system()} on {p.machine()} \
	and Python {v}. Copy this folder to the machine, and there: python{v} -m venv /opt/ringwatch && \
	/opt/ringwatch/bin/pip install --no-index --find-links wheelhouse \"ringwatch[cpu,epics,plot]\"")
DESCRIBE := from ringwatch_gpu import devices; print(devices.describe())

# How long: make fuzz FUZZ_S=3600, make soak MINUTES=600, make kills KILLS=1000.
FUZZ_S ?= 60
MINUTES ?= 30
KILLS ?= 100

.PHONY: help demo test thorough lint audit bench accuracy study mutants wheelhouse fuzz soak kills clean
.SILENT:

help:
	echo "make demo      simulated detector, daemon, live page, result file"
	echo "make test      all tests"
	echo "make thorough  all tests, every pixel type with every shape of detector, a minute of overload"
	echo "make lint      style, types, layers"
	echo "make audit     known vulnerabilities in what is installed (asks PyPI), dangerous calls in the sources"
	echo "make bench     speed of this machine"
	echo "make study     does the rule stop too early or too late? the tables of docs/stopping.md, two hours"
	echo "make accuracy  ringwatch and pyFAI's engines against float64: the tables of docs/accuracy.md, a quarter of an hour"
	echo "make mutants   do the tests notice planted faults?"
	echo "make wheelhouse  a folder from which ringwatch is installed without internet"
	echo "make fuzz      random bytes into the decoders, new ones each time: FUZZ_S=60 seconds"
	echo "make soak      a daemon under random faults: is every file right, does anything leak? MINUTES=30"
	echo "make kills     a daemon that is killed and started again: is every result right, is none lost? KILLS=100"
	echo "make clean     remove .venv and all that was made here"
	echo "The first of them installs what it needs into .venv. Another Python: make PYTHON=python3.12 test"

demo: .venv/opencl
	start=$$(date +%s); $(BIN)/ringwatch demo && echo "The demo took $$(($$(date +%s) - start)) s."

test: .venv/opencl
	start=$$(date +%s); $(KEEP_MEMORY) $(BIN)/pytest && echo "The tests took $$(($$(date +%s) - start)) s."

thorough:
	RINGWATCH_FULL=1 RINGWATCH_THOROUGH=1 $(MAKE) --no-print-directory test

lint: .venv/installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

# --strict: what PyPI does not know, or cannot be asked about, is no clean bill of health.
audit: .venv/installed
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml daemon gpu
	$(PIP) freeze --exclude-editable > .venv/installed.txt
	$(BIN)/pip-audit --strict --no-deps --disable-pip --progress-spinner off --requirement .venv/installed.txt || \
		{ echo "See above: a known vulnerability, or PyPI could not be asked (that takes the internet)." >&2; exit 1; }

bench: .venv/opencl
	$(BIN)/python benchmarks/run.py

accuracy: .venv/opencl
	$(BIN)/python benchmarks/accuracy.py

study: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/stopping.py

mutants: .venv/opencl
	$(BIN)/python tests/mutants/run.py

wheelhouse: .venv/installed
	echo "Filling wheelhouse/ with wheels of ringwatch and of all it needs (500 MB) ..."
	$(PIP) wheel --wheel-dir wheelhouse pip '.[cpu,epics,plot]' || { echo "$(COMPILED)" >&2; exit 1; }
	cp systemd/ringwatch@.service wheelhouse/
	$(BIN)/python -c '$(INSTALL_FROM)' | tee wheelhouse/README.txt

fuzz: .venv/installed
	end=$$(($$(date +%s) + $(FUZZ_S))); while [ $$(date +%s) -lt $$end ]; do \
		$(BIN)/pytest -q -x --hypothesis-profile=fuzz tests/properties/test_decode_hostile.py || exit 1; done

soak: .venv/opencl
	$(BIN)/python -m benchmarks.soak --minutes $(MINUTES)

kills: .venv/opencl
	$(BIN)/python -m benchmarks.kills --kills $(KILLS)

clean:
	rm -rf .venv .venv-tickit build dist results wheelhouse .*_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

.venv/installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "ringwatch needs Python 3.11 or newer; '$(PYTHON)' is not. Name one: make PYTHON=python3.12 ..." >&2; exit 1; }
	echo "Installing ringwatch and what it needs into .venv (once; 190 MB to download, 800 MB on disk, 5 minutes) ..."
	$(PYTHON) -m venv .venv
	$(PIP) install --upgrade 'pip>=25.1'
	$(PIP) install --editable . --group dev || { echo "$(COMPILED)" >&2; exit 1; }
	touch $@

# A detector simulated by others, to be stopped in tests; it needs an older cbor2 than we do.
.venv-tickit/installed: tests/control/tickit_requirements.txt
	echo "Installing a simulated detector for the tests into .venv-tickit (60 MB to download, 200 MB on disk) ..."
	$(PYTHON) -m venv .venv-tickit
	.venv-tickit/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

.venv/cpu-runtime: .venv/installed
ifeq ($(shell uname -m),x86_64)
	echo "Installing Intel's OpenCL runtime for CPUs into .venv: 280 MB to download, 850 MB on disk ..."
	$(PIP) install --editable '.[cpu]'
else
	echo "Intel's OpenCL runtime exists for x86-64 only: here another one is needed, PoCL for example."
endif
	touch $@

.venv/opencl: .venv/installed
	$(HAS_DEVICE) || $(MAKE) --no-print-directory .venv/cpu-runtime
	if $(HAS_DEVICE); then touch $@; else $(BIN)/python -c '$(DESCRIBE)'; fi
