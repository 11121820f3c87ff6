#!/bin/sh
# launch.sh COMMAND [ARGUMENT...]: sets up whatever is missing, then becomes Node 24 running COMMAND.
#
#   demo      back up, boot, restore onto other hardware, and prove it, once, with a real guest
#   test      all tests
#   bench     the figures of docs/performance.md
#   matrix    the rows of docs/support-matrix.md: real guests moved onto every shipped model, and started there
#   lifeboat  the command line
#   stage     the command line and all it starts as a directory that needs neither this tree nor npm
#   setup     the set-up alone, as `test` needs it
#
# Plain POSIX sh, because it runs where only npm and an old Node are installed. Each step takes milliseconds when there
# is nothing to do. Everything fetched or built is kept in LIFEBOAT_CACHE (default ~/.cache/lifeboat), named by version;
# clones share it, and two at once wait for each other.
set -eu

ROOT=$(cd "$(dirname "$0")/.." && pwd -P)
for part in common system-packages node npm-packages go temporal temporal-test-server versitygw libvirtd; do
  # shellcheck source=/dev/null
  . "$ROOT/scripts/setup/$part.sh"
done

# npm tells scripts about itself in some twenty variables; an npm that is started below must not take them for settings.
clean_npm_environment() {
  for name in $(env | sed -n 's/^\(npm_[A-Za-z0-9_]*\)=.*/\1/p'); do
    case $name in
      npm_config_local_prefix | npm_config_prefix | npm_config_global_prefix | npm_config_node_gyp | npm_config_npm_version) unset "$name" ;;
      npm_config_*) ;; # what the user set, as an option or in an .npmrc
      *) unset "$name" ;;
    esac
  done
}

[ $# -gt 0 ] || die "usage: sh scripts/launch.sh demo|test|bench|matrix|lifeboat|stage|setup [argument...]"
command=$1
shift

needs_libvirt=
case $command in
  test | setup) groups='run guest test' ;;
  demo | bench) groups='run guest' ;;
  matrix) groups='run guest matrix' ;;
  lifeboat | stage) groups='run' ;;
  *) die "'$command' is not a command: demo, test, bench, matrix, lifeboat, stage or setup." ;;
esac
case $command:${1:-} in
  bench:repo-*) ;;
  test:* | demo:* | bench:* | matrix:*) needs_libvirt=yes ;;
  lifeboat:demo | lifeboat:up | lifeboat:backup | lifeboat:verify | lifeboat:restore | lifeboat:redeploy) needs_libvirt=yes ;;
esac

clean_npm_environment
mkdir -p "$CACHE" || die "the cache $CACHE cannot be written: set LIFEBOAT_CACHE to a directory that can."
# shellcheck disable=SC2086 # one word per group
setup_system_packages $groups
# Before what takes minutes: who may not use libvirt is told at once.
[ -z "$needs_libvirt" ] || ensure_libvirtd
setup_node
setup_npm_packages
setup_temporal
LIFEBOAT_CACHE=$CACHE
export LIFEBOAT_CACHE LIFEBOAT_TEMPORAL
case $command in
  test | setup)
    setup_temporal_test_server
    export LIFEBOAT_TEMPORAL_TEST_SERVER
    ;;
esac
case $command in
  test | setup | bench)
    setup_versitygw
    export LIFEBOAT_VERSITYGW
    ;;
esac
[ "$command" != setup ] || exit 0

PATH=$(dirname "$NODE"):$ROOT/node_modules/.bin:$PATH
export PATH
case $command in
  demo) exec "$NODE" "$ROOT/cli/src/main.ts" demo "$@" ;;
  lifeboat) exec "$NODE" "$ROOT/cli/src/main.ts" "$@" ;;
  test) exec "$NODE" "$ROOT/scripts/test.ts" "$@" ;;
  bench) exec "$NODE" "$ROOT/bench/src/main.ts" "$@" ;;
  matrix) exec "$NODE" "$ROOT/test/matrix/main.ts" "$@" ;;
  stage) exec "$NODE" "$ROOT/scripts/stage.ts" "$@" ;;
esac
