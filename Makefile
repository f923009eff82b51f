# make demo    set everything up and play the bundled stream through the detector
# make test    set everything up and run every test, as many at a time as there are cores; markers: see setup.cfg
# make fuzz    every parser on hostile input for 20 seconds each
# make nightly run what takes too long for every push: twelve trials, a recipe killed anywhere, several devices, a cluster
# make arm     run the package on emulated Raspberry Pis, on ten minutes of speech (KWS_TEST_DATA names the recordings)
# make docs    build the pages, in site/
# make bench   measure kws-edge beside its peers (KWS_TEST_DATA names the recordings; about a quarter of an hour)
# make models  make the models and the reference system's network by their recipes (KWS_TEST_DATA names the recordings)

PYTHON ?= $(shell command -v python3.11 || command -v python3)
PIP = -m pip --require-virtualenv --disable-pip-version-check install --quiet
DATA = $(or $(KWS_TEST_DATA),$(error KWS_TEST_DATA does not name a folder of unpacked recordings))

# The other runtime, with the NumPy that it needs, where it has wheels for this Python.
OLDER := $(shell $(PYTHON) -c 'import sys; print(".venv-tflite/test" if sys.version_info < (3, 12) else "")')

PYTEST = -m pytest --durations 15 -n auto

.PHONY: demo test tests older-tests fuzz nightly arm docs bench lint models reference clean

demo: .venv/demo
	.venv/bin/kws-edge demo --plot demo.png

# The older runtime's tests wait for sound most of their time, so both go on at once.
test: .venv/test $(OLDER) lint
	@$(MAKE) --no-print-directory -j 2 tests older-tests

tests: .venv/test $(OLDER)
	KWS_TFLITE_PYTHON=$(wildcard $(CURDIR)/.venv-tflite/bin/python) TF_CPP_MIN_LOG_LEVEL=2 .venv/bin/python $(PYTEST)

older-tests: $(OLDER)
ifdef OLDER
	@echo "tflite-runtime with NumPy 1:"
	@.venv-tflite/bin/python $(PYTEST) -m 'not host'
else
	@echo "SKIPPED: tflite-runtime needs Python 3.11 or earlier; its tests do not run here"
endif

fuzz: .venv/test
	.venv/bin/python -m tests.fuzz --seconds 20

nightly: .venv/test
	.venv/bin/python $(PIP) -e '.[cluster]' 'moto[s3,server]>=5'
	KWS_NIGHTLY=1 TF_CPP_MIN_LOG_LEVEL=2 .venv/bin/python -m pytest -s -o faulthandler_timeout=0 --durations 9 \
		$(addprefix tests/test_,sweep.py sweep_ray.py cluster.py shards.py devices.py recipe.py)

arm: .venv/test
	KWS_TEST_DATA=$(DATA) KWS_ARM_SECONDS=600 .venv/bin/python -m pytest -s -o faulthandler_timeout=0 tests/test_arm.py

docs: .venv/test
	.venv/bin/mkdocs build --strict --quiet
	@echo "open site/index.html"

bench: .venv/test
	TF_CPP_MIN_LOG_LEVEL=3 .venv/bin/python -m benchmarks.peers $(DATA)

lint: .venv/test
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/codespell

# Each recipe goes on where it was interrupted; its results lie in runs/NAME. Which of them is shipped is decided by hand.
models: .venv/test reference
	for name in words36 commands12 micro12 commands12-stream micro12-stream words36-stream; do .venv/bin/kws-host recipe run $$name --data $(DATA) || exit 1; done

# oneDNN's convolutions are faster for this network, TensorFlow's own for the others.
reference: export TF_ENABLE_ONEDNN_OPTS = 1
reference: .venv/test
	.venv/bin/kws-host recipe run cnn_reference --data $(DATA)

clean:
	rm -rf .venv .venv-tflite .venv*-unfinished .venv-bench .cache .mypy_cache build site *.egg-info demo.png

# Environments. A stamp in one says what is installed there, and is written last. FOLDER-unfinished names the make at work until
# then: what Ctrl-C, a kill or a full disk leaves is made anew, and so is an environment whose Python or pip no longer runs.
define begin
	@anew=; \
	if maker=$$(cat $1-unfinished 2>&1); then \
		case $$(ps -o comm= -p "$$maker" 2>&1) in *make) echo "make of process $$maker is setting $1 up: wait for it"; exit 1; esac; \
		anew=yes; \
	else \
		{ [ -f $1/pyvenv.cfg ] && { $1/bin/python -m pip --version || $1/bin/python -m ensurepip; } && \
			$1/bin/python -m pip --version; } >/dev/null 2>&1 || anew=yes; \
	fi; \
	echo $$PPID > $1-unfinished && rm -f $1/demo $1/test && { [ -z "$$anew" ] || { rm -rf $1 && $(PYTHON) -m venv $1; }; }
endef

define end
	@rm $1-unfinished && touch $@
endef

# A stamp does not count, either, where the folder was moved since: commands name the Python that they start with.
whole = $(shell [ ! -e $1-unfinished ] && grep -qsF "$$(pwd -P)/$1/bin/" $1/bin/kws-edge && \
	$1/bin/python -c 'import pip' 2>&1 && echo yes)

ifneq ($(call whole,.venv),yes)
.venv/demo .venv/test: FORCE
endif
ifneq ($(call whole,.venv-tflite),yes)
.venv-tflite/test: FORCE
endif
FORCE:

.venv/demo: setup.cfg pyproject.toml
	$(call begin,.venv)
	.venv/bin/python $(PIP) -e '.[plot]'
	$(call end,.venv)

.venv/test: setup.cfg pyproject.toml
	$(call begin,.venv)
	.venv/bin/python $(PIP) -e '.[plot,serve,host,jax,firmware,dev]'
	$(call end,.venv)
	@touch .venv/demo

.venv-tflite/test: setup.cfg pyproject.toml
	$(call begin,.venv-tflite)
	.venv-tflite/bin/python $(PIP) 'tflite-runtime==2.14.*' 'numpy<2' soundfile sounddevice soxr tqdm paho-mqtt wyoming zeroconf h11 \
		'hypothesis>=6.100' 'pytest==9.1.*' 'pytest-timeout>=2.4' 'pytest-xdist>=3.8'
	.venv-tflite/bin/python $(PIP) --no-deps -e .
	$(call end,.venv-tflite)
