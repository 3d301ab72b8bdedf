# Every target first makes the clone ready (sidecar/setup/setup.sh): nothing to do, nothing done, 0.2 s.
#   PYTHON=/path/to/python3    another interpreter than Debian's, 3.11 or newer
#   PJPROJECT_TARBALL=/path    another pjproject source than that of sidecar/b2bua/pjproject/sources.sha256, 2.17 or newer
#   PJPROJECT_UNTRIED=1        what Debian has now, where none of that list can be had
#   PJ_SANITIZE=1              everything native under the address and undefined-behaviour sanitizers, in a venv of its own

SHELL := /bin/sh
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV := .venv$(if $(PJ_SANITIZE),-sanitize)
JOBS ?= 2
export PYTHON PJPROJECT_TARBALL PJPROJECT_UNTRIED PJPROJECT_SNAPSHOT PJ_SANITIZE
export PATH := $(PATH):/usr/sbin:/sbin# where Debian keeps mosquitto and kamailio

# The sanitizers must be loaded before Python is; Python itself leaks at exit by design.
ifdef PJ_SANITIZE
UNDER = env LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" \
    ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1:suppressions=$(CURDIR)/sidecar/b2bua/pjproject/ubsan.suppressions
REPORT = --tb=native# pytest's own wants the syntax tree of a test that failed, and Python 3.11 may fail to make it here
endif

# Where `make install` puts things: PREFIX (/usr/local), below DESTDIR.
export PREFIX DESTDIR

.PHONY: help setup setup-tests setup-web setup-package install uninstall deb package image package-test demo demo-web run check test test-again sipp bench bench-web fuzz mutants chaos clean

help:
	@echo 'make demo    real SIP calls through the sidecar to CDRs on MQTT, and a table of them (under a minute)'
	@echo 'make demo-web  the page for operators with a day of made calls; Ctrl-C ends it (needs Node and npm)'
	@echo 'make run     the sidecar in the foreground, on loopback, with its own broker; Ctrl-C ends it'
	@echo
	@echo 'make test    everything that must pass: check, then all tests'
	@echo 'make test-again  what failed at the last run, by itself'
	@echo 'make check   formatting, lint, types, import contract, includes of the native module'
	@echo 'make sipp    the SIPp scenarios alone; PJ_SANITIZE=1 make sipp: under address and undefined-behaviour sanitizers'
	@echo 'make bench   what a call costs: calls per second, CPU per call, delay until the CDR arrives'
	@echo 'make bench-web  how long each page of the operators takes with RECORDS=1000000 in the journal (FOLDER=: kept there, for again; ENGINE=postgresql)'
	@echo 'make fuzz    mutated SIP at the bridge for SECONDS=30; REPLAY=file MINIMISE=1: a finding; PJ_SANITIZE=1 sees more'
	@echo 'make chaos   faults at moments by chance, and a table of what is lost or told twice: ONLY=crash ROUNDS=100 CALLS=200 SEED=n'
	@echo 'make mutants small mistakes in the code that no test notices (slow): MODULE="core/steps core/doctor" SINCE=commit'
	@echo
	@echo 'make setup   only what all of the above do first: Debian packages, .venv, pjproject, native module;'
	@echo '             make setup-tests: also the programs that tests call; make setup-web: what the page loads in a browser'
	@echo 'make install, make uninstall: below PREFIX=/usr/local, a user and a unit sidecar; DESTDIR=; settings and state stay'
	@echo 'make deb     a Debian package for the Debian of this machine, in .build/package; make package: and what it is made of'
	@echo '             (CycloneDX); make image: a container image of it;'
	@echo '             make package-test: each tried, with calls, in a Debian of its own'
	@echo 'make clean   remove what was made in this clone; the pjproject builds in ~/.cache/sidecar stay'
	@echo
	@echo 'The first run takes three minutes and installs what is missing, as root or with sudo.'

setup:
	@sidecar/setup/setup.sh

setup-tests:
	@sidecar/setup/setup.sh tests

setup-web:
	@sidecar/setup/setup.sh web

setup-package:
	@sidecar/setup/setup.sh package

install: setup-package
	@sidecar/setup/install.sh

uninstall:
	@sidecar/setup/uninstall.sh

deb: setup-package
	@sidecar/setup/deb.sh

package: deb
	@deb=$$(ls .build/package/sidecar_*.deb) && \
	    $(VENV)/bin/python sidecar/setup/sbom.py .build/package/deb/debian/sidecar/usr/lib/sidecar "$${deb%.deb}.cdx.json" "$$deb" && \
	    ls "$${deb%.deb}.cdx.json"

image: package
	@sidecar/setup/apt.sh package-test
	@sidecar/setup/image.sh

package-test: image
	@sidecar/setup/package-test.sh
	@sidecar/setup/image-test.sh

demo: setup
	@$(UNDER) $(VENV)/bin/python -m sidecar.demo

demo-web: setup-web
	@$(UNDER) $(VENV)/bin/python -m sidecar.demo.web $(CALLS)

run: setup
	@$(UNDER) $(VENV)/bin/sidecar run

check: setup
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(VENV)/bin/python -m tests.b2bua.includes

test: setup-tests check
	$(UNDER) $(VENV)/bin/pytest -n $(JOBS) $(REPORT)

test-again: setup-tests
	$(UNDER) $(VENV)/bin/pytest $(REPORT) --last-failed --last-failed-no-failures none

sipp: setup-tests
	$(UNDER) $(VENV)/bin/pytest -n $(JOBS) $(REPORT) tests/sipp

bench: setup-tests
	@$(VENV)/bin/python -m tests.bench

bench-web: setup-web setup-tests
	@$(VENV)/bin/python -m tests.bench_web $(if $(RECORDS),--records $(RECORDS)) $(if $(FOLDER),--folder $(FOLDER)) \
	    $(if $(ENGINE),--engine $(ENGINE)) $(if $(BESIDE),--beside $(BESIDE)) $(if $(UP),--up $(UP))

fuzz: setup
	@$(UNDER) $(VENV)/bin/python -m tests.fuzz --seconds $(or $(SECONDS),30) $(if $(SEED),--seed $(SEED)) \
	    $(if $(REPLAY),--replay $(REPLAY) $(if $(MINIMISE),--minimise))

mutants: setup-tests
	@$(VENV)/bin/python -m tests.mutants $(MODULE) $(if $(SINCE),--since $(SINCE))

chaos: setup-tests
	@$(UNDER) $(VENV)/bin/python -m tests.chaos $(if $(ONLY),--only $(ONLY)) $(if $(ROUNDS),--rounds $(ROUNDS)) \
	    $(if $(CALLS),--calls $(CALLS)) $(if $(SEED),--seed $(SEED))

clean:
	rm -rf .venv .venv-sanitize .build .sidecar .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage*
	rm -rf sidecar/subscriber/node/node_modules sidecar/web/node/node_modules sidecar/web/static/npm
	find sidecar tests -name __pycache__ -prune -exec rm -rf {} +
