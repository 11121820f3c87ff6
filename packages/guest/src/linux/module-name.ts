const MODULE_FILE = /\.ko(\.(gz|xz|zst))?$/;

/** The kernel treats `-` and `_` in module names alike, except inside a set of an alias pattern. */
export function normalModuleName(name: string): string {
  return name.replace(/\[[^\]]*\]|-/g, (part) => (part === '-' ? '_' : part));
}

/** `kernel/drivers/block/virtio_blk.ko.xz` is `virtio_blk`. */
export function moduleNameOf(path: string): string {
  return normalModuleName(path.slice(path.lastIndexOf('/') + 1).replace(MODULE_FILE, ''));
}

export function isModuleFile(path: string): boolean {
  return MODULE_FILE.test(path);
}
