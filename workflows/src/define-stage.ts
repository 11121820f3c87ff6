import type { Definition } from '@lifeboat/contracts/workflow/operations';
import type { DefineSummary, RestoredDisk } from '@lifeboat/contracts/workflow/verbs';
import type { Operation } from './operation.ts';

export const DEFINE_STAGE = 'define machine';

/** Makes the restored disks a machine of the hypervisor. */
export async function defineStage(
  { verbs, stages, undo, epoch }: Operation,
  input: {
    opId: string;
    machine: string;
    pointId: string;
    disks: readonly RestoredDisk[];
    profile?: string;
    define: Definition;
  },
): Promise<DefineSummary> {
  const { define, ...rest } = input;
  undo.register(DEFINE_STAGE, () => verbs.abandonOperation({ opId: input.opId, removeTargets: true }));
  return await stages.run(
    DEFINE_STAGE,
    () => verbs.defineMachine({ ...rest, ...define, epoch }),
    ({ name, started }) => [`${name}${started ? ', started' : ''}`],
  );
}
