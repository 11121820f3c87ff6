# shellcheck shell=sh
# Makes sure that libvirt answers, on machines without systemd too.
#
# Where nothing else starts it, we start virtlogd and libvirtd, and stop them again after the last command that uses
# them, however it ends:
#
#   each command    shared lock on USERS, held by the process itself: the kernel drops it at any death
#   watcher         started with libvirtd; waits for the exclusive lock, then stops what was started
#   tini            parent of libvirtd, and of the guests it hands over; waits for each of them the moment it ends
#
# Two things that a machine without systemd and udev lacks, and that cost minutes where they are missing:
#
#   - libvirt waits until a process it ended is gone, and a zombie is not. Where process 1 collects its children
#     every two seconds only (seen in containers and microVMs), every end of a guest takes that long.
#   - udev gives /dev/kvm to the group that QEMU runs in. Where it belongs to root alone, libvirt's own probe of QEMU finds
#     KVM, its next look says that QEMU's user may not use it, and so it probes again, at every call.
#
# A command that comes while the watcher stops libvirtd waits for its shared lock and starts it again. Not stopped: a
# libvirtd that somebody else started, and one that has machines running (`lifeboat demo --keep`).

LIBVIRT_STATE=/run/lifeboat
LIBVIRT_USERS=$LIBVIRT_STATE/libvirt-users

libvirt_answers() {
  timeout 10 virsh --quiet --connect qemu:///system uri >/dev/null 2>&1
}

ensure_libvirtd() {
  if [ "$(id -u)" != 0 ]; then
    libvirt_answers || die "libvirt does not answer user $(id -un) at qemu:///system: run as root, or join its group (sudo usermod -aG libvirt $(id -un), then log in again)."
    return 0
  fi
  mkdir -p "$LIBVIRT_STATE"
  # Descriptor 7 stays open until this process and the Node it becomes end; Node does not hand it on to its children.
  exec 7>>"$LIBVIRT_USERS"
  flock -s -w 60 7 || die "another command holds $LIBVIRT_USERS for 60 s; look for a hanging 'flock $LIBVIRT_USERS'."
  libvirt_answers || with_lock libvirtd start_libvirtd
}

# What Debian's udev rules do; nothing where udev runs, or where somebody decided otherwise.
hand_kvm_to_qemu() {
  [ -c /dev/kvm ] && [ ! -e /run/udev/control ] && getent group kvm >/dev/null || return 0
  [ "$(stat -c '%U:%G %a' /dev/kvm)" = 'root:root 600' ] || return 0
  # A read-only /dev: it stays slow, and works.
  chgrp kvm /dev/kvm && chmod 660 /dev/kvm || echo "lifeboat: /dev/kvm stays root's: libvirt will probe QEMU at every call." >&2
}

start_libvirtd() {
  ! libvirt_answers || return 0
  begin "starting libvirt"
  if [ -d /run/systemd/system ]; then
    logged libvirtd systemctl start libvirtd || die "systemctl could not start libvirtd: see \`journalctl -u libvirtd\`."
  else
    (
      # What the caller has open (a lock of flock's, say) must not stay open as long as libvirt runs.
      exec 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-
      pgrep -x virtlogd --runstates DIRST >/dev/null || logged virtlogd virtlogd --daemon || die "virtlogd did not start: see $CACHE/logs/virtlogd.log."
      hand_kvm_to_qemu
      mkdir -p "$CACHE/logs"
      setsid tini -s -- libvirtd </dev/null >"$CACHE/logs/libvirtd.log" 2>&1 &
      setsid sh "$ROOT/scripts/setup/libvirtd-watcher.sh" "$LIBVIRT_USERS" </dev/null >/dev/null 2>&1 &
    )
  fi
  tries=0
  until libvirt_answers; do
    tries=$((tries + 1))
    [ "$tries" -lt 20 ] || die "libvirtd was started and does not answer at qemu:///system: see \`virsh -c qemu:///system uri\` and $CACHE/logs/libvirtd.log."
    sleep 0.5
  done
  finish
}
