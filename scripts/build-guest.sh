#!/usr/bin/env bash
# Builds the small Debian guest that the demo and the integration tests back up, and prints the path of its qcow2 image.
#
#   packages ──debootstrap──► root tree ──mke2fs -d──► partition in a raw disk ──qemu-img──► CACHE/guests/NAME.qcow2
#
# What it promises:
#   - the image boots through BIOS GRUB on AHCI and on nothing else: its initramfs holds one storage driver, so that a
#     restore onto another controller fails until the drivers are injected. Its module tree holds them all. The initramfs
#     is made by initramfs-tools, or by dracut without systemd in it (an emulated processor would need 20 s more);
#   - /dev/ttyS0 shows the kernel, then `GUEST-BOOT-OK <uptime seconds> root=<device>` once multi-user.target is reached,
#     then a root shell. tty1 shows the same line under a banner, so that a screenshot says what it is of;
#   - qemu-guest-agent answers on the channel org.qemu.guest_agent.0 (exec, freeze, thaw); no network is configured;
#   - the name holds a hash of this file and of the parameters: an image that exists is the image, and a second call
#     takes milliseconds. It appears by rename, whole or not at all; of two builders one builds and the other waits.
#
# All mounts live in a mount namespace of their own and all processes in a pid namespace that dies with this script:
# kill -9 leaves no mount and no process, only a work directory, which the next build removes. No loop device is used.
#
# Needs root, and the packages that scripts/system-packages.txt lists under `guest`. Progress goes to stderr.
set -euo pipefail

usage() {
  cat <<'USAGE'
Usage: scripts/build-guest.sh [--layout gpt|mbr] [--size SIZE] [--modules "NAME ..."] [--initramfs GENERATOR]

  --layout   partition table (default gpt)
  --size     size of the virtual disk, a number with M or G (default 3G)
  --modules  kernel modules of the initramfs (default "ahci sd_mod ext4")
  --initramfs  initramfs-tools (default) or dracut

Environment:
  LIFEBOAT_CACHE  where images and packages are kept (default ~/.cache/lifeboat)

Prints the path of the image. Example: scripts/build-guest.sh --layout mbr --size 2G
USAGE
}

# Debian 12. Another release or UEFI comes as a parameter beside these, when something tests it.
readonly RELEASE=bookworm
readonly NAME=debian12
readonly PACKAGES=systemd-sysv,udev,kmod,initramfs-tools,zstd,busybox-static,iproute2,linux-image-amd64,qemu-guest-agent
readonly GRUB_DIR=/usr/lib/grub/i386-pc
readonly SECTOR_BYTES=512
# The first partition starts at 1 MiB, as every current installer does; on MBR the gap before it holds GRUB's core.
readonly FIRST_LBA=2048
# Left free behind the root partition: room for an EFI system partition when a restore changes the firmware.
readonly TAIL_SECTORS=$((128 * 2048))

fail() {
  printf 'build-guest: %s\n' "$*" >&2
  exit 1
}

step() {
  printf 'guest: %s\n' "$*" >&2
}

# --- outside the namespaces: parameters, cache, lock -------------------------------------------------------------

