#!/usr/bin/env bash
# Checks compose.yaml against the compose specification, and the Dockerfile with hadolint.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lint-tools.sh

lint_tools check-deploy
echo "check-deploy: compose.yaml"
PYTHONPATH=$tools python3 -m check_jsonschema --builtin-schema vendor.compose-spec compose.yaml
echo "check-deploy: Dockerfile"
"$tools/bin/hadolint" Dockerfile
