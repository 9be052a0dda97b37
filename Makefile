# Every command does its own set-up first (tools/setup.py); a second run installs nothing again.
.DEFAULT_GOAL := help
.PHONY: help book serve lab notebooks test bench lock clean

PYTHON  ?= python3
BOOK_PYTHON := .venv/bin/python
PORT    ?= 8000
CHAPTER ?=
BENCH   ?=
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export PYTHONHASHSEED := 0

help:
	@echo 'make book                       build the book into _build/html'
	@echo 'make serve [PORT=8000]          build it and serve it on 127.0.0.1'
	@echo 'make lab [PORT=8888]            open the chapters in JupyterLab'
	@echo 'make test [CHAPTER=name]        run every check, or those of one chapter'
	@echo 'make notebooks [CHAPTER=name]   execute the chapters and store their outputs'
	@echo 'make bench [BENCH=name WRITE=1] measure speed and size against reference libraries'
	@echo 'make lock                       compile requirements.in into requirements.txt'
	@echo 'make clean                      remove what was built (the virtual environment stays)'

book:
	@$(PYTHON) tools/setup.py site
	@$(BOOK_PYTHON) tools/build.py

serve:
	@$(PYTHON) tools/setup.py site
	@$(BOOK_PYTHON) tools/serve.py site --port $(PORT)

lab:
	@$(PYTHON) tools/setup.py site
	@$(BOOK_PYTHON) tools/serve.py lab --port $(if $(filter file,$(origin PORT)),8888,$(PORT))

test:
	@$(PYTHON) tools/setup.py tests
	@$(BOOK_PYTHON) tools/check.py $(if $(CHAPTER),--chapter $(CHAPTER))

notebooks:
	@$(PYTHON) tools/setup.py site
	@$(BOOK_PYTHON) tools/notebooks.py $(CHAPTER)

bench:
	@$(PYTHON) tools/setup.py tests
	@$(BOOK_PYTHON) tools/bench.py $(BENCH) $(if $(WRITE),--write)

lock:
	@$(PYTHON) tools/setup.py site
	@$(BOOK_PYTHON) tools/lock.py

clean:
	rm -rf _build
