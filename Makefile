# make demo    set everything up and play the bundled stream through the detector
# make test    set everything up and run every test, as many at a time as there are cores; markers: see setup.cfg
# make fuzz    every parser on hostile input for 20 seconds each
# make arm     run the package on emulated Raspberry Pis, on ten minutes of speech (KWS_TEST_DATA names the recordings)
# make bench   measure kws-edge beside its peers (KWS_TEST_DATA names the recordings; about a quarter of an hour)
# make models  train, quantise and measure the shipped models and the reference system's network
#              (KWS_TEST_DATA names the unpacked recordings)

PYTHON ?= $(shell command -v python3.11 || command -v python3)
PIP = -m pip --require-virtualenv --disable-pip-version-check install --quiet
DATA = $(or $(KWS_TEST_DATA),$(error KWS_TEST_DATA does not name a folder of unpacked recordings))

# The other runtime, with the NumPy that it needs, where it has wheels for this Python.
OLDER := $(shell $(PYTHON) -c 'import sys; print(".venv-tflite/test" if sys.version_info < (3, 12) else "")')

PYTEST = -m pytest --durations 15 -n auto

.PHONY: demo test tests older-tests fuzz arm bench lint models reference clean

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

arm: .venv/test
	KWS_TEST_DATA=$(DATA) KWS_ARM_SECONDS=600 .venv/bin/python -m pytest -s -o faulthandler_timeout=0 tests/test_arm.py

bench: .venv/test
	TF_CPP_MIN_LOG_LEVEL=3 .venv/bin/python -m benchmarks.peers $(DATA)

lint: .venv/test
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

SPEECH_COMMANDS = $(DATA)/speech_commands
NEGATIVES = --speech $(DATA)/negatives/speech --noise $(DATA)/negatives/noise
SOURCES = $(SPEECH_COMMANDS) --features $(DATA)/logmel $(NEGATIVES)
HOST = .venv/bin/kws-host
SHIPPED = kws_edge/models
TEST12 = --clips $(DATA)/test12
VALIDATION36 = --clips $(SPEECH_COMMANDS) --split validation --at-least 50 --features $(DATA)/logmel

SYNTHETIC = --synthetic runs/synthetic
# Real voices and sounds that hold none of the commands: two sets of recordings under Apache-2.0, and what Debian's packages
# hold (kws-host collect).
VOICES = speech-to-intent-benchmark wake-word-benchmark
VOICE_FOLDERS = runs/voices/speech-to-intent-benchmark/data/speech runs/voices/wake-word-benchmark/audio runs/sounds/speech
MORE = --more-speech $(VOICE_FOLDERS) --more-noise runs/sounds/noise
STREAMS = --keep last --speech-share 0.4 --hard-negatives 0.12 --augmentation 0.7 --shift-ms 130
WIDE = $(SYNTHETIC) $(MORE) --keep last --speech-share 0.5 --unknown-share 0.38 --silence-share 0.14 --hard-negatives 0.12 \
	--augmentation 0.85 --shift-ms 130 --reverberation 0.3
# Where readers say keywords does not train; what the network hears keywords in trains more.
HEARD = $(SYNTHETIC) --also-said benchmarks/librispeech_words.csv --keep last --mined 0.35
MINED = $(HEARD) $(MORE)
MINED12 = $(MINED) --speech-share 0.5 --silence-share 0.13 --hard-negatives 0.12 --augmentation 0.85 --reverberation 0.3
# Public repositories' recordings besides, and noise and speech unlike what was recorded.
OPEN12 = $(HEARD) --more-speech $(VOICE_FOLDERS) $(foreach group,long voices wake real words,runs/open/speech/$(group)) \
	--more-noise runs/sounds/noise runs/open/noise/home runs/open/noise/other --hard-negatives 0.1 --reverberation 0.3 \
	--variety 0.25 --equalisation-db 3 --hiss 0.12 --babble 0.04
OPEN12_NOISY = $(OPEN12) --augmentation 0.85 --speech-share 0.55 --silence-share 0.14 --unknown-share 0.34 --noise-share 0.82 \
	--snr -3 36
