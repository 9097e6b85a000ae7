#!/bin/sh
# What Binder would do with binder/: repo2docker plans an image from it (without Docker it builds none), and in a
# throw-away environment it is installed and warmed, the start page opened, a notebook run.
set -e
cd "$(dirname "$0")/.."
PYTHON="${PYTHON:-python3}"
wanted=$(sed 's/python-//' binder/runtime.txt)
found=$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
[ "$wanted" = "$found" ] || echo "-- note: Binder has Python $wanted, this is $found"
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"$PYTHON" -m venv "$place/planner"
"$place/planner/bin/pip" install --quiet --disable-pip-version-check jupyter-repo2docker
"$place/planner/bin/jupyter-repo2docker" --no-build --debug . >"$place/plan" 2>&1 || { tail -30 "$place/plan"; exit 1; }
for step in "python=$wanted" "install --no-cache-dir -r \"binder/requirements.txt\"" "RUN ./binder/postBuild"; do
    grep -qF -- "$step" "$place/plan" || { echo "repo2docker does not plan: $step"; exit 1; }
done
echo "-- repo2docker plans an image with Python $wanted, binder/requirements.txt and binder/postBuild"
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
