/** A workflow as nobody may change it: one activity more, before those that recorded histories begin with. */
import type { BackupMachineInput, BackupMachineResult } from '@lifeboat/contracts/workflow/operations';
import { hostVerbs } from '@lifeboat/workflows/activity-proxies';
import { BackupMachine as Unchanged } from '@lifeboat/workflows/backup-machine';

/** @public Found by its name, in the bundle. */
export async function BackupMachine(input: BackupMachineInput): Promise<BackupMachineResult> {
  await hostVerbs(input.hostId).listPoints({ limit: 1 });
  return await Unchanged(input);
}
