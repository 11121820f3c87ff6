import type { RestoreMachineInput, RestoreMachineResult } from '@lifeboat/contracts/workflow/operations';
import { BOOT_SCRATCH_BYTES, BOOT_STAGE, bootStage } from './boot-stage.ts';
import { DEFINE_STAGE, defineStage } from './define-stage.ts';
import { newOpId } from './operation-id.ts';
import { runOperation } from './operation.ts';
import { DISCARD_STAGE, RESTORE_SCRATCH_BYTES, RESTORE_STAGE, restoreStage } from './restore-stage.ts';

/** Brings a point's disks back unchanged; proves that they start and defines the machine where that is asked for. */
export async function RestoreMachine(input: RestoreMachineInput): Promise<RestoreMachineResult> {
  const { machine, pointId, target, boot, define } = input;
  const opIds = { restore: newOpId('res'), boot: newOpId('boot'), define: newOpId('def') };
  return await runOperation<RestoreMachineResult>(
    {
      kind: 'restore',
      target: input,
      need: {
        slots: 1,
        domains: boot ? 1 : 0,
        scratchBytes: RESTORE_SCRATCH_BYTES + (boot ? BOOT_SCRATCH_BYTES : 0),
      },
      opIds: Object.values(opIds),
      stages: [
        RESTORE_STAGE,
        ...(boot ? [BOOT_STAGE] : []),
        ...(define ? [DEFINE_STAGE] : []),
        ...(input.disks === 'discard' ? [DISCARD_STAGE] : []),
      ],
    },
    async (operation) => {
      const restore = await restoreStage(operation, {
        opId: opIds.restore,
        machine,
        target,
        ...(pointId ? { pointId } : {}),
        ...(input.layout ? { layout: input.layout } : {}),
      });
      const restored = { machine, pointId: restore.pointId, disks: restore.disks };
      const bootTest = boot
        ? await bootStage(operation, { opId: opIds.boot, machine, source: { kind: 'disks', ...restored }, boot })
        : undefined;
      const mayDefine = define && (!bootTest || bootTest.finding === 'ready');
      const defined = mayDefine
        ? await defineStage(operation, { ...restored, opId: opIds.define, define, ...profileOf(boot) })
        : undefined;
      if (input.disks === 'discard') {
        await operation.stages.run(DISCARD_STAGE, () =>
          operation.verbs.abandonOperation({ opId: opIds.restore, removeTargets: true }),
        );
      }
      return {
        verdict: !bootTest ? 'restored' : bootTest.finding === 'ready' ? 'proven' : 'not-booting',
        restore,
        ...(bootTest ? { boot: bootTest } : {}),
        ...(defined ? { define: defined } : {}),
      };
    },
    // That other hardware starts from a point says nothing certain about the point on its own hardware, nor the reverse.
    () => ({}),
  );
}

function profileOf(boot: RestoreMachineInput['boot']): { profile?: string } {
  return boot?.profile ? { profile: boot.profile } : {};
}
