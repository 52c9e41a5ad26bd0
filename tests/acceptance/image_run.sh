#!/bin/bash
# The image at $ROOT, run on a read-only root by $USER, in mount, network and process namespaces that the caller made.
# $WORK holds the image's environment, health check and command, one entry or word a line.
set -euo pipefail
mount --make-rprivate /
mount --bind "$ROOT" "$ROOT"
mount -o remount,bind,ro "$ROOT"
mount -t proc proc "$ROOT/proc"
mount -t tmpfs -o uid=10001,gid=10001,mode=0700 tmpfs "$ROOT/var/cache/cacheserver"
mount -t tmpfs tmpfs "$ROOT/dev"
mknod -m 666 "$ROOT/dev/null" c 1 3
mknod -m 666 "$ROOT/dev/urandom" c 1 9
ip link set lo up
cd "$WORK"
head -c 20000000 /dev/urandom > payload.bin
touch -d 2024-01-01 payload.bin
python3 -m http.server 9000 --bind 127.0.0.1 >/dev/null 2>&1 &
inside() { exec env -i "${ENVIRONMENT[@]}" chroot --userspec="$USER" "$ROOT" "$@"; }
mapfile -t ENVIRONMENT < "$WORK/environment"
mapfile -t HEALTH < "$WORK/health"
mapfile -t COMMAND < "$WORK/command"
if (inside "${HEALTH[@]}") 2>/dev/null; then echo "healthy without a node" >&2; exit 1; fi
if (inside touch /opt/cacheserver/written) 2>/dev/null; then echo "the root can be written" >&2; exit 1; fi
inside "${COMMAND[@]}" --allow http://files.example --connect-to files.example=127.0.0.1:9000 2> "$WORK/log" &
node=$!
for _ in $(seq 200); do
    if (inside "${HEALTH[@]}" --ready) >/dev/null 2>&1; then break; fi
    sleep 0.1
done
(inside "${HEALTH[@]}")
for _ in cold warm; do
    curl -sS --fail -o got --connect-to files.example:80:127.0.0.1:8080 http://files.example/payload.bin
    cmp got payload.bin
done
curl -sS --fail http://127.0.0.1:8081/metrics | grep '^cacheserver_requests_total.*outcome="hit"'
stat -c 'user %u' "$ROOT/proc/$node"
kill -TERM "$node"
wait "$node"
echo "exit 0"
