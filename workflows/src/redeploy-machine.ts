import { CancellationScope } from '@temporalio/workflow';
import type { RedeployMachineInput, RedeployMachineResult } from '@lifeboat/contracts/workflow/operations';
import { BOOT_SCRATCH_BYTES, BOOT_STAGE, bootStage } from './boot-stage.ts';
import { DEFINE_STAGE, defineStage } from './define-stage.ts';
import { newOpId } from './operation-id.ts';
import { runOperation } from './operation.ts';
import { DISCARD_STAGE, RESTORE_SCRATCH_BYTES, RESTORE_STAGE, restoreStage } from './restore-stage.ts';

const PLAN_STAGE = 'plan';
const EDIT_STAGE = 'inject drivers';
const COMPARE_STAGE = 'compare files';

/**
 * Brings a point back onto other hardware: a restore, the plan, the edits, the proof. The machine is defined last, and
 * only if the boot test found the guest ready and no file differs but those that were edited; else its disks are kept, for
 * a person to look at.
 */
export async function RedeployMachine(input: RedeployMachineInput): Promise<RedeployMachineResult> {
  const { machine, pointId, target, profile, compare, boot } = input;
  const isDiscarded = input.disks === 'discard';
  const define = isDiscarded ? undefined : input.define;
  const opIds = {
    restore: newOpId('res'),
    edit: newOpId('dep'),
    compare: newOpId('cmp'),
    boot: newOpId('boot'),
    define: newOpId('def'),
  };
  return await runOperation<RedeployMachineResult>(
    {
      kind: 'redeploy',
      target: input,
      need: {
        slots: 1,
        domains: boot ? 1 : 0,
        scratchBytes: RESTORE_SCRATCH_BYTES + (boot ? BOOT_SCRATCH_BYTES : 0),
      },
      opIds: Object.values(opIds),
      stages: [
        RESTORE_STAGE,
        PLAN_STAGE,
        EDIT_STAGE,
        ...(compare ? [COMPARE_STAGE] : []),
        ...(boot ? [BOOT_STAGE] : []),
        ...(define ? [DEFINE_STAGE] : []),
        ...(isDiscarded ? [DISCARD_STAGE] : []),
      ],
    },
    async (operation) => {
      const { verbs, stages, undo, epoch } = operation;
      const restore = await restoreStage(operation, {
        opId: opIds.restore,
        machine,
        target,
        ...(pointId ? { pointId } : {}),
        ...(input.layout ? { layout: input.layout } : {}),
      });
      const restored = { machine, pointId: restore.pointId, disks: restore.disks };

      undo.register(EDIT_STAGE, () => verbs.abandonOperation({ opId: opIds.edit, removeTargets: false }));
      const identity = input.newIdentity ? { newIdentity: true } : {};
      const edit = { ...restored, opId: opIds.edit, epoch, profile, ...identity };
      const plan = await stages.run(
        PLAN_STAGE,
        () => verbs.planRedeploy(edit),
        (found) => [...found.lines, ...found.warnings],
      );
      if (plan.refusals.length > 0) {
        stages.mark(PLAN_STAGE, 'failed', plan.refusals);
        const leftBehind = await CancellationScope.nonCancellable(() => undo.run());
        stages.mark(RESTORE_STAGE, leftBehind.length > 0 ? 'done' : 'undone', leftBehind);
        return { verdict: 'refused', restore, plan };
      }
      const redeploy = await stages.run(
        EDIT_STAGE,
        () => verbs.applyRedeploy(edit),
        (done) => done.installed.map(({ kernel, modules }) => `${kernel}: ${modules.join(', ')}`),
      );

      undo.register(COMPARE_STAGE, () => verbs.abandonOperation({ opId: opIds.compare, removeTargets: false }));
      const compared = compare
        ? await stages.run(
            COMPARE_STAGE,
            () => verbs.compareFiles({ ...restored, opId: opIds.compare, epoch }),
            ({ comparedFiles, differing, notCompared }) => [
              `${comparedFiles} files compared, ${differing.length} differ`,
              ...notCompared.map((what) => `not compared: ${what}`),
            ],
          )
        : undefined;
      const edited = new Set(redeploy.editedFiles);
      const unexplained = (compared?.differing ?? []).filter((path) => !edited.has(path));
      if (unexplained.length > 0) {
        stages.mark(COMPARE_STAGE, 'failed', [`${unexplained.length} differ that were not edited`]);
      }

      const bootTest = boot
        ? await bootStage(operation, {
            opId: opIds.boot,
            machine,
            source: { kind: 'disks', pointId: restored.pointId, disks: restored.disks },
            boot: { ...boot, profile },
          })
        : undefined;
      const ready = !bootTest || bootTest.finding === 'ready';
      const defined =
        define && ready && unexplained.length === 0
          ? await defineStage(operation, { ...restored, opId: opIds.define, profile, define })
          : undefined;
      if (isDiscarded) {
        // Their journal goes with them.
        await stages.run(DISCARD_STAGE, () => verbs.abandonOperation({ opId: opIds.restore, removeTargets: true }));
      }
      return {
        verdict: !ready ? 'not-booting' : unexplained.length > 0 ? 'differing' : bootTest ? 'proven' : 'redeployed',
        restore,
        plan,
        redeploy,
        ...(compared ? { compare: compared } : {}),
        ...(bootTest ? { boot: bootTest } : {}),
        ...(defined ? { define: defined } : {}),
      };
    },
    ({ boot: bootTest }) => (bootTest?.finding === 'ready' ? { provenRtoMs: bootTest.elapsedMs } : {}),
  );
}
