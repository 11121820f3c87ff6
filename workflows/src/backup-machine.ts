import type { BackupMachineInput, BackupMachineResult } from '@lifeboat/contracts/workflow/operations';
import type { HostActivities } from '@lifeboat/contracts/workflow/activities';
import type { CaptureSummary } from '@lifeboat/contracts/workflow/verbs';
import { CancellationScope, log, patched } from '@temporalio/workflow';
import { newOpId } from './operation-id.ts';
import { runOperation } from './operation.ts';

const MACHINE_CHAINS = 'machine-chains';

// What must be free before a capture begins, for copies of what the guest overwrites meanwhile. Not a limit: a busy guest
// may need more, and the capture then fails with `disk.full`.
const SCRATCH_BYTES = 1024 ** 3;

/** Makes one recovery point of a machine. A result means that the point is committed. */
export async function BackupMachine(input: BackupMachineInput): Promise<BackupMachineResult> {
  const opId = newOpId('cap');
  return await runOperation<BackupMachineResult>(
    {
      kind: 'backup',
      target: input,
      need: { slots: 1, domains: 0, scratchBytes: SCRATCH_BYTES },
      opIds: [opId],
      stages: ['capture'],
    },
    async ({ verbs, stages, undo, epoch }) => {
      undo.register('capture', () => verbs.abandonOperation({ opId, removeTargets: true }));
      const capture = await stages.run(
        'capture',
        () => verbs.captureMachine({ opId, epoch, machine: input.machine }),
        ({ pointId, disks }) => [
          `recovery point ${pointId}`,
          ...disks.map((disk) => `${disk.name}: ${disk.method}${disk.reason ? ` (${disk.reason})` : ''}`),
        ],
      );
      // Not in backups that were begun before there were chains, while what they did then is played again.
      if (patched(MACHINE_CHAINS)) await CancellationScope.nonCancellable(() => link(verbs, capture));
      return { capture };
    },
    ({ capture }) => ({
      point: { pointId: capture.pointId, instantMs: capture.instantMs, proof: ['stored'] },
    }),
  );
}

/** The point is committed, and valid without a link: what cannot be linked now waits for the next backup of the machine. */
async function link(verbs: HostActivities, { machineId, pointId }: CaptureSummary): Promise<void> {
  try {
    const { linked } = await verbs.linkPoints({ machineId });
    const adopted = linked.filter((other) => other !== pointId);
    if (adopted.length > 0) log.warn('points whose links were lost are in the chain now', { machineId, adopted });
  } catch (error) {
    log.warn('the point is in no link of its chain; the next backup takes it in', { machineId, pointId, error });
  }
}
