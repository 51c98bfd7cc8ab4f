#!/usr/bin/env bash
# Checks compose.yaml against the compose specification, the Dockerfile with hadolint, and the
# rules for alerts with promtool.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lint-tools.sh

lint_tools check-deploy
echo "check-deploy: compose.yaml"
PYTHONPATH=$tools python3 -m check_jsonschema --builtin-schema vendor.compose-spec compose.yaml
echo "check-deploy: Dockerfile"
"$tools/bin/hadolint" Dockerfile

# promtool: the one on the PATH, or that of Debian's package, unpacked into .tools.
promtool=$(command -v promtool || echo .tools/bin/promtool)
if [ ! -x "$promtool" ]; then
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    chmod 755 "$folder"
    apt-get update -qq || true
    if ! (cd "$folder" && apt-get download -qq prometheus); then
        echo "check-deploy: no promtool, and apt could not fetch Debian's package prometheus" >&2
        exit 1
    fi
    mkdir -p .tools/bin
    dpkg-deb --fsys-tarfile "$folder"/prometheus_*.deb |
        tar -x --to-stdout ./usr/bin/promtool >"$folder/promtool"
    install -m 755 "$folder/promtool" .tools/bin/promtool
fi
echo "check-deploy: deploy/alerts.yaml"
"$promtool" check rules deploy/alerts.yaml
"$promtool" test rules deploy/alerts_test.yaml
while read -r alert; do
    grep -q "name: $alert, raised" deploy/alerts_test.yaml || {
        echo "check-deploy: deploy/alerts_test.yaml does not raise $alert" >&2
        exit 1
    }
done < <(sed -nE 's/^ *- alert: (.*)/\1/p' deploy/alerts.yaml)
