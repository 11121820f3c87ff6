# shellcheck shell=sh
# Installs the Debian packages of the given groups that are missing, or says how.

# wanted_packages GROUP...: names from system-packages.txt, without those whose command exists anyway.
wanted_packages() {
  awk -v groups=" $* " '!/^#/ && NF && index(groups, " " $1 " ") { print $2 }' "$ROOT/scripts/system-packages.txt" |
    while IFS='?' read -r package command; do
      if [ -z "$command" ] || ! command -v "$command" >/dev/null; then echo "$package"; fi
    done
}

missing_packages() {
  wanted=$(wanted_packages "$@")
  # shellcheck disable=SC2086 # one word per package
  installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' $wanted 2>/dev/null | sed -n 's/^installed //p')
  printf '%s\n' "$wanted" | grep -vxF "$installed" | tr '\n' ' ' || true # no line: nothing is missing
}

setup_system_packages() {
  command -v dpkg-query >/dev/null ||
    die "this needs Debian (12 or newer): dpkg-query is not here, so the packages of scripts/system-packages.txt cannot be checked."
  [ "$(uname -m)" = x86_64 ] || die "this machine is $(uname -m); the launcher and the demo's guest are made for x86_64."
  missing=$(missing_packages "$@")
  [ -n "$missing" ] || return 0
  if [ "$(id -u)" != 0 ]; then
    die "these Debian packages are missing; install them, then start again:
  sudo apt-get update && sudo apt-get install --no-install-recommends $missing"
  fi
  PACKAGE_GROUPS="$*"
  with_lock apt install_missing_packages
}

install_missing_packages() {
  # shellcheck disable=SC2086 # one word per group
  missing=$(missing_packages $PACKAGE_GROUPS)
  [ -n "$missing" ] || return 0
  begin "reading the package lists"
  logged apt-update apt-get update ||
    die "apt-get update failed: check this machine's apt sources (/etc/apt), then start again."
  finish
  begin "installing Debian packages: $missing"
  # shellcheck disable=SC2086 # one word per package
  DEBIAN_FRONTEND=noninteractive logged apt-install apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends $missing ||
    die "apt-get could not install them; the whole output is in $CACHE/logs/apt-install.log."
  finish
}
