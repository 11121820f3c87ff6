#!/usr/bin/env bash
# Builds the small Debian guest that the demo and the integration tests back up, and prints the path of its qcow2 image; of
# a guest with two disks, the second path in a second line.
#
#   packages ──debootstrap──► root tree ──mkfs──► root volume ──► partitions in raw disks ──qemu-img──► CACHE/guests/NAME.qcow2
#
# What it promises:
#   - the image boots through GRUB (BIOS, or UEFI) on AHCI and on nothing else: its initramfs holds one storage driver, so
#     that a restore onto another controller fails until the drivers are injected. Its module tree holds them all. The
#     initramfs is made by initramfs-tools, or by dracut without systemd in it (an emulated processor would need 20 s more);
#   - its root is what --root says. Logical volumes are made by LVM's own tools, which need no device mapper for that;
#     the superblocks of arrays are written here, since mdadm makes none without the kernel's driver;
#   - /dev/ttyS0 shows the kernel, then `GUEST-BOOT-OK <uptime seconds> root=<device>` once multi-user.target is reached,
#     then a root shell. tty1 shows the same line under a banner, so that a screenshot says what it is of;
#   - qemu-guest-agent answers on the channel org.qemu.guest_agent.0 (exec, freeze, thaw); no network is configured;
#   - the name holds a hash of this file and of the parameters: an image that exists is the image, and a second call
#     takes milliseconds. It appears by rename, whole or not at all; of two builders one builds and the other waits.
#
# All mounts live in a mount namespace of their own and all processes in a pid namespace that dies with this script:
# kill -9 leaves no mount and no process, only a work directory, which the next build removes. Loop devices, where a root
# needs them, detach themselves with the last process that has them open.
#
# Needs root, and the packages that scripts/system-packages.txt lists under `guest`. Progress goes to stderr.
set -euo pipefail

usage() {
  cat <<'USAGE'
Usage: scripts/build-guest.sh [--release bookworm|bullseye|trixie] [--layout gpt|mbr] [--firmware bios|uefi]
         [--root KIND] [--size SIZE] [--modules "NAME ..."] [--initramfs GENERATOR]

  --release  Debian 12 (default), 11 or 13
  --layout   partition table (default gpt)
  --firmware what GRUB is for (default bios); uefi needs gpt
  --root     ext4 (default), xfs, btrfs (subvolume @rootfs), lvm (ext4 in a logical volume), lvm-striped (over two disks),
             raid1 or raid0 (ext4 on an array of two disks)
  --size     size of each virtual disk, a number with M or G (default 3G)
  --modules  storage drivers of the initramfs (default "ahci sd_mod"); what the root needs comes with it
  --initramfs  initramfs-tools (default) or dracut

Environment:
  LIFEBOAT_CACHE  where images and packages are kept (default ~/.cache/lifeboat)

Prints the path of the image. Example: scripts/build-guest.sh --layout mbr --size 2G
USAGE
}

declare -rA NAMES=([bullseye]=debian11 [bookworm]=debian12 [trixie]=debian13)
readonly PACKAGES=systemd-sysv,udev,kmod,initramfs-tools,zstd,busybox-static,iproute2,linux-image-amd64,qemu-guest-agent
declare -rA GRUB_DIRS=([bios]=/usr/lib/grub/i386-pc [uefi]=/usr/lib/grub/x86_64-efi)
readonly SECTOR_BYTES=512
# The first partition starts at 1 MiB, as every current installer does; on MBR the gap before it holds GRUB's core.
readonly FIRST_LBA=2048
# Left free behind the root partition: room for an EFI system partition when a restore changes the firmware.
readonly TAIL_SECTORS=$((128 * 2048))
readonly ESP_SECTORS=$((64 * 2048))
# What LVM and mdadm take by default.
readonly STRIPE_KIB=64
readonly RAID_CHUNK_KIB=512
readonly RAID_DATA_SECTORS=2048

fail() {
  printf 'build-guest: %s\n' "$*" >&2
  exit 1
}

step() {
  printf 'guest: %s\n' "$*" >&2
}

# --- outside the namespaces: parameters, cache, lock -------------------------------------------------------------

