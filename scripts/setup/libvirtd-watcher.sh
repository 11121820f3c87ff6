#!/bin/sh
# libvirtd-watcher.sh USERS: waits until no command uses libvirt any more, then stops what ensure_libvirtd started.
# The picture is in libvirtd.sh.
set -eu
exec 8>>"$1"
flock -x 8
if [ -n "$(timeout 10 virsh --quiet --connect qemu:///system list --name)" ]; then exit 0; fi

# stop PIDFILE NAME: only when the pid is still that program.
stop() {
  pid=$(cat "$1" 2>/dev/null) || return 0
  if [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$2" ]; then kill "$pid"; fi
}
stop /run/libvirtd.pid libvirtd
stop /run/virtlogd.pid virtlogd
# The next command must not find the socket of a daemon that is about to end.
tries=0
while pgrep -x libvirtd >/dev/null && [ "$tries" -lt 50 ]; do
  tries=$((tries + 1))
  sleep 0.2
done
