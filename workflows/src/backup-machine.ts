import type { BackupMachineInput, BackupMachineResult } from '@lifeboat/contracts/workflow/operations';
import { newOpId } from './operation-id.ts';
import { runOperation } from './operation.ts';

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
      return { capture };
    },
    ({ capture }) => ({
      point: { pointId: capture.pointId, instantMs: capture.instantMs, proof: ['stored'] },
    }),
  );
}