outer() {
  local release=bookworm layout=gpt firmware=bios root=ext4 size=3G modules="ahci sd_mod" initramfs=initramfs-tools
  while (($# > 0)); do
    case $1 in
      --release | --layout | --firmware | --root | --size | --modules | --initramfs)
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
  [[ -n ${NAMES[$release]:-} ]] || fail "release '$release' is not known: ${!NAMES[*]}"
  [[ $firmware == bios || $firmware == uefi ]] || fail "firmware '$firmware' is not known: bios or uefi"
  [[ $firmware == bios || $layout == gpt ]] || fail "firmware uefi needs the layout gpt"
  [[ " ext4 xfs btrfs lvm lvm-striped raid1 raid0 " == *" $root "* ]] || fail "root '$root' is not known; --help lists them"
  [[ $layout == gpt || $layout == mbr ]] || fail "layout '$layout' is not known: gpt or mbr"
  [[ $initramfs == initramfs-tools || $initramfs == dracut ]] || fail "initramfs '$initramfs' is not known: initramfs-tools or dracut"
  [[ $size =~ ^[1-9][0-9]{0,4}[MG]$ ]] || fail "size '$size' is not a number with M or G"
  [[ $modules =~ ^[a-z0-9_-]+(\ [a-z0-9_-]+)*$ ]] || fail "modules '$modules' are not names separated by single spaces"

  local cache=${LIFEBOAT_CACHE:-$HOME/.cache/lifeboat}/guests
  local script key image second='' parameters=("$release" "$layout" "$firmware" "$root" "$size" "$modules" "$initramfs")
  script=$(realpath "${BASH_SOURCE[0]}")
  key=$({
    cat "$script"
    printf '%s\n' "${parameters[@]}"
  } | sha256sum | cut -c1-12)
  image=$cache/${NAMES[$release]}-$key.qcow2
  if has_two_disks "$root"; then second=$cache/${NAMES[$release]}-$key-b.qcow2; fi
  # The first disk appears last.
  if [[ -f $image ]]; then
    printf '%s\n' "$image" ${second:+"$second"}
    return
  fi

  [[ $(id -u) == 0 ]] || fail "building the guest needs root (debootstrap, chroot): run it once with sudo; afterwards the cached image serves"
  local tool tools=(debootstrap sgdisk sfdisk mke2fs grub-mkimage qemu-img unshare setpriv flock perl)
  [[ $root != xfs ]] || tools+=(mkfs.xfs)
  [[ $root != btrfs ]] || tools+=(mkfs.btrfs)
  [[ $root != lvm* ]] || tools+=(lvm losetup)
  [[ $firmware != uefi ]] || tools+=(mformat mmd mcopy)
  for tool in "${tools[@]}"; do
    command -v "$tool" >/dev/null || fail "'$tool' is not installed: run \`sh scripts/launch.sh setup\`, which installs what scripts/system-packages.txt lists"
  done
  [[ $firmware != bios || -f ${GRUB_DIRS[bios]}/boot.img ]] || fail "${GRUB_DIRS[bios]}/boot.img is missing: install grub-pc-bin"
  [[ $firmware != uefi || -f ${GRUB_DIRS[uefi]}/normal.mod ]] || fail "${GRUB_DIRS[uefi]} is missing: install grub-efi-amd64-bin"

  mkdir -p "$cache/packages"
  exec 9>"$cache/lock"
  if ! flock -n 9; then
    step "another build is running; waiting for it"
    flock -w 1800 9 || fail "the other build held $cache/lock for 30 minutes; look for a hanging build-guest.sh"
  fi
  if [[ -f $image ]]; then
    printf '%s\n' "$image" ${second:+"$second"}
    return
  fi

  # Only the holder of the lock gets here, so every work directory that exists was left by a build that was killed.
  rm -rf "$cache"/work.*
  WORK=$(mktemp -d "$cache/work.XXXXXX")
  trap 'stop_inner; rm -rf "$WORK"' EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
  setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child --mount-proc -- \
    bash "$script" --inside "$WORK" "$cache/packages" "${parameters[@]}" >&2 9>&- &
  INNER=$!
  # A shell runs its traps only between commands, and `wait` is the one that a signal interrupts.
  wait "$INNER" || fail "the build failed; the lines above say where"
  INNER=
  [[ -z $second ]] || mv "$WORK/disk-b.qcow2" "$second"
  mv "$WORK/disk.qcow2" "$image"
  printf '%s\n' "$image" ${second:+"$second"}
}

has_two_disks() {
  [[ $1 == lvm-striped || $1 == raid1 || $1 == raid0 ]]
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
  local work=$1 packages=$2
  readonly RELEASE=$3 LAYOUT=$4 FIRMWARE=$5 ROOT=$6 SIZE=$7 MODULES=$8 INITRAMFS=$9
  readonly GRUB_DIR=${GRUB_DIRS[$FIRMWARE]}
  local root=$work/root disks=("$work/disk.raw") disk
  if has_two_disks "$ROOT"; then disks+=("$work/disk-b.raw"); fi
  readonly started=$SECONDS
  ROOT_UUID=$(cat /proc/sys/kernel/random/uuid)
  ARRAY_UUID=$(tr -d - </proc/sys/kernel/random/uuid)
  describe_root
  bootstrap "$root" "$packages" "$work/bootstrap.log"
  local kernel
  kernel=$(ls "$root/lib/modules")
  configure "$root"
  initramfs "$root" "$kernel" "$work/initramfs.log"
  add_files "$root"
  grub_files "$root" "$kernel" "$work/core.img"
  unmount_below "$root"
  rm -rf "$root/var/cache/apt" "$root"/var/log/*.log "$root/var/log/apt"
  for disk in "${disks[@]}"; do partition "$disk"; done
  make_volume "${disks[@]}"
  make_filesystem "$work/root.img" "$root" "$VOLUME_BYTES"
  place_volume "$work/root.img"
  if [[ $FIRMWARE == uefi ]]; then fill_esp "${disks[0]}" "$work/core.img"; else embed_grub "${disks[0]}" "$work/core.img"; fi
  for disk in "${disks[@]}"; do
    qemu-img convert -f raw -O qcow2 -o compat=1.1 "$disk" "${disk%.raw}.qcow2"
  done
  rm -rf "$root" "$work"/*.raw "$work/root.img"
  step "done in $((SECONDS - started)) s, $(du -ch "$work"/*.qcow2 | tail -n1 | cut -f1) on disk"
}

# What a kind of root asks of the system: its packages, modules, modules of dracut and of GRUB, its name, and the kernel's
# arguments beside root=.
describe_root() {
  ROOT_TYPE=ext4 ROOT_SOURCE=UUID=$ROOT_UUID ROOT_OPTIONS=errors=remount-ro ROOT_PREFIX='' ROOT_ARGUMENTS=''
  ROOT_PACKAGES='' ROOT_MODULES='' ROOT_DRACUT='' ROOT_GRUB=ext2
  case $ROOT in
    xfs)
      ROOT_TYPE=xfs ROOT_OPTIONS=defaults ROOT_PACKAGES=xfsprogs ROOT_GRUB=xfs
      ;;
    btrfs)
      ROOT_TYPE=btrfs ROOT_OPTIONS=defaults,subvol=@rootfs ROOT_PREFIX=/@rootfs ROOT_ARGUMENTS=rootflags=subvol=@rootfs
      ROOT_PACKAGES=btrfs-progs ROOT_DRACUT=btrfs ROOT_GRUB=btrfs
      ;;
    lvm | lvm-striped)
      # As an installer names it.
      ROOT_SOURCE=/dev/mapper/guest-root ROOT_PACKAGES=lvm2 ROOT_MODULES=dm_mod ROOT_DRACUT='dm lvm' ROOT_GRUB='ext2 lvm'
      [[ $INITRAMFS != dracut ]] || ROOT_ARGUMENTS=rd.lvm.lv=guest/root
      ;;
    raid1 | raid0)
      ROOT_PACKAGES=mdadm ROOT_MODULES="md_mod $ROOT" ROOT_DRACUT=mdraid ROOT_GRUB='ext2 mdraid1x'
      [[ $INITRAMFS != dracut ]] || ROOT_ARGUMENTS=rd.md.uuid=$(array_id :)
      ;;
  esac
  ROOT_MODULES="$ROOT_TYPE${ROOT_MODULES:+ $ROOT_MODULES}"
}

# The array's UUID as mdadm writes it.
array_id() {
  sed "s/......../&$1/g; s/$1\$//" <<<"$ARRAY_UUID"
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
  local root=$1 packages=$2 log=$3 include=$PACKAGES${ROOT_PACKAGES:+,$ROOT_PACKAGES} from proxy
  # Beside initramfs-tools, which the kernel's package depends on: dracut-core is the generator without hooks of its own.
  [[ $INITRAMFS != dracut ]] || include+=,dracut-core
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
    # Debian 13 has them below /usr, and compressed.
    printf 'path-exclude=/lib/modules/*/kernel/%s\n' "${trimmed_modules[@]/%.ko/.ko*}"
    printf 'path-exclude=/usr/lib/modules/*/kernel/%s\n' "${trimmed_modules[@]/%.ko/.ko*}"
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
  local root=$1
  step "configuring the guest"
  # Pass 0: no check at boot (4 s of an emulated processor); tests check the filesystem from outside.
  printf '%s / %s %s 0 0\n' "$ROOT_SOURCE" "$ROOT_TYPE" "$ROOT_OPTIONS" >"$root/etc/fstab"
  if [[ $ROOT == raid* ]]; then
    printf 'HOMEHOST <system>\nARRAY /dev/md/root metadata=1.2 UUID=%s name=lifeboat-guest:root\n' "$(array_id :)" >"$root/etc/mdadm/mdadm.conf"
  fi
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
  [[ $ROOT != lvm* ]] || masked+=(lvm2-monitor.service blk-availability.service dm-event.socket)
  [[ $ROOT != raid* ]] || masked+=(mdmonitor.service mdcheck_start.timer mdcheck_continue.timer mdmonitor-oneshot.timer)
  {
    chroot "$root" systemctl enable boot-marker.service serial-getty@ttyS0.service
    chroot "$root" systemctl mask "${masked[@]}"
  } >"$work/systemctl.log" 2>&1 || fail_with "$work/systemctl.log" "enabling the guest's services failed"
}

initramfs() {
  local root=$1 kernel=$2 log=$3 modules="$MODULES $ROOT_MODULES"
  step "building the initramfs by $INITRAMFS with: $modules"
  echo MODULES=list >"$root/etc/initramfs-tools/conf.d/only-listed-modules"
  tr ' ' '\n' <<<"$modules" >>"$root/etc/initramfs-tools/modules"
  mount -t proc proc "$root/proc"
  mount -t sysfs sys "$root/sys"
  mount --bind /dev "$root/dev"
  check_modules "$root/lib/modules/$kernel/kernel" "$log"
  {
    chroot "$root" depmod "$kernel"
    if [[ $INITRAMFS == dracut ]]; then
      chroot "$root" dracut --force --no-hostonly --no-early-microcode --zstd --drivers "$modules" \
        --modules "bash base kernel-modules rootfs-block udev-rules fs-lib shutdown $ROOT_DRACUT" \
        --mdadmconf --lvmconf "/boot/initrd.img-$kernel" "$kernel"
    else
      chroot "$root" update-initramfs -c -k "$kernel"
    fi
  } >"$log" 2>&1 || fail_with "$log" "building the initramfs failed"
}

# Of what a redeploy may inject, nothing may be missing: a module whose dependency was trimmed would fail only in the
# restore that needs it.
check_modules() {
  local tree=$1 log=$2 missing
  find "$tree" -name '*.ko*' -printf '%f\n' | sed 's/\.ko.*$//; s/-/_/g' | sort -u >"$log.present"
  (cd "$tree" && find block crypto fs lib drivers/{ata,block,firewire,infiniband,md,message,mmc,mtd,net,nvdimm,nvme,scsi,target,usb/storage,virtio} \
    -name '*.ko*' -print0 | xargs -0 modinfo -F depends) | tr ',-' '\n_' | sed /^$/d | sort -u >"$log.needed"
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
  local root=$1 kernel=$2 core=$3 platform=${GRUB_DIR##*/} first=biosdisk
  step "adding GRUB for $FIRMWARE"
  mkdir -p "$root/boot/grub/$platform"
  cp "$GRUB_DIR"/*.mod "$GRUB_DIR"/*.lst "$root/boot/grub/$platform/"
  if [[ $FIRMWARE == bios ]]; then cp "$GRUB_DIR/boot.img" "$root/boot/grub/$platform/"; else first=fat; fi
  # mitigations=off: without them the emulated processor boots in 30 s instead of 36, and nobody attacks this guest.
  cat >"$root/boot/grub/grub.cfg" <<F
set timeout=0
serial --unit=0 --speed=115200
terminal_input serial console
terminal_output serial console
search --no-floppy --fs-uuid --set=root $ROOT_UUID
echo "Lifeboat demo guest: loading Linux $kernel"
linux $ROOT_PREFIX/boot/vmlinuz-$kernel root=$ROOT_SOURCE ro${ROOT_ARGUMENTS:+ $ROOT_ARGUMENTS} console=tty0 console=ttyS0,115200 quiet mitigations=off
initrd $ROOT_PREFIX/boot/initrd.img-$kernel
boot
F
  # shellcheck disable=SC2016 # $root is GRUB's variable
  printf 'search.fs_uuid %s root\nset prefix=($root)%s/boot/grub\n' "$ROOT_UUID" "$ROOT_PREFIX" >"$work/load.cfg"
  # shellcheck disable=SC2086 # one word per module
  grub-mkimage -O "$platform" -d "$GRUB_DIR" -c "$work/load.cfg" -p "$ROOT_PREFIX/boot/grub" -o "$core" \
    $first part_gpt part_msdos $ROOT_GRUB search_fs_uuid normal configfile linux echo serial terminal
  cp "$core" "$root/boot/grub/$platform/core.img"
}

# Each disk of a guest has its part of the root at the same place. Sets PART_LBA and PART_SECTORS.
partition() {
  local disk=$1 total
  step "making ${disk##*/} ($LAYOUT, $SIZE)"
  truncate -s "$SIZE" "$disk"
  total=$(($(stat -c %s "$disk") / SECTOR_BYTES))
  if [[ $LAYOUT == gpt ]]; then
    # 1: BIOS boot partition of 1 MiB for GRUB's core, or EFI system partition; 2: root.
    local first_sectors=2048 first_type=ef02
    if [[ $FIRMWARE == uefi ]]; then first_sectors=$ESP_SECTORS first_type=ef00; fi
    PART_LBA=$((FIRST_LBA + first_sectors))
    PART_SECTORS=$((total - PART_LBA - TAIL_SECTORS))
    sgdisk --clear --new=1:$FIRST_LBA:$((PART_LBA - 1)) --typecode=1:$first_type \
      --new=2:$PART_LBA:$((PART_LBA + PART_SECTORS - 1)) --typecode=2:8300 "$disk" >"$work/sgdisk.log" 2>&1 ||
      fail_with "$work/sgdisk.log" "sgdisk could not partition a disk of $SIZE"
  else
    PART_LBA=$FIRST_LBA
    PART_SECTORS=$((total - PART_LBA - TAIL_SECTORS))
    printf 'label: dos\nstart=%d,size=%d,type=83,bootable\n' $PART_LBA $PART_SECTORS | sfdisk --quiet "$disk"
  fi
}

# What the filesystem is put into: a partition, a logical volume or an array. Sets VOLUME_BYTES, and where it lies: its columns
# as `byte:disk` (VOLUME_COLUMNS), and how many KiB of one come before the next (VOLUME_STRIPE_KIB).
make_volume() {
  local part_at=$((PART_LBA * SECTOR_BYTES))
  VOLUME_COLUMNS=("$part_at:$1") VOLUME_BYTES=$((PART_SECTORS * SECTOR_BYTES)) VOLUME_STRIPE_KIB=$STRIPE_KIB
  case $ROOT in
    lvm*) make_logical_volume $part_at "$@" ;;
    raid*) make_array $part_at "$@" ;;
  esac
}

