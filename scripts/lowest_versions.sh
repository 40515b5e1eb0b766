#!/usr/bin/env bash
# Writes constraints-lowest.txt: of each package that pyproject.toml names the lowest version that it allows, of theirs the
# newest that fit; but for the extra lmms, which has an environment of its own, those of "test" are all. Needs uv (pip
# install uv). torch stays that of constraints.txt: each release is gigabytes to try, and its own packages, which it pins
# itself, are left out.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

lowest="$(uv pip compile --quiet --no-header --no-annotate --extra test --python-version 3.11 \
    --resolution lowest-direct --constraint <(grep '^torch==' constraints.txt) pyproject.toml)"
{
    echo "# The lowest versions that pyproject.toml allows: written by scripts/lowest_versions.sh, tested by .ci/run."
    grep -vE '^(cuda|nvidia|triton)' <<<"$lowest"
} >constraints-lowest.txt
