import type { RestoreMachineInput } from '@lifeboat/contracts/workflow/operations';
import type { HostRuntime } from '@lifeboat/runtime/host-runtime';
import type { CommandContext } from '../context.ts';
import { EXIT, type ExitCode } from '../exit-codes.ts';
import { withHostRuntime } from '../operations/host.ts';
import { runOnMachine } from '../operations/session.ts';
import type { RestoreOptions } from '../program.ts';
import { printable } from '../text/width.ts';
import { restoreLines } from './findings.ts';

type HostEngine = HostRuntime['engine'];
type RestorePlanInput = Parameters<HostEngine['planRestore']>[0];
type RestorePlanSummary = Awaited<ReturnType<HostEngine['planRestore']>>;

/** The plan first, where there is something to plan: a device is named, or partitions move. It is shown before anything is written. */
export async function restoreCommand(
  context: CommandContext,
  machine: string,
  options: RestoreOptions,
): Promise<ExitCode> {
  const { output, display } = context;
  const { point, target: restoreTarget, layout } = options;
  const wanted = {
    target: restoreTarget,
    ...(layout ? { layout } : {}),
    ...(point === undefined ? {} : { pointId: point }),
  };
  if (options.plan) {
    const plan = await planRestore(context, { machine, ...wanted });
    display.close();
    output.result(plan, [...linesOf(plan), 'Nothing was written.']);
    return EXIT.done;
  }
  const plan = await showRestorePlan(context, { machine, ...wanted });
  const identity = plan.device ? { identity: plan.device.identity } : {};
  const shown: RestoreMachineInput['target'] =
    restoreTarget.kind === 'device' ? { ...restoreTarget, ...identity } : restoreTarget;
  const result = await runOnMachine(context, {
    kind: 'restore',
    machine,
    lookup: 'repository',
    // The point that was planned for, also if a newer one came meanwhile.
    input: (target) => ({ ...target, ...wanted, target: shown, pointId: plan.pointId, disks: 'keep' }),
  });
  display.close();
  output.result(result, [
    ...restoreLines(output.style, result.restore),
    'Nothing was started from them: "lifeboat verify" proves a point, "lifeboat redeploy" makes a machine of it.',
  ]);
  return EXIT.done;
}

/** Errors: what a restore finds before it writes. */
export async function showRestorePlan(context: CommandContext, input: RestorePlanInput): Promise<RestorePlanSummary> {
  const plan = await planRestore(context, input);
  for (const line of linesOf(plan)) context.display.note(line);
  return plan;
}

function planRestore(context: CommandContext, input: RestorePlanInput): Promise<RestorePlanSummary> {
  const { signal } = context;
  return withHostRuntime(context, (host) => host.engine.planRestore(input, { signal, progress: () => {} }));
}

function linesOf({ lines, warnings }: RestorePlanSummary): string[] {
  return [...lines, ...warnings.map((warning) => `warning: ${warning}`)].map(printable);
}
