# Two commands do all set-up: `make lab` and `make test`.  Both may be run again at any time.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

.PHONY: lab course test check browser benchmark calibration influence study contact-sheet gallery screenshots binder grade oldest pyodide walks clean help

help:
	@echo "make lab         environment, then JupyterLab on the theophylline notebook"
	@echo "make course      the course without its solutions in course/, opened in JupyterLab"
	@echo "make test        environment, a browser if one can be had, then all checks and tests"
	@echo "make check       ruff, mypy, import-linter"
	@echo "make benchmark   timings as ratios to one evaluation of the data"
	@echo "make yardstick   every method on one scale of -2 log L, fifteen problems, checked in two ways"
	@echo "make study       bias, coverage and optima of three methods on 3 x 200 simulated data sets"
	@echo "make calibration do diagnostics keep their levels, and what do they see? (three minutes)"
	@echo "make influence   one-step influence against refits, levels of covariate tests, predicted shrinkage"
	@echo "make contact-sheet docs/library.html: every structure of the library"
	@echo "make gallery     docs/gallery.html: every diagnostic of a fit, with how to read it"
	@echo "make binder      install binder/ into a throw-away environment, run its start page, print its size"
	@echo "make grade       nbgrader, installed for it, grades a notebook of the course: solved and empty"
	@echo "make walks       from a file to a report: four studies in JupyterLab and in Voila"
	@echo "make oldest      browser tests on the lowest versions of JupyterLab, kernel and libraries supported"
	@echo "make pyodide     the package in WebAssembly under node: fits, explorer, tests of the core"
	@echo "make screenshots pictures of the environment for the README"

# The stamp is renewed when the dependencies change.
$(VENV)/.lab: pyproject.toml
	@echo "-- environment with JupyterLab in $(VENV)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[lab]'
	@touch $@

$(VENV)/.test: pyproject.toml
	@echo "-- environment with the test tools in $(VENV)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	@touch $(VENV)/.lab $@

lab: $(VENV)/.lab
	@echo "-- JupyterLab opens notebooks/01-theophylline.ipynb; stop it with Ctrl-C"
	@$(BIN)/jupyter lab $(LAB_OPTIONS) notebooks/01-theophylline.ipynb

course: $(VENV)/.lab
	@$(BIN)/python -m nlmewidgets.exercises course
	@$(BIN)/jupyter lab $(LAB_OPTIONS) course/00-index.ipynb

browser:
	@sh .ci/browser.sh

test: $(VENV)/.test browser check
	@echo "-- tests, on every processor"
	@$(BIN)/python -m pytest -q -n auto --dist worksteal --ignore=tests/browser
	@echo "-- tests in the browser"
	@$(BIN)/python -m pytest -q tests/browser

check: $(VENV)/.test
	@echo "-- ruff, mypy, import-linter"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo 2>/dev/null || $(BIN)/lint-imports

benchmark: $(VENV)/.test browser
	@for file in theophylline methods bayes linear odes records latency; do echo "-- $$file"; $(BIN)/python benchmarks/$$file.py || exit 1; done

yardstick: $(VENV)/.test
	@$(BIN)/python benchmarks/yardstick.py

study: $(VENV)/.test
	@$(BIN)/python benchmarks/simulation_estimation.py

calibration: $(VENV)/.test
	@$(BIN)/python benchmarks/diagnostics.py

influence: $(VENV)/.test
	@$(BIN)/python benchmarks/influence.py

screenshots: $(VENV)/.test browser
	@SCREENSHOTS=docs/images $(BIN)/python -m pytest -q tests/browser -k 'readable or line_of_code or ten_lines or (voila and theophylline)'
	@cd docs/images && for file in *; do case $$file in \
		app-start-light.png|code-dark.png|convergence-light.png|covariates-light.png|diagnostics-light.png|equations-dark.png|\
		individuals-light.png|look-nca-dark.png|look-profiles-light.png|pictures-light.png|population-light.png|race-light.png|\
		runs-light.png|shrinkage-light.png|walk-code.png|\
		walk-voila-theophylline-[01346]-*-light.png) ;; *) rm -f $$file ;; esac; done
	@cd docs/images && $(abspath $(BIN))/python -c "import glob; from PIL import Image; \
		[Image.open(f).convert('RGB').quantize(96).save(f, optimize=True) for f in glob.glob('*.png')]"; ls -l

binder:
	@PYTHON=$(PYTHON) sh .ci/binder.sh

grade: $(VENV)/.test
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[class]'
	@$(BIN)/python -m pytest -q -m slow tests/notebooks/test_nbgrader.py

walks: $(VENV)/.test browser
	@$(BIN)/python -m pytest -q -m 'slow or not slow' tests/browser/test_walks.py

oldest: $(VENV)/.test browser
	@PYTHON=$(PYTHON) VENV=$(VENV) sh .ci/oldest.sh

pyodide: $(VENV)/.test
	@$(BIN)/python -m pytest -q -rs -m pyodide tests/pyodide

contact-sheet: $(VENV)/.test
	@$(BIN)/python -m nlmewidgets.library docs/library.html

gallery: $(VENV)/.test
	@$(BIN)/python -m nlmewidgets.report docs/gallery.html

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache test-artifacts