outer() {
  local layout=gpt size=3G modules="ahci sd_mod ext4" initramfs=initramfs-tools
  while (($# > 0)); do
    case $1 in
      --layout | --size | --modules | --initramfs)
        (($# > 1)) || fail "$1 needs a value; --help shows the form"
        printf -v "${1#--}" '%s' "$2"
        shift 2
        ;;
      -h | --help)
        usage
        exit 0
        ;;
      *) fail "unknown argument '$1'; --help shows the form" ;;
    esac
  done
  [[ $layout == gpt || $layout == mbr ]] || fail "layout '$layout' is not known: gpt or mbr"
  [[ $initramfs == initramfs-tools || $initramfs == dracut ]] || fail "initramfs '$initramfs' is not known: initramfs-tools or dracut"
  [[ $size =~ ^[1-9][0-9]{0,4}[MG]$ ]] || fail "size '$size' is not a number with M or G"
  [[ $modules =~ ^[a-z0-9_-]+(\ [a-z0-9_-]+)*$ ]] || fail "modules '$modules' are not names separated by single spaces"

  local cache=${LIFEBOAT_CACHE:-$HOME/.cache/lifeboat}/guests
  local script key image
  script=$(realpath "${BASH_SOURCE[0]}")
  key=$({
    cat "$script"
    printf '%s\n' "$layout" "$size" "$modules" "$initramfs"
  } | sha256sum | cut -c1-12)
  image=$cache/$NAME-$key.qcow2
  if [[ -f $image ]]; then
    printf '%s\n' "$image"
    return
  fi

  [[ $(id -u) == 0 ]] || fail "building the guest needs root (debootstrap, chroot): run it once with sudo; afterwards the cached image serves"
  local tool
  for tool in debootstrap sgdisk sfdisk mke2fs grub-mkimage qemu-img unshare setpriv flock; do
    command -v "$tool" >/dev/null || fail "'$tool' is not installed: run \`sh scripts/launch.sh setup\`, which installs what scripts/system-packages.txt lists"
  done
  [[ -f $GRUB_DIR/boot.img ]] || fail "$GRUB_DIR/boot.img is missing: install grub-pc-bin"

  mkdir -p "$cache/packages"
  exec 9>"$cache/lock"
  if ! flock -n 9; then
    step "another build is running; waiting for it"
    flock -w 1800 9 || fail "the other build held $cache/lock for 30 minutes; look for a hanging build-guest.sh"
  fi
  if [[ -f $image ]]; then
    printf '%s\n' "$image"
    return
  fi

  # Only the holder of the lock gets here, so every work directory that exists was left by a build that was killed.
  rm -rf "$cache"/work.*
  WORK=$(mktemp -d "$cache/work.XXXXXX")
  trap 'stop_inner; rm -rf "$WORK"' EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
  setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child --mount-proc -- \
    bash "$script" --inside "$WORK" "$cache/packages" "$layout" "$size" "$modules" "$initramfs" >&2 9>&- &
  INNER=$!
  # A shell runs its traps only between commands, and `wait` is the one that a signal interrupts.
  wait "$INNER" || fail "the build failed; the lines above say where"
  INNER=
  mv "$WORK/disk.qcow2" "$image"
  printf '%s\n' "$image"
}

WORK=
INNER=
stop_inner() {
  [[ -n $INNER ]] || return 0
  kill -KILL "$INNER" 2>/dev/null || true # may have ended by itself
  wait "$INNER" 2>/dev/null || true       # its status was not success, or we would not be here
  # unshare was killed: the kernel now kills the pid namespace. Its last process holds the mounts below WORK.
  local tries
  for tries in {1..50}; do
    pgrep -f -- "--inside $WORK " >/dev/null || return 0
    sleep 0.1
  done
  step "processes of the build did not end within $((tries / 10)) s; $WORK is removed nevertheless"
}

# --- inside: everything that mounts or runs foreign code ----------------------------------------------------------

inside() {
  local work=$1 packages=$2 layout=$3 size=$4 modules=$5 initramfs=$6
  local root=$work/root disk=$work/disk.raw
  readonly started=$SECONDS
  bootstrap "$root" "$packages" "$work/bootstrap.log" "$initramfs"
  local uuid kernel
  uuid=$(cat /proc/sys/kernel/random/uuid)
  kernel=$(ls "$root/lib/modules")
  configure "$root" "$uuid"
  initramfs "$root" "$kernel" "$modules" "$work/initramfs.log" "$initramfs"
  add_files "$root"
  grub_files "$root" "$uuid" "$kernel" "$work/core.img"
  unmount_below "$root"
  rm -rf "$root/var/cache/apt" "$root"/var/log/*.log "$root/var/log/apt"
  make_disk "$disk" "$root" "$layout" "$size" "$uuid"
  embed_grub "$disk" "$work/core.img" "$layout"
  qemu-img convert -f raw -O qcow2 -o compat=1.1 "$disk" "$work/disk.qcow2"
  rm -rf "$root" "$disk"
  step "done in $((SECONDS - started)) s, $(du -h "$work/disk.qcow2" | cut -f1) on disk"
}

# The Debian mirror that this machine's own apt uses, so that a local mirror or proxy is used without being named here.
mirror() {
  local found
  # shellcheck disable=SC2016 # the format is apt's, not the shell's
  found=$(apt-get indextargets --format '$(REPO_URI) $(ORIGIN) $(LABEL) $(COMPONENT)' 'Identifier: Packages' 2>/dev/null |
    awk '$2 == "Debian" && $3 == "Debian" && $4 == "main" && $1 ~ /^https?:/ { print $1; exit }') || found=
  printf '%s\n' "${found:-http://deb.debian.org/debian}"
}

bootstrap() {
  local root=$1 packages=$2 log=$3 include=$PACKAGES from proxy
  # Beside initramfs-tools, which the kernel's package depends on: dracut-core is the generator without hooks of its own.
  [[ $4 != dracut ]] || include+=,dracut-core
  from=$(mirror)
  proxy=$(apt-config dump --format '%v%n' Acquire::http::Proxy 2>/dev/null | head -n1)
  if [[ -n $proxy && -z ${http_proxy:-} ]]; then export http_proxy=$proxy; fi
  step "fetching Debian $RELEASE packages from ${from#*@}"
  debootstrap --foreign --variant=minbase --cache-dir="$packages" --include="$include" "$RELEASE" "$root" "$from" \
    >"$log" 2>&1 || fail_with "$log" "debootstrap could not fetch the packages of $RELEASE from ${from#*@}; check this machine's apt sources"

  # Not unpacked at all: documentation, and drivers that are neither storage nor wired network. Each module that loads
  # costs an emulated processor 0.1 to 0.7 s at every boot, and an index of half the size makes every look-up faster.
  # InfiniBand stays, because NVMe over RDMA depends on it.
  local trimmed_modules=(
    'sound/*' 'arch/x86/kvm/*' 'net/bluetooth/*' 'drivers/bluetooth/*' 'drivers/char/ppdev.ko' 'drivers/comedi/*'
    'drivers/cpufreq/*' 'drivers/crypto/*' 'drivers/edac/*' 'drivers/gpu/*' 'drivers/hwmon/*' 'drivers/i2c/busses/*'
    'drivers/iio/*' 'drivers/input/joystick/*' 'drivers/input/misc/*' 'drivers/input/mouse/*' 'drivers/input/tablet/*'
    'drivers/input/touchscreen/*' 'drivers/media/*' 'drivers/mfd/lpc_ich.ko' 'drivers/net/wireless/*'
    'drivers/parport/parport_pc.ko' 'drivers/parport/parport_serial.ko' 'drivers/staging/*' 'drivers/watchdog/*'
  )
  {
    echo force-unsafe-io
    printf 'path-exclude=/usr/share/%s/*\n' doc man locale info
    printf 'path-exclude=/lib/modules/*/kernel/%s\n' "${trimmed_modules[@]}"
  } >"$work/dpkg.cfg"
  mkdir -p "$root/etc/dpkg/dpkg.cfg.d"
  cp "$work/dpkg.cfg" "$root/etc/dpkg/dpkg.cfg.d/trim"
  printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
  chmod 755 "$root/usr/sbin/policy-rc.d"

  step "unpacking and configuring them"
  # INITRD=No: the initramfs is built once, at the end, with its final configuration.
  INITRD=No DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 chroot "$root" /debootstrap/debootstrap --second-stage \
    >"$log" 2>&1 </dev/null || fail_with "$log" "configuring the packages inside the guest failed"
  rm -f "$root/usr/sbin/policy-rc.d" # some versions of debootstrap take it away themselves
  sed -i /force-unsafe-io/d "$root/etc/dpkg/dpkg.cfg.d/trim"
}

