#!/usr/bin/env bash
# Checks compose.yaml against the compose specification, and the Dockerfile with hadolint.
set -euo pipefail
export PIP_ROOT_USER_ACTION=ignore
cd "$(dirname "$0")/.."

tools=.tools/lint
if [ ! -f "$tools/done" ] || ! cmp -s "$tools/done" scripts/requirements-lint.txt; then
    rm -rf "$tools"
    mkdir -p "$tools"
    python3 -m pip install --quiet --disable-pip-version-check --target "$tools" \
        -r scripts/requirements-lint.txt || {
        echo "check-deploy: pip could not fetch $(grep -v '^#' scripts/requirements-lint.txt | paste -sd' ')" >&2
        exit 1
    }
    cp scripts/requirements-lint.txt "$tools/done"
fi
echo "check-deploy: compose.yaml"
PYTHONPATH=$tools python3 -m check_jsonschema --builtin-schema vendor.compose-spec compose.yaml
echo "check-deploy: Dockerfile"
"$tools/bin/hadolint" Dockerfile
