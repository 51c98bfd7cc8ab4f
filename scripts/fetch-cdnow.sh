#!/usr/bin/env bash
# Fetches a real shop's purchase log, 6,919 purchases of 1997 and 1998, into .tools/data and
# prints where it is. It comes with the PyPI package `lifetimes`; it is not part of the project.
set -euo pipefail
export PIP_ROOT_USER_ACTION=ignore
cd "$(dirname "$0")/.."

file=.tools/data/CDNOW_sample.txt
member=lifetimes/datasets/CDNOW_sample.txt
wheel_sha256=261e3dc89977c2b60767ca6728aaa29d429de0c814635070a749c36555895da8
file_sha256=6fae10155c0b0ba363c2c386e30f77990d22328220efd862a5edd1443420d94a

sha256() { python3 -c 'import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest())' "$1"; }

if [ ! -f "$file" ] || [ "$(sha256 "$file")" != "$file_sha256" ]; then
    mkdir -p .tools/data
    folder=$(mktemp -d .tools/cdnow.XXXXXX)
    trap 'rm -rf "$folder"' EXIT
    echo "fetch-cdnow: fetching the purchase log" >&2
    printf 'lifetimes==0.11.3 --hash=sha256:%s\n' "$wheel_sha256" >"$folder/requirements.txt"
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes \
        --only-binary=:all: --dest "$folder" -r "$folder/requirements.txt" || {
        echo "fetch-cdnow: pip could not fetch the package lifetimes 0.11.3; is there a network?" >&2
        exit 1
    }
    python3 -m zipfile -e "$folder"/*.whl "$folder/wheel"
    [ "$(sha256 "$folder/wheel/$member")" = "$file_sha256" ] || {
        echo "fetch-cdnow: $member is not the file that was expected; nothing was kept" >&2
        exit 1
    }
    mv -f "$folder/wheel/$member" "$file"
fi
echo "$file"