# Words that sound like a command and are none, for the synthesisers.
NEAR = yet,yell,guess,less,mess,chess,new,now,low,toe,nose,note,none,cup,apt,us,app,hope,top,town,done,around,drown,lift,$\
	laughed,let,loft,leg,leave,ride,light,night,rice,rate,root,own,all,arm,honor,often,cough,soft,awful,step,stock,shop,spot,$\
	start,goal,goat,gold,ghost,got,girl,hello,music,lamp,play,pause,open,close,next,back,cancel,help,water,door,window,volume,$\
	turn,switch,computer,weather,time
# What thresholds are chosen on: words in quiet, behind a noise gate and in noise; voices, sounds and synthetic speech that trained
# nothing, at three levels. Those of commands12 are each keyword's own; words of strangers (benchmarks/strangers.py) chose them, too.
HELD_OUT = asterisk-core-sounds-ru-g722 colobot-common-sounds tuxmath-data unknown-horizons
DEVELOPMENT = runs/quiet.flac runs/noisy.flac runs/held_out runs/unheard/speech --gains -12 0 8

# Each step goes on where it was interrupted. The commands are learnt first, then all words from there, then the commands
# again from all words, and then, with synthetic speech, hard negatives and all voices and sounds, what streams are full of;
# the small network learns from the large one.
models: export TF_ENABLE_ONEDNN_OPTS = 0
models: .venv/test reference
	$(HOST) synthesize -o runs/synthetic --minutes 120 --per-word 200
	$(HOST) synthesize -o runs/unheard --minutes 120 --per-word 0 --seed 2
	$(HOST) collect -o runs/held_out --cache runs/packages --only $(HELD_OUT)
	$(HOST) collect -o runs/sounds --cache runs/packages --without $(HELD_OUT)
	$(HOST) collect --from repositories -o runs/open --cache runs/repositories
	for name in $(VOICES); do \
		[ -d runs/voices/$$name ] || git clone --depth 1 https://github.com/Picovoice/$$name runs/voices/$$name || exit 1; \
	done
	$(HOST) make-stream $(SPEECH_COMMANDS) -o runs/quiet.flac --clips 700 --seed 1
	$(HOST) make-stream $(SPEECH_COMMANDS) -o runs/noisy.flac --clips 500 --snr 10 10 --background $(DATA)/negatives/noise \
		--half training --seed 2
	$(HOST) train $(SOURCES) -o runs/base --epochs 45
	$(HOST) train $(SOURCES) -o runs/all_words --labels words36 --start runs/base --epochs 24 --seed 2
	$(HOST) train $(SOURCES) -o runs/commands --start runs/all_words --epochs 28 --augmentation 0.75 --seed 3
	$(HOST) train $(SOURCES) -o runs/clips12 --start runs/commands --epochs 9 --augmentation 0.75 \
		--learning-rate 1e-3 --seed 6
	$(HOST) train $(SOURCES) $(SYNTHETIC) -o runs/streams1 --start runs/clips12 --epochs 14 --augmentation 0.75 --shift-ms 200 \
		--reverberation 0.4 --hard-negatives 0.2 --speech-share 0.45 --learning-rate 1e-3 --seed 7 --keep last
	$(HOST) train $(SOURCES) $(SYNTHETIC) $(STREAMS) -o runs/streams2 --start runs/streams1 --epochs 9 \
		--reverberation 0.35 --learning-rate 7e-4 --seed 8
	$(HOST) train $(SOURCES) $(SYNTHETIC) $(STREAMS) -o runs/streams3 --start runs/streams2 --epochs 6 \
		--reverberation 0.3 --silence-share 0.16 --learning-rate 6e-4 --seed 9
	$(HOST) train $(SOURCES) $(SYNTHETIC) $(STREAMS) -o runs/mean --epochs 0 --start runs/clips12 \
		--blend runs/streams3 --blend-share 0.67 --reverberation 0.3 --silence-share 0.16 --seed 9
	$(HOST) train $(SOURCES) $(WIDE) -o runs/wide --start runs/mean --epochs 14 --learning-rate 1e-3 --seed 11
	$(HOST) train $(SOURCES) $(WIDE) -o runs/wide12 --start runs/wide --epochs 26 --learning-rate 1.2e-3 --seed 12
	$(HOST) train $(SOURCES) $(MINED12) -o runs/mined12 --start runs/wide12 --epochs 40 --learning-rate 1.2e-3 \
		--shift-ms 200 --unknown-share 0.34 --noise-share 0.85 --snr -5 35 --seed 21
	$(HOST) train $(SOURCES) $(MINED12) -o runs/distilled12 --start runs/wide12 --teacher runs/wide12,runs/mined12 \
		--teacher-weight 0.6 --epochs 16 --learning-rate 7e-4 --shift-ms 170 --unknown-share 0.35 --noise-share 0.75 \
		--snr -2 38 --seed 25
	$(HOST) train $(SOURCES) $(SYNTHETIC) -o runs/averaged12 --epochs 0 --start runs/distilled12 --blend runs/wide12
	$(HOST) train $(SOURCES) $(OPEN12_NOISY) -o runs/open12 --start runs/averaged12 --epochs 26 --learning-rate 1.2e-3 \
		--shift-ms 185 --seed 51
	$(HOST) train $(SOURCES) $(OPEN12_NOISY) -o runs/longer12 --start runs/open12 --epochs 66 --learning-rate 1.2e-3 \
		--shift-ms 185 --seed 61
	$(HOST) train $(SOURCES) $(OPEN12_NOISY) -o runs/taught12 --start runs/longer12 --teacher runs/longer12,runs/averaged12 \
		--teacher-weight 0.5 --epochs 18 --learning-rate 8e-4 --shift-ms 170 --seed 62
	$(HOST) train $(SOURCES) $(SYNTHETIC) -o runs/blended12 --epochs 0 --start runs/taught12 --blend runs/averaged12 \
		--blend-share 0.25
	$(HOST) train $(SOURCES) $(OPEN12) -o runs/tuned12 --start runs/blended12 --teacher runs/blended12,runs/averaged12 \
		--teacher-weight 0.5 --epochs 9 --learning-rate 6e-4 --shift-ms 140 --augmentation 0.65 --speech-share 0.5 \
		--silence-share 0.12 --unknown-share 0.28 --noise-share 0.75 --snr 0 38 --seed 63
	$(HOST) train $(SOURCES) $(SYNTHETIC) -o runs/prior12 --epochs 0 --start runs/tuned12 \
		--log-prior unknown=-0.4,silence=0.5
	$(HOST) synthesize -o runs/near --minutes 120 --per-word 200
	$(HOST) synthesize -o runs/near --labels $(NEAR) --minutes 0 --per-word 50
	$(HOST) train $(SOURCES) --synthetic runs/near --also-said benchmarks/librispeech_words.csv \
		--more-speech runs/sounds/speech --more-noise runs/sounds/noise --keep last --mined 0.35 --hard-negatives 0.1 \
		--reverberation 0.3 --variety 0.25 --equalisation-db 3 --hiss 0.12 --babble 0.04 --augmentation 0.65 --speech-share 0.5 \
		--silence-share 0.12 --unknown-share 0.3 --noise-share 0.75 --snr 0 38 --shift-ms 140 --gated 0.4 \
		-o runs/gated12 --start runs/prior12 --teacher runs/prior12 --teacher-weight 0.2 --epochs 12 --steps 200 \
		--learning-rate 8e-4 --seed 71
	$(HOST) train $(SOURCES) -o runs/commands12 --epochs 0 --start runs/gated12 --blend runs/prior12 --blend-share 0.5
	$(HOST) train $(SOURCES) $(SYNTHETIC) $(MORE) -o runs/wide_words --labels words36 --start runs/all_words --keep last --epochs 8 \
		--augmentation 0.75 --shift-ms 130 --reverberation 0.2 --unknown-share 0.2 --silence-share 0.06 \
		--learning-rate 1e-3 --seed 13
	$(HOST) train $(SOURCES) -o runs/wide36 --labels words36 --epochs 0 --start runs/all_words --blend runs/wide_words \
		--blend-share 0.6 --seed 13
	$(HOST) train $(SOURCES) $(MINED) -o runs/mined36 --labels words36 --start runs/wide36 --epochs 22 --augmentation 0.8 \
		--shift-ms 180 --reverberation 0.25 --unknown-share 0.2 --silence-share 0.07 --noise-share 0.8 --snr -3 37 \
		--learning-rate 1e-3 --seed 23
	$(HOST) train $(SOURCES) $(SYNTHETIC) -o runs/words36 --labels words36 --epochs 0 --start runs/mined36 --blend runs/wide36
	$(HOST) train $(SOURCES) -o runs/micro12 --model micro --teacher runs/clips12 --epochs 22 --augmentation 0.6 \
		--learning-rate 4e-3 --seed 4
	for name in words36 commands12 micro12; do \
		$(HOST) qat runs/$$name $(SOURCES) -o runs/$$name-qat || exit 1; \
		$(HOST) quantize runs/$$name -o $(SHIPPED)/$$name.tflite || exit 1; \
	done
	$(HOST) calibrate words36 $(DEVELOPMENT) --smoothing-ms 600 --threshold 0.61 --threshold marvin=0.8 -o $(SHIPPED)/words36.tflite
	$(HOST) calibrate micro12 $(DEVELOPMENT) --threshold 0.76 -o $(SHIPPED)/micro12.tflite
	$(HOST) calibrate commands12 $(DEVELOPMENT) --speech-margin 0.2 --smoothing-ms 800 --threshold 0.56 --threshold yes=0.76 \
		--threshold no=0.62 --threshold down=0.74 --threshold left=0.81 --threshold right=0.76 --threshold on=0.8 \
		--threshold off=0.82 --threshold go=0.79 -o $(SHIPPED)/commands12.tflite
	for name in words36 commands12 micro12; do \
		.venv/bin/kws-firmware arena $$name --json > runs/$$name/arena.json || exit 1; \
	done
	$(HOST) evaluate words36 $(VALIDATION36) -o runs/words36/evaluation.json
	$(HOST) evaluate commands12 $(TEST12) -o runs/commands12/evaluation.json
	$(HOST) evaluate micro12 $(TEST12) -o runs/micro12/evaluation.json
	$(HOST) report runs/words36 --qat runs/words36-qat --features $(DATA)/logmel -o runs/words36/report
	$(HOST) report runs/commands12 --qat runs/commands12-qat $(TEST12) -o runs/commands12/report
	$(HOST) report runs/micro12 --qat runs/micro12-qat $(TEST12) -o runs/micro12/report
	for name in words36 commands12 micro12; do \
		$(HOST) card $$name --evaluation runs/$$name/evaluation.json --arena runs/$$name/arena.json \
			--report runs/$$name/report/report.json -o $(SHIPPED)/$$name.md || exit 1; \
	done

