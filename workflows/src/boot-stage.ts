import type { BootPlan } from '@lifeboat/contracts/workflow/operations';
import type { BootTestInput, BootTestSummary } from '@lifeboat/contracts/workflow/verbs';
import type { Operation } from './operation.ts';

export const BOOT_STAGE = 'boot test';

/** What must be free before a boot test begins: its overlay holds what the guest writes while it starts. */
export const BOOT_SCRATCH_BYTES = 1024 ** 3;

/** Boots `source` on an isolated network and says what was found; that a guest does not start is a finding, no failure. */
export async function bootStage(
  { verbs, stages, undo, epoch }: Operation,
  input: { opId: string; machine: string; source: BootTestInput['source']; boot: BootPlan },
): Promise<BootTestSummary> {
  const { opId, machine, source, boot } = input;
  undo.register(BOOT_STAGE, () => verbs.abandonOperation({ opId, removeTargets: true }));
  const summary = await stages.run(
    BOOT_STAGE,
    () => verbs.bootTest({ opId, epoch, machine, source, ...boot }),
    ({ explanation }) => [explanation],
  );
  if (summary.finding !== 'ready') stages.mark(BOOT_STAGE, 'failed', [summary.explanation]);
  return summary;
}
