import type { RestoreInput, RestoreSummary } from '@lifeboat/contracts/workflow/verbs';
import type { Operation } from './operation.ts';

/** Of disks that served a test only. */
export const DISCARD_STAGE = 'discard disks';

export const RESTORE_STAGE = 'restore disks';

/** Journals and logs; the restored disks themselves go to the target, whose room the engine checks before it writes. */
export const RESTORE_SCRATCH_BYTES = 64 * 1024 ** 2;

export async function restoreStage(
  { verbs, stages, undo, epoch }: Operation,
  input: {
    opId: string;
    machine: string;
    pointId?: string;
    target: RestoreInput['target'];
    layout?: RestoreInput['layout'];
  },
): Promise<RestoreSummary> {
  const { opId, machine, pointId, target, layout } = input;
  undo.register(RESTORE_STAGE, () => verbs.abandonOperation({ opId, removeTargets: true }));
  return await stages.run(
    RESTORE_STAGE,
    () =>
      verbs.restoreDisks({
        opId,
        epoch,
        machine,
        target,
        ...(pointId ? { pointId } : {}),
        ...(layout ? { layout } : {}),
      }),
    (summary) => [
      `recovery point ${summary.pointId}`,
      ...summary.disks.map((disk) => `${disk.name}: ${disk.path}`),
      ...(summary.layout?.lines ?? []),
    ],
  );
}
