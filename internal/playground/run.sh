#!/bin/sh
# Runs the product against Microsoft's own playground client, in a network namespace without a way out, with token
# validation on. Needs root, ip (iproute2), npm and Chromium. The playground's licence is for evaluation only: it is
# installed into a scratch directory for this one run and is no part of the product.
set -eu

[ "$(id -u)" = 0 ] || { echo "make test-playground needs root, to make a network namespace" >&2; exit 3; }
for tool in ip npm node; do
    command -v $tool >/dev/null 2>&1 || { echo "$tool is missing; install iproute2, nodejs and npm" >&2; exit 3; }
done
here=$(cd "$(dirname "$0")" && pwd)
scratch=$(mktemp -d /tmp/cf-playground-XXXXXX)
chmod 755 "$scratch"
name=cfplay$$
cleanup() {
    ip netns pids $name 2>/dev/null | xargs -r kill 2>/dev/null || true
    ip netns del $name 2>/dev/null || true
    rm -rf /etc/netns/$name; [ -n "${KEEP:-}" ] || rm -rf "$scratch"
}
trap cleanup EXIT INT TERM

(cd "$scratch" && npm init -y >/dev/null && npm install --silent --no-audit --no-fund @microsoft/m365agentsplayground@0.2.28 playwright-core >/dev/null)
cp "$here/drive.mjs" "$scratch/"
(cd "$here/../.." && go build -o "$scratch/" ./cmd/counterfoil && go test -c -tags playground -o "$scratch/playground.test" ./internal/playground)

ip netns add $name
ip netns exec $name ip link set lo up
mkdir -p /etc/netns/$name
printf '127.0.0.1 localhost login.microsoftonline.com login.botframework.com\n' > /etc/netns/$name/hosts

cd "$scratch"
timeout 240 ip netns exec $name "$scratch/playground.test" -test.v -test.timeout 200s
