#!/bin/sh
# Builds atoll-sandbox and atoll-prewarm into the directory given as argument:
# static, stripped, with the version that snapshots are tied to.
set -eu
out=${1:?usage: gvisor/build.sh DIRECTORY}
mkdir -p "$out"
out=$(cd "$out" && pwd)
cd "$(dirname "$0")/.."
# Snapshots restore only under the very same kernel. Raise the level when a
# change of ours affects what is in a snapshot. Tests build other levels.
level=${ATOLL_SNAPSHOT_LEVEL:-3}
version=$(go list -m -f '{{.Version}}' gvisor.dev/gvisor)-atoll$level
patched=$(go run ./gvisor/patch)
CGO_ENABLED=0 "$patched/go" build -trimpath -modfile "$patched/go.mod" \
	-ldflags "-s -w -X gvisor.dev/gvisor/runsc/version.version=$version" \
	-o "$out/atoll-sandbox" ./cmd/atoll-sandbox
"$out/atoll-sandbox" selfcheck
"${CC:-cc}" -Os -static -nostdlib -ffreestanding -fno-builtin -fno-stack-protector -fno-pie -no-pie \
	-fno-asynchronous-unwind-tables -Wall -Wextra -Werror -Wl,--build-id=none -Wl,-z,noseparate-code \
	-s -o "$out/atoll-prewarm" gvisor/prewarm/prewarm.c
