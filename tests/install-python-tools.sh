#!/usr/bin/env bash
# Puts the tools that look at the manifests, the page and the API into target/python-tools, unless they
# are there.
set -euo pipefail
cd "$(dirname "$0")"

tools=../target/python-tools
if cmp --silent python-tools.txt "$tools/python-tools.txt" && cmp --silent "${0##*/}" "$tools/${0##*/}"; then
    exit 0
fi
echo "Installing checkov, kubernetes-validate, yamllint, Helm for Python, axe-core and schemathesis into target/python-tools"
mkdir -p ../target
rm -rf "$tools"
python3 -m venv "$tools"
pip=("$tools/bin/pip" install --quiet --disable-pip-version-check)
"${pip[@]}" --requirement python-tools.txt
# Helm as a library. It asks for Python 3.12, and works with the 3.11 of Debian 12 too.
"${pip[@]}" --ignore-requires-python cffi==2.0.0 helm-sdkpy==0.1.32
# The checker of the page comes with a client that is not needed.
"${pip[@]}" --no-deps axe-playwright-python==0.1.8
# It wants other versions of what checkov wants, too.
python3 -m venv "$tools/schemathesis"
"$tools/schemathesis/bin/pip" install --quiet --disable-pip-version-check schemathesis==4.32.5
cp python-tools.txt "${0##*/}" "$tools/"
