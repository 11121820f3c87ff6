#!/bin/sh
# libvirtd-watcher.sh USERS: waits until no command uses libvirt any more, then stops what ensure_libvirtd started.
# The picture is in libvirtd.sh.
set -eu
exec 8>>"$1"
flock -x 8
if [ -n "$(timeout 10 virsh --quiet --connect qemu:///system list --name)" ]; then exit 0; fi

# stop PIDFILE NAME: only when the pid is still that program. It counts as gone when it is a zombie: process 1 may take its time.
# The next command must find neither the socket nor the process of a daemon that is about to end.
stop() {
  pid=$(cat "$1" 2>/dev/null) || return 0
  [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$2" ] || return 0
  kill "$pid"
  tries=0
  while runs "$pid" && [ "$tries" -lt 50 ]; do
    tries=$((tries + 1))
    sleep 0.2
  done
}
runs() {
  state=$(sed -n 's/^State:[[:space:]]*//p' "/proc/$1/status" 2>/dev/null) || return 1
  case $state in '' | Z*) return 1 ;; esac
}
stop /run/libvirtd.pid libvirtd
stop /run/virtlogd.pid virtlogd
