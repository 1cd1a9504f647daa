# Everything a newcomer needs: `make demo` and `make test`. Both set up what is missing.

PYTHON ?= python3
PIP := .venv/bin/python -m pip
RUN := .venv/bin/musicgen-rl
PROMPT ?= slow sad piano
SIZE ?= cpu
STEPS ?= 97
# Two cores are shared by torch and the test workers: one torch thread in each worker.
WORKERS ?= 2
DEBIAN := chromium

.PHONY: setup demo generate test test-slow test-ray lint bench pocket evidence system

setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	$(PIP) install --quiet --upgrade pip
	$(PIP) install --quiet --constraint constraints.txt --editable '.[app,train,eval,dev]'
	.venv/bin/python -c 'from musicgen_rl.sampling import draw; draw.link_native()'  # compiled once
	touch .venv/ready

demo: setup
	$(RUN) demo

generate: setup
	$(RUN) generate "$(PROMPT)" --output out

# Chromium, for the browser tests, where the machine has apt.
system:
	@for p in $(DEBIAN); do command -v $$p >/dev/null || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ] && command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
		apt-get update -qq && apt-get install -y -qq $$missing >/dev/null; \
	elif [ -n "$$missing" ]; then echo "not installed:$$missing (some tests will say so)"; fi

test: setup system lint
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n $(WORKERS)
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -m browser

test-slow: setup
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -m slow

# A cluster of two workers on this machine; Ray is not installed by `make setup`.
test-ray: setup
	$(PIP) install --quiet --constraint constraints.txt --editable '.[ray,dev]'
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -m ray

lint: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports --no-cache >/dev/null || .venv/bin/lint-imports

bench: setup
	.venv/bin/python benchmarks/decode.py

pocket: setup
	$(RUN) train pocket --size $(SIZE)

# The committed front, with the two controls that are trained for it: an hour and more on two cores.
# Every step goes on where it stopped. Training has other bits on another machine.
EVIDENCE := runs/evidence
evidence: setup
	$(RUN) data make $(EVIDENCE)/words --hours 100 --seed 1701 --workers $(WORKERS) --no-audio
	$(RUN) data make $(EVIDENCE)/music --hours 4 --seed 909 --workers $(WORKERS)
	$(RUN) train endpoints --base pocket --start checkpoints/pocket/quality --preset pocket-gpu \
		--end diversity --diversity-weight 0 --reward cosine --prompts-per-step 10 --micro-batch-size 16 \
		--steps $(STEPS) --minutes 0 --seed 42 --processes $(WORKERS) \
		--prompts $(EVIDENCE)/words/manifest.jsonl -o $(EVIDENCE)/beta0
	.venv/bin/python -m musicgen_rl.training.ease $(EVIDENCE)/beta0/export --part 1 --share 1 \
		--out $(EVIDENCE)/beta0/eased
	$(RUN) train lm --start pocket --codec checkpoints/pocket/codec --steps $(STEPS) --minutes 0 \
		--batch-size 8 --micro-batch-size 4 --crop-frames 500 --muon-lr 0.005 --adamw-lr 0.0005 \
		--ema-decay 0.9 --seed 6 --processes $(WORKERS) \
		--manifest $(EVIDENCE)/music/manifest.jsonl --out $(EVIDENCE)/continued
	$(RUN) evaluate --model pocket --prompts docs/results/pocket/final.jsonl --split final --again \
		--arms default --beta0 $(EVIDENCE)/beta0/eased --continued $(EVIDENCE)/continued/export \
		--real docs/results/pocket/real.npz -P 240 -n 4 --duration 5 --workers $(WORKERS) \
		-o $(EVIDENCE)/result
