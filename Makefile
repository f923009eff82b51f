# make demo    set everything up and play the bundled stream through the detector
# make test    set everything up and run every test
# make models  train, quantise and measure the shipped model (KWS_TEST_DATA names the unpacked recordings)

PYTHON ?= $(shell command -v python3.11 || command -v python3)
PIP = -m pip --disable-pip-version-check install --quiet
DATA = $(or $(KWS_TEST_DATA),$(error KWS_TEST_DATA does not name a folder of unpacked recordings))

.PHONY: demo test lint models clean

demo: .venv/demo
	.venv/bin/kws-edge demo --plot demo.png

test: .venv/test .venv-tflite/test lint
	KWS_TFLITE_PYTHON=$(wildcard $(CURDIR)/.venv-tflite/bin/python) TF_CPP_MIN_LOG_LEVEL=2 \
		.venv/bin/python -m pytest
	@if [ -x .venv-tflite/bin/python ]; then \
		echo "tflite-runtime with NumPy 1:"; \
		.venv-tflite/bin/python -m pytest --ignore tests/test_host.py --ignore tests/test_packaging.py; \
	fi

lint: .venv/test
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

models: .venv/test
	.venv/bin/kws-host train $(DATA)/speech_commands --features $(DATA)/logmel \
		--speech $(DATA)/negatives/speech --noise $(DATA)/negatives/noise -o runs/commands12 --epochs 45
	.venv/bin/kws-host quantize runs/commands12 -o kws_edge/models/commands12.tflite
	.venv/bin/kws-host evaluate kws_edge/models/commands12.tflite --clips $(DATA)/test12
	.venv/bin/kws-host evaluate runs/commands12 --clips $(DATA)/test12

clean:
	rm -rf .venv .venv-tflite build *.egg-info demo.png

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/demo: .venv/bin/python setup.cfg pyproject.toml
	.venv/bin/python $(PIP) -e '.[plot]'
	touch $@

.venv/test: .venv/bin/python setup.cfg pyproject.toml
	.venv/bin/python $(PIP) -e '.[plot,host,dev]'
	touch $@ .venv/demo

# The other runtime, with the NumPy that it needs; it has no wheels for Python 3.12 and later.
.venv-tflite/test: setup.cfg pyproject.toml
	@if $(PYTHON) -c 'import sys; sys.exit(sys.version_info >= (3, 12))'; then \
		$(PYTHON) -m venv .venv-tflite && \
		.venv-tflite/bin/python $(PIP) 'tflite-runtime==2.14.*' 'numpy<2' soundfile sounddevice soxr 'pytest>=8' && \
		.venv-tflite/bin/python $(PIP) --no-deps -e .; \
	else \
		echo "SKIPPED: tflite-runtime needs Python 3.11 or earlier; its tests do not run here"; \
	fi
	mkdir -p .venv-tflite && touch $@