fail_with() {
  tail -n 15 "$1" >&2
  shift
  fail "$@"
}

configure() {
  local root=$1 uuid=$2
  step "configuring the guest"
  # Pass 0: no check at boot (4 s of an emulated processor); tests check the filesystem from outside.
  printf 'UUID=%s / ext4 errors=remount-ro 0 0\n' "$uuid" >"$root/etc/fstab"
  echo lifeboat-guest >"$root/etc/hostname"
  printf '127.0.0.1 localhost lifeboat-guest\n::1 localhost\n' >"$root/etc/hosts"
  printf 'deb http://deb.debian.org/debian %s main\n' "$RELEASE" >"$root/etc/apt/sources.list"
  rm -f "$root/etc/resolv.conf"
  : >"$root/etc/machine-id" # empty: made at the first boot, so that no two machines share one

  cat >"$root/usr/local/sbin/boot-marker" <<'F'
#!/bin/sh
# Says that the system is up, on the serial line for programs and on the first screen for people. Builtins only: at the
# end of a boot an emulated processor needs a second for each process.
read -r uptime idle </proc/uptime
while read -r device directory rest; do
  if [ "$directory" = / ]; then root=$device; fi
done </proc/mounts
marker="GUEST-BOOT-OK $uptime root=$root"
printf '\r\n%s\r\n' "$marker" >/dev/ttyS0
read -r release </etc/debian_version
read -r kernel </proc/sys/kernel/osrelease
read -r host </proc/sys/kernel/hostname
printf '\033[2J\033[H\n  Lifeboat demo guest\n  Debian %s, Linux %s, host %s\n\n  %s\n' \
  "$release" "$kernel" "$host" "$marker" >/dev/tty1
F
  chmod 755 "$root/usr/local/sbin/boot-marker"
  # Type=idle of the gettys lets this finish before the serial line is reset for the login shell.
  cat >"$root/etc/systemd/system/boot-marker.service" <<'F'
[Unit]
Description=Boot marker
After=multi-user.target

[Service]
Type=oneshot
ExecStart=/usr/local/sbin/boot-marker

[Install]
WantedBy=multi-user.target
F
  mkdir -p "$root/etc/systemd/system/serial-getty@ttyS0.service.d"
  cat >"$root/etc/systemd/system/serial-getty@ttyS0.service.d/autologin.conf" <<'F'
[Service]
ExecStart=
ExecStart=-/sbin/agetty --keep-baud 115200 --noclear --autologin root %I vt100
F

  # Masked: what costs seconds of an emulated processor and gives a test machine nothing.
  local masked=(
    getty@tty1.service getty-static.service systemd-logind.service systemd-timesyncd.service
    systemd-networkd.service systemd-networkd.socket systemd-network-generator.service
    systemd-journal-flush.service systemd-update-utmp.service systemd-update-utmp-runlevel.service
    systemd-random-seed.service systemd-pstore.service systemd-binfmt.service systemd-sysusers.service
    systemd-modules-load.service modprobe@.service
    dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount
    sys-fs-fuse-connections.mount proc-sys-fs-binfmt_misc.automount
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer
  )
  {
    chroot "$root" systemctl enable boot-marker.service serial-getty@ttyS0.service
    chroot "$root" systemctl mask "${masked[@]}"
  } >"$work/systemctl.log" 2>&1 || fail_with "$work/systemctl.log" "enabling the guest's services failed"
}

