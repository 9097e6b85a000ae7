#!/bin/sh
# What Binder would do with binder/, in a throw-away environment: install, warm, open the start page, run a notebook.
# repo2docker is not needed for it (and needs Docker to do more than look at the files).
set -e
cd "$(dirname "$0")/.."
PYTHON="${PYTHON:-python3}"
wanted=$(sed 's/python-//' binder/runtime.txt)
found=$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
[ "$wanted" = "$found" ] || echo "-- note: Binder has Python $wanted, this is $found"
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"$PYTHON" -m venv "$place/env"
PATH="$place/env/bin:$PATH"
export PATH
pip install --quiet --disable-pip-version-check -r binder/requirements.txt
bash binder/postBuild
cp notebooks/01-theophylline.ipynb "$place"
cd "$place"
python -W ignore -c "
from nlmewidgets.panels.startpage import page
start = page()
start.example.value = 'theophylline'
start.structure = 'oral_1cpt'
explorer = start.start().explorer.wait(60).start().wait(120)
assert explorer.status == 'converged', explorer.message
print('-- start page:', explorer.message)
"
jupyter execute --timeout=120 01-theophylline.ipynb >execute.log 2>&1 || { tail -30 execute.log; exit 1; }
echo "-- notebooks/01-theophylline.ipynb ran"
echo "-- installed: $(du -sm "$place/env" | cut -f1) MB"
