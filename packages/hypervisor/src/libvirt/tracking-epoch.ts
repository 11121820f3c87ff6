/**
 * What change tracking stands on. A dirty bitmap knows only of writes that QEMU made to this image: a file put in its
 * place, or a jump to an internal snapshot, changes the disk behind its back. So each point stores what the disk was,
 * and the bitmap since that point is believed only while nothing of it changed.
 *
 * A jump leaves no trace: the snapshot table stays, and so does the place of the active L1 table. QEMU 7.2 refuses it
 * while the image holds a bitmap, other programs need not. So an image to whose snapshots one could jump is not believed.
 *
 * Not seen: bytes written into the image by something that is not QEMU. The capture's audit is for that.
 */
interface Epoch {
  readonly machine: string;
  readonly path: string;
  readonly file: string;
  readonly snapshots: readonly string[];
}

/** One line of JSON; equal epochs are equal strings. */
export function describeEpoch(
  machineId: string,
  path: string,
  image: Pick<Epoch, 'snapshots'> & { fileId: string },
): string {
  const epoch: Epoch = { machine: machineId, path, file: image.fileId, snapshots: image.snapshots };
  return JSON.stringify(epoch);
}

/** Why the bitmap of `then` says nothing about `now`; undefined when it does. */
export function epochDoubt(then: string, now: string): string | undefined {
  const [before, after] = [readEpoch(then), readEpoch(now)];
  if (!before || !after) return 'the parent point does not say what its disk was';
  if (before.machine !== after.machine) return `the disk was of machine ${before.machine}`;
  if (before.path !== after.path) return `the disk moved from ${before.path} to ${after.path}`;
  if (before.file !== after.file) return `the file ${after.path} was replaced by another one`;
  if (then !== now) return `the internal snapshots of ${after.path} changed`;
  if (after.snapshots.length === 0) return undefined;
  return `${after.path} holds internal snapshots, and a jump to one of them would not be seen`;
}

function readEpoch(text: string): Epoch | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && 'machine' in value ? (value as Epoch) : undefined;
  } catch {
    // Of another version, or absent: no epoch, so no trust in the bitmap.
    return undefined;
  }
}
