#!/bin/sh
# Bring a Chromium for the browser tests where that is possible, and say what was done.
for name in chromium chromium-browser google-chrome google-chrome-stable; do
    if command -v "$name" >/dev/null 2>&1; then
        echo "-- browser: $(command -v "$name")"
        exit 0
    fi
done
if [ "$(uname)" = Darwin ] && [ -x "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome" ]; then
    echo "-- browser: Google Chrome"
    exit 0
fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "-- browser: installing Debian's chromium"
    if apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null; then
        echo "-- browser: $(command -v chromium)"
        exit 0
    fi
fi
echo "-- browser: none found and none could be installed; the browser tests will be skipped."
echo "   Install Chromium or Google Chrome (Debian: apt-get install chromium) and run 'make test' again."
# In CI a missing browser is a failure, not a footnote.
[ -z "$CI" ] || exit 1