initramfs() {
  local root=$1 kernel=$2 modules=$3 log=$4 generator=$5
  step "building the initramfs by $generator with: $modules"
  echo MODULES=list >"$root/etc/initramfs-tools/conf.d/only-listed-modules"
  tr ' ' '\n' <<<"$modules" >>"$root/etc/initramfs-tools/modules"
  mount -t proc proc "$root/proc"
  mount -t sysfs sys "$root/sys"
  mount --bind /dev "$root/dev"
  check_modules "$root/lib/modules/$kernel/kernel" "$log"
  {
    chroot "$root" depmod "$kernel"
    if [[ $generator == dracut ]]; then
      chroot "$root" dracut --force --no-hostonly --no-early-microcode --zstd --drivers "$modules" \
        --modules "bash base kernel-modules rootfs-block udev-rules fs-lib shutdown" "/boot/initrd.img-$kernel" "$kernel"
    else
      chroot "$root" update-initramfs -c -k "$kernel"
    fi
  } >"$log" 2>&1 || fail_with "$log" "building the initramfs failed"
}

# Of what a redeploy may inject, nothing may be missing: a module whose dependency was trimmed would fail only in the
# restore that needs it.
check_modules() {
  local tree=$1 log=$2 missing
  find "$tree" -name '*.ko' -printf '%f\n' | sed 's/\.ko$//; s/-/_/g' | sort -u >"$log.present"
  (cd "$tree" && find block crypto fs lib drivers/{ata,block,firewire,infiniband,md,message,mmc,mtd,net,nvdimm,nvme,scsi,target,usb/storage,virtio} \
    -name '*.ko' -print0 | xargs -0 modinfo -F depends) | tr ',-' '\n_' | sed /^$/d | sort -u >"$log.needed"
  missing=$(comm -13 "$log.present" "$log.needed" | tr '\n' ' ')
  [[ -z $missing ]] || fail "the trimmed module tree lacks what storage or network modules need: $missing"
}

