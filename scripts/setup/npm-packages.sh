# shellcheck shell=sh
# The npm packages of this clone, again whenever the lockfile has changed.

setup_npm_packages() {
  LOCK_HASH=$(sha256sum "$ROOT/package-lock.json" | cut -d' ' -f1)
  STAMP=$ROOT/node_modules/.lifeboat-installed
  # One clone's packages concern no other clone: the lock and the log are its own.
  CLONE=npm-$(printf %s "$ROOT" | sha256sum | cut -c1-16)
  npm_packages_installed || with_lock "$CLONE" install_npm_packages
}

npm_packages_installed() {
  [ "$(cat "$STAMP" 2>/dev/null)" = "$LOCK_HASH" ]
}

install_npm_packages() {
  ! npm_packages_installed || return 0
  begin "installing npm packages"
  # Versions and hashes are the lockfile's. `npm ci` would refuse it where a registry lacks the optional binaries of other
  # platforms. Nothing that we use needs an install script: native parts come as prebuilt packages.
  (cd "$ROOT" && logged "$CLONE" npm install --no-save --ignore-scripts --no-audit --no-fund) ||
    die "npm could not install them; the whole output is in $CACHE/logs/$CLONE.log. Check \`npm ping\`, then start again."
  echo "$LOCK_HASH" >"$STAMP"
  finish
}
