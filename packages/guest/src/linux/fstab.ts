/** fstab(5), and which of its device names change when the disk hangs on another controller. */
export interface FstabEntry {
  readonly line: number;
  readonly source: string;
  readonly mountPoint: string;
  readonly type: string;
  readonly options: readonly string[];
}

/** Lines with fewer than two fields are comments or damage; mount ignores them too. */
export function parseFstab(text: string): FstabEntry[] {
  return text.split('\n').flatMap((raw, index) => {
    const fields = raw.trim().split(/\s+/);
    const [source, mountPoint, type = 'auto', options = 'defaults'] = fields.map(unescape);
    if (source === undefined || source === '' || source.startsWith('#') || mountPoint === undefined) return [];
    return [{ line: index + 1, source, mountPoint, type, options: options.split(',') }];
  });
}

/**
 * A name the kernel gives by controller and order of discovery: /dev/sda1, /dev/vdb, /dev/nvme0n1p2, and by-path links,
 * which hold the controller's PCI address. UUID=, LABEL=, PARTUUID=, /dev/mapper and by-uuid stay the same.
 */
export function isUnstableDeviceName(source: string): boolean {
  return (
    /^\/dev\/(?:(?:sd|vd|hd|xvd)[a-z]+\d*|nvme\d+n\d+(?:p\d+)?|mmcblk\d+(?:p\d+)?)$/.test(source) ||
    source.startsWith('/dev/disk/by-path/') ||
    source.startsWith('/dev/disk/by-id/')
  );
}

/** fstab writes blanks as octal. */
function unescape(field: string): string {
  return field.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}
