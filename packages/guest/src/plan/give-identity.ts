/** What a machine that runs beside the original needs for itself. */
import type { GuestInspection } from '../inspect/guest-inspection.ts';
import type { PlannedEdit } from './redeploy-plan.ts';

const WHY = 'the original goes on running, and no two machines may share it';

/** What lies on filesystems that a redeploy does not open goes to `warnings`. */
export function giveIdentity(
  { identityFiles, fstab }: Pick<GuestInspection, 'identityFiles' | 'fstab'>,
  warnings: string[],
): PlannedEdit[] {
  const apart = fstab.filter(({ mountPoint }) => /^\/var(?:\/lib)?$/.test(mountPoint));
  for (const { mountPoint } of apart) {
    warnings.push(
      `${mountPoint} of the guest is a filesystem of its own and stays as it is: leases and random seeds that lie there are those of the original.`,
    );
  }
  return identityFiles.map((file) => {
    const { path, treatment } = file;
    if (treatment === 'new-key') return { kind: 'new-host-key', path, why: WHY, keyType: file.keyType };
    return { kind: treatment === 'empty' ? 'empty-file' : 'remove-file', path, why: WHY };
  });
}
