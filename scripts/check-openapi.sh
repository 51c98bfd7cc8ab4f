#!/usr/bin/env bash
# Starts a platform and has schemathesis ask its two APIs whatever their OpenAPI documents allow,
# and some of what they do not: no answer may be a fault (5xx), or one that is not documented.
#
# It takes a minute and a half; SECONDS_EACH=300 makes a long run of it. A platform for trying has
# no rates, so nothing is refused for being asked often.
set -euo pipefail
cd "$(dirname "$0")/.."
export PIP_ROOT_USER_ACTION=ignore

tools=.tools/openapi
if ! cmp -s "$tools/done" scripts/requirements-openapi.txt; then
    echo "check-openapi: fetching schemathesis into $tools"
    rm -rf "$tools"
    python3 -m venv "$tools"
    "$tools/bin/pip" install --quiet --disable-pip-version-check -r scripts/requirements-openapi.txt || {
        echo "check-openapi: pip could not fetch $(grep -v '^#' scripts/requirements-openapi.txt)" >&2
        exit 1
    }
    cp scripts/requirements-openapi.txt "$tools/done"
fi

cargo build --locked --quiet --package waybill
data=${TMPDIR:-/tmp}/waybill-openapi-$$
any=127.0.0.1:0
"${CARGO_TARGET_DIR:-target}/debug/waybill" up --data-dir "$data" --temporary \
    --command-addr $any --query-addr $any --payment-addr $any --carrier-addr $any \
    >"$data.log" 2>&1 &
platform=$!
config=$data.toml
stop() {
    kill "$platform" 2>/dev/null || true
    wait "$platform" 2>/dev/null || true
    rm -rf "$data" "$data.log" "$config"
}
trap stop EXIT
for _ in $(seq 600); do
    [ -s "$data/endpoints.json" ] && break
    kill -0 "$platform" 2>/dev/null || { cat "$data.log" >&2; exit 1; }
    sleep 0.2
done

# An order to ask about, and the ids of what belongs to it.
eval "$(python3 scripts/check-openapi.py "$data/endpoints.json" "$config")"

# What is asked for is never newer than the log: whoever waits for what nobody wrote is told 503.
ask() {
    local name=$1 url=$2
    shift 2
    echo "check-openapi: $name"
    "$tools/bin/schemathesis" --config-file "$config" run "$url/openapi.json" --no-color \
        --header "Authorization: Bearer $token" --header "Min-Position: 1" --warnings off \
        --checks not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance,unsupported_method,ignored_auth \
        --exclude-operation-id followLog --request-timeout 20 --continue-on-failure \
        --seed "${SEED:-7}" "$@" >"$data.log.ask" 2>&1 && { tail -1 "$data.log.ask"; rm "$data.log.ask"; return; }
    cat "$data.log.ask" >&2
    rm "$data.log.ask"
    exit 1
}

seconds=${SECONDS_EACH:-30}
ask "queries about what there is" "$queries" --phases examples,coverage
printf '' >"$config"
ask "commands" "$commands" --phases examples,coverage,fuzzing --max-time "$seconds"
ask "queries" "$queries" --phases examples,coverage,fuzzing --max-time "$seconds"