# The loop devices go with the descriptors that hold them: detached while they are open, they detach at the last close.
make_logical_volume() {
  local part_at=$1 disk device fd devices=() held=()
  shift
  for disk in "$@"; do
    device=$(losetup --find --show --offset "$part_at" --sizelimit $((PART_SECTORS * SECTOR_BYTES)) "$disk")
    exec {fd}<>"$device"
    losetup --detach "$device"
    devices+=("$device")
    held+=("$fd")
  done
  local accept config
  accept=$(printf '"a|^%s$|",' "${devices[@]}")
  config="devices { filter=[${accept}\"r|.*|\"] use_devicesfile=0 hints=\"none\" obtain_device_list_from_udev=0 sysfs_scan=0 }
    global { locking_dir=\"$work/lock\" use_lvmpolld=0 } backup { backup=0 archive=0 } activation { udev_sync=0 udev_rules=0 monitoring=0 }"
  mkdir -p "$work/lock"
  lvm_tool() { LVM_SUPPRESS_FD_WARNINGS=1 lvm "$1" --config "$config" --driverloaded n "${@:2}"; }
  {
    lvm_tool pvcreate --yes "${devices[@]}"
    lvm_tool vgcreate guest "${devices[@]}"
    # Before the root, so that it does not begin where its physical volume does.
    lvm_tool lvcreate --yes --activate n --wipesignatures n --zero n --size 64M --name swap-1 guest "${devices[0]}"
    if [[ $ROOT == lvm-striped ]]; then
      # As many extents of each as the fuller one has left.
      lvm_tool lvcreate --yes --activate n --wipesignatures n --zero n --stripes 2 --stripesize "${STRIPE_KIB}k" \
        --extents 100%FREE --name root guest
    else
      lvm_tool lvcreate --yes --activate n --wipesignatures n --zero n --extents 100%FREE --name root guest
    fi
  } >"$work/lvm.log" 2>&1 || fail_with "$work/lvm.log" "LVM's tools could not make the volume group"
  # One segment; each column as `device:first-last` in extents of 4 MiB, which begin 1 MiB into the physical volume.
  local segments range i
  mapfile -t segments < <(lvm_tool lvs --noheadings --units b --nosuffix --segments --options seg_size,seg_pe_ranges guest/root 2>>"$work/lvm.log")
  [[ ${#segments[@]} == 1 ]] || fail "the logical volume has ${#segments[@]} segments instead of one: ${segments[*]}"
  read -r VOLUME_BYTES range <<<"${segments[0]}"
  VOLUME_COLUMNS=()
  for range in $range; do
    for i in "${!devices[@]}"; do
      [[ ${range%:*} != "${devices[i]}" ]] || VOLUME_COLUMNS+=("$((part_at + 1024 * 1024 + $(cut -d- -f1 <<<"${range##*:}") * 4 * 1024 * 1024)):${*:i + 1:1}")
    done
  done
  for fd in "${held[@]}"; do exec {fd}>&-; done
  [[ ${#VOLUME_COLUMNS[@]} == "$#" ]] || fail "the logical volume lies elsewhere than planned: ${segments[0]}"
}

make_array() {
  local part_at=$1 chunk_sectors=$((RAID_CHUNK_KIB * 2)) data_sectors disk number=0
  shift
  data_sectors=$(((PART_SECTORS - RAID_DATA_SECTORS) / chunk_sectors * chunk_sectors))
  VOLUME_BYTES=$((data_sectors * SECTOR_BYTES)) VOLUME_STRIPE_KIB=$RAID_CHUNK_KIB VOLUME_COLUMNS=()
  if [[ $ROOT == raid0 ]]; then VOLUME_BYTES=$((VOLUME_BYTES * $#)); fi
  for disk in "$@"; do
    array_superblock $number $data_sectors | dd of="$disk" bs=4096 seek=$((part_at / 4096 + 1)) conv=notrunc status=none
    VOLUME_COLUMNS+=("$((part_at + RAID_DATA_SECTORS * SECTOR_BYTES)):$disk")
    number=$((number + 1))
  done
}

# Version 1.2, of a clean array with all its members. Linux, include/uapi/linux/raid/md_p.h, struct mdp_superblock_1.
array_superblock() {
  perl -e '
    my ($uuid, $level, $number, $data, $offset, $chunk) = @ARGV;
    my ($head, $now, $roles) = (256, time, 128);
    my $sb = pack("VVVV", 0xa92b4efc, 1, 0, 0) . pack("H32", $uuid) . pack("a32", "lifeboat-guest:root") . pack("Q<", $now)
      . pack("VVQ<VV", $level, 0, $level == 1 ? $data : 0, $level == 1 ? 0 : $chunk, 2) . "\0" x 32
      . pack("Q<Q<Q<Q<", $offset, $data, 8, 0) . pack("VV", $number, 0) . pack("N4", map { $_ + $number } 1 .. 4) . "\0" x 8
      . pack("Q<Q<Q<", $now, 2, ~0) . pack("VV", 0, $roles) . "\0" x 32 . pack("v*", 0, 1, (0xffff) x ($roles - 2));
    my $sum = 0;
    $sum += $_ for unpack("V*", $sb);
    substr($sb, 216, 4) = pack("V", ($sum & 0xffffffff) + ($sum >> 32));
    print $sb . "\0" x (4096 - length $sb);
  ' "$ARRAY_UUID" "${ROOT#raid}" "$1" "$2" "$RAID_DATA_SECTORS" "$((RAID_CHUNK_KIB * 2))"
}

make_filesystem() {
  local image=$1 tree=$2 bytes=$3
  step "making the $ROOT_TYPE filesystem"
  truncate -s "$bytes" "$image"
  case $ROOT_TYPE in
    # GRUB 2.06 reads neither metadata_csum_seed nor orphan_file. Inode tables and journal are written now: a kernel that
    # does it lazily would dirty blocks in the background and spoil the figures of an incremental backup.
    ext4)
      mke2fs -q -F -t ext4 -L guestroot -U "$ROOT_UUID" -O ^metadata_csum_seed,^orphan_file \
        -E lazy_itable_init=0,lazy_journal_init=0 -d "$tree" "$image" $((bytes / 1024))k >"$work/mkfs.log" 2>&1
      ;;
    xfs) mkfs.xfs -q -L guestroot -m "uuid=$ROOT_UUID" "$image" >"$work/mkfs.log" 2>&1 ;;
    btrfs) mkfs.btrfs -q -L guestroot -U "$ROOT_UUID" "$image" >"$work/mkfs.log" 2>&1 ;;
  esac || fail_with "$work/mkfs.log" "the $ROOT_TYPE filesystem could not be made on a disk of $SIZE"
  [[ $ROOT_TYPE != ext4 ]] || return 0
  mkdir "$work/mnt"
  mount -o loop "$image" "$work/mnt" || fail "this machine's kernel cannot mount $ROOT_TYPE, which the guest's files are put on with"
  if [[ $ROOT_TYPE == btrfs ]]; then btrfs --quiet subvolume create "$work/mnt$ROOT_PREFIX" >/dev/null; fi
  cp -a "$tree/." "$work/mnt$ROOT_PREFIX/"
  umount "$work/mnt"
}

# The volume's bytes to where they lie on the disks; zeros are not written.
place_volume() {
  local image=$1 copies=1
  if [[ $ROOT == raid1 ]]; then copies=${#VOLUME_COLUMNS[@]}; fi
  perl -e '
    my ($image, $stripe, $copies, @places) = @ARGV;
    my @columns = map { my ($at, $path) = split /:/, $_, 2; open(my $out, "+<:raw", $path) or die "$path: $!"; [$at, $out] } @places;
    my $wide = @columns / $copies;
    open(my $in, "<:raw", $image) or die "$image: $!";
    for (my $i = 0; my $got = sysread($in, my $bytes, $stripe * 1024); $i++) {
      die "short read" if $got % 512;
      next if $bytes !~ /[^\0]/;
      for my $copy (0 .. $copies - 1) {
        my ($at, $out) = @{ $columns[$i % $wide + $copy * $wide] };
        sysseek($out, $at + int($i / $wide) * $stripe * 1024, 0);
        syswrite($out, $bytes) == $got or die "write: $!";
      }
    }
  ' "$image" "$VOLUME_STRIPE_KIB" "$copies" "${VOLUME_COLUMNS[@]}" || fail "the root could not be put onto the disks"
}

# The place where firmware looks when nobody has told it of a loader.
fill_esp() {
  local disk=$1 core=$2 at=$((FIRST_LBA * SECTOR_BYTES))
  {
    mformat -i "$disk@@$at" -T "$ESP_SECTORS" -v EFI ::
    mmd -i "$disk@@$at" ::/EFI ::/EFI/BOOT
    mcopy -i "$disk@@$at" "$core" ::/EFI/BOOT/BOOTX64.EFI
  } >"$work/esp.log" 2>&1 || fail_with "$work/esp.log" "the EFI system partition could not be made"
}

# What grub-bios-setup does, without needing a block device. Offsets: grub-core/boot/i386/pc/{boot,diskboot}.S.
embed_grub() {
  local disk=$1 core=$2 core_lba=1
  if [[ $LAYOUT == gpt ]]; then core_lba=$FIRST_LBA; fi
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