# The reference system's network on the eight commands that have recordings here, which its front end needs. oneDNN's
# convolutions are faster for it, TensorFlow's own for the networks above.
reference: export TF_ENABLE_ONEDNN_OPTS = 1
reference: .venv/test
	$(HOST) train $(SPEECH_COMMANDS) $(NEGATIVES) -o runs/cnn_reference --model cnn_reference --front-end reference \
		--labels yes,no,up,down,left,right,stop,go --epochs 6 --steps 140 --batch-size 64 --augmentation 0.3 \
		--learning-rate 1e-3 --seed 5
	$(HOST) qat runs/cnn_reference $(SPEECH_COMMANDS) $(NEGATIVES) -o runs/cnn_reference-qat --epochs 1 --steps 40
	$(HOST) report runs/cnn_reference --qat runs/cnn_reference-qat $(TEST12) --own-labels -o runs/cnn_reference/report

clean:
	rm -rf .venv .venv-tflite .venv*-unfinished .venv-bench .cache build *.egg-info demo.png

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
	.venv/bin/python $(PIP) -e '.[plot,host,firmware,dev]'
	$(call end,.venv)
	@touch .venv/demo

.venv-tflite/test: setup.cfg pyproject.toml
	$(call begin,.venv-tflite)
	.venv-tflite/bin/python $(PIP) 'tflite-runtime==2.14.*' 'numpy<2' soundfile sounddevice soxr tqdm \
		'pytest==9.1.*' 'pytest-timeout>=2.4' 'pytest-xdist>=3.8'
	.venv-tflite/bin/python $(PIP) --no-deps -e .
	$(call end,.venv-tflite)