unmount_below() {
  local root=$1 at
  for at in dev sys proc; do
    if mountpoint -q "$root/$at"; then umount "$root/$at"; fi
  done
}

# Some of a machine's own files beside the system, compressible and not, so that figures of a backup mean something.
add_files() {
  local root=$1
  step "adding files under /srv"
  mkdir -p "$root/srv/archive" "$root/srv/records"
  tar -C "$root" -czf "$root/srv/archive/usr-lib.tar.gz" usr/lib/x86_64-linux-gnu usr/lib/systemd
  local i
  for i in 1 2 3 4 5 6; do
    find "$root/usr" "$root/lib/modules/" -type f -printf "$i %s %i %m %P\n"
  done >"$root/srv/records/inventory.txt"
}

grub_files() {
  local root=$1 uuid=$2 kernel=$3 core=$4
  step "adding GRUB"
  mkdir -p "$root/boot/grub/i386-pc"
  cp "$GRUB_DIR"/*.mod "$GRUB_DIR"/*.lst "$GRUB_DIR/boot.img" "$root/boot/grub/i386-pc/"
  # mitigations=off: without them the emulated processor boots in 30 s instead of 36, and nobody attacks this guest.
  cat >"$root/boot/grub/grub.cfg" <<F
set timeout=0
serial --unit=0 --speed=115200
terminal_input serial console
terminal_output serial console
search --no-floppy --fs-uuid --set=root $uuid
echo "Lifeboat demo guest: loading Linux $kernel"
linux /boot/vmlinuz-$kernel root=UUID=$uuid ro console=tty0 console=ttyS0,115200 quiet mitigations=off
initrd /boot/initrd.img-$kernel
boot
F
  # shellcheck disable=SC2016 # $root is GRUB's variable
  printf 'search.fs_uuid %s root\nset prefix=($root)/boot/grub\n' "$uuid" >"$work/load.cfg"
  grub-mkimage -O i386-pc -d "$GRUB_DIR" -c "$work/load.cfg" -p /boot/grub -o "$core" \
    biosdisk part_gpt part_msdos ext2 search_fs_uuid normal configfile linux echo serial terminal
  cp "$core" "$root/boot/grub/i386-pc/core.img"
}

make_disk() {
  local disk=$1 root=$2 layout=$3 size=$4 uuid=$5
  step "making the disk ($layout, $size)"
  truncate -s "$size" "$disk"
  local total root_lba root_sectors
  total=$(($(stat -c %s "$disk") / SECTOR_BYTES))
  if [[ $layout == gpt ]]; then
    # 1: BIOS boot partition of 1 MiB for GRUB's core; 2: root.
    root_lba=$((FIRST_LBA * 2))
    root_sectors=$((total - root_lba - TAIL_SECTORS))
    sgdisk --clear --new=1:$FIRST_LBA:+1M --typecode=1:ef02 \
      --new=2:$root_lba:$((root_lba + root_sectors - 1)) --typecode=2:8300 "$disk" >"$work/sgdisk.log" 2>&1 ||
      fail_with "$work/sgdisk.log" "sgdisk could not partition a disk of $size"
  else
    root_lba=$FIRST_LBA
    root_sectors=$((total - root_lba - TAIL_SECTORS))
    printf 'label: dos\nstart=%d,size=%d,type=83,bootable\n' $root_lba $root_sectors | sfdisk --quiet "$disk"
  fi
  # GRUB 2.06 reads neither metadata_csum_seed nor orphan_file. Inode tables and journal are written now: a kernel that
  # does it lazily would dirty blocks in the background and spoil the figures of an incremental backup.
  mke2fs -q -F -t ext4 -L guestroot -U "$uuid" -O ^metadata_csum_seed,^orphan_file \
    -E "offset=$((root_lba * SECTOR_BYTES)),lazy_itable_init=0,lazy_journal_init=0" -d "$root" \
    "$disk" $((root_sectors / 2))k >"$work/mke2fs.log" 2>&1 ||
    fail_with "$work/mke2fs.log" "mke2fs could not put the guest's files on a disk of $size"
}

# What grub-bios-setup does, without needing a block device. Offsets: grub-core/boot/i386/pc/{boot,diskboot}.S.
embed_grub() {
  local disk=$1 core=$2 layout=$3 core_lba=1
  if [[ $layout == gpt ]]; then core_lba=$FIRST_LBA; fi
  local sectors=$((($(stat -c %s "$core") + SECTOR_BYTES - 1) / SECTOR_BYTES))
  ((sectors < FIRST_LBA - 1)) || fail "GRUB's core has $sectors sectors and the room for it $((FIRST_LBA - 1))"
  truncate -s $((sectors * SECTOR_BYTES)) "$core"
  # The first sector of the core loads the rest: where it lies (8 bytes), how long it is (2), and where to put it (2).
  patch_bytes "$core" $((0x1f4)) "$(little_endian 8 $((core_lba + 1)))$(little_endian 2 $((sectors - 1)))$(little_endian 2 $((0x820)))"
  # The boot sector: code up to the partition table, the core's place, and no check for a floppy drive (two NOPs).
  dd if="$GRUB_DIR/boot.img" of="$disk" bs=440 count=1 conv=notrunc status=none
  patch_bytes "$disk" $((0x5c)) "$(little_endian 8 $core_lba)"
  patch_bytes "$disk" $((0x66)) '\x90\x90'
  dd if="$core" of="$disk" bs=$SECTOR_BYTES seek=$core_lba conv=notrunc status=none
}

# little_endian BYTES NUMBER: as printf escapes.
little_endian() {
  local i
  for ((i = 0; i < $1; i++)); do printf '\\x%02x' $((($2 >> (8 * i)) & 255)); done
}

patch_bytes() {
  printf '%b' "$3" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

if [[ ${1:-} == --inside ]]; then
  shift
  inside "$@"
else
  outer "$@"
fi
