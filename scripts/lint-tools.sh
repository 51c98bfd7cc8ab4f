# Sourced by the checks that `make check` runs: `lint_tools` fetches the Python tools that they
# share into .tools/lint, at the versions in requirements-lint.txt, once.
export PIP_ROOT_USER_ACTION=ignore
tools=.tools/lint

lint_tools() {
    if [ -f "$tools/done" ] && cmp -s "$tools/done" scripts/requirements-lint.txt; then
        return
    fi
    rm -rf "$tools"
    mkdir -p "$tools"
    python3 -m pip install --quiet --disable-pip-version-check --target "$tools" \
        -r scripts/requirements-lint.txt || {
        echo "$1: pip could not fetch $(grep -v '^#' scripts/requirements-lint.txt | paste -sd' ')" >&2
        exit 1
    }
    cp scripts/requirements-lint.txt "$tools/done"
}
