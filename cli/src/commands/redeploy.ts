import { basename, join } from 'node:path';
import type { RedeployMachineResult } from '@lifeboat/contracts/workflow/operations';
import { formatBytes, formatDuration } from '@lifeboat/foundation/units';
import { describeProfile } from '@lifeboat/runtime/hardware-profiles';
import { bootPlan } from '../boot-options.ts';
import type { CommandContext } from '../context.ts';
import { EXIT, type ExitCode } from '../exit-codes.ts';
import { runOnMachine } from '../operations/session.ts';
import type { RedeployOptions } from '../program.ts';
import type { Style } from '../text/style.ts';
import { printable } from '../text/width.ts';
import { showRestorePlan } from './restore.ts';
import { badLine, bootLines, goodLine, planLines, restoreLines } from './findings.ts';

export async function redeployCommand(
  context: CommandContext,
  machine: string,
  options: RedeployOptions,
): Promise<ExitCode> {
  const { output, display, configuration } = context;
  const { point, target: profile, name, boot, start, newIdentity, layout } = options;
  await describeProfile(profile); // a wrong one is said before anything is restored
  const directory = options.to ?? join(configuration.stateRoot, 'machines', name);
  const target = { kind: 'directory', directory, name } as const;
  if (layout)
    await showRestorePlan(context, { machine, target, layout, ...(point === undefined ? {} : { pointId: point }) });
  const result = await runOnMachine(context, {
    kind: 'redeploy',
    machine,
    lookup: 'repository',
    input: (operationTarget) => ({
      ...operationTarget,
      profile,
      target,
      define: { name, start },
      ...(point === undefined ? {} : { pointId: point }),
      ...(layout ? { layout } : {}),
      ...(newIdentity ? { newIdentity } : {}),
      ...(boot ? { boot: bootPlan(options) } : {}),
    }),
  });
  display.close();
  output.result(result, redeployLines(output.style, result));
  return result.verdict === 'proven' || result.verdict === 'redeployed' ? EXIT.done : EXIT.negative;
}

function redeployLines(style: Style, result: RedeployMachineResult): string[] {
  const { restore, plan, redeploy, compare, boot, define } = result;
  const lines = [...planLines(style, plan)];
  if (result.verdict === 'refused') {
    return [
      ...lines,
      badLine(style, 'The plan was refused; the restored disks were removed and no machine was defined.'),
    ];
  }
  lines.push(...restoreLines(style, restore));
  if (redeploy) {
    lines.push(goodLine(style, `injected in ${formatDuration(redeploy.injectionMs)}`));
    for (const { kernel, modules, addedBytes } of redeploy.installed) {
      lines.push(
        `    ${printable(`${kernel}: ${modules.join(', ') || 'nothing was missing'} (${formatBytes(addedBytes)})`)}`,
      );
    }
    for (const file of redeploy.editedFiles) lines.push(`    edited ${printable(file)}`);
    lines.push(`    plan ${printable(redeploy.planPath)}`);
    lines.push(`    journal ${printable(redeploy.journalPath)}`);
    lines.push(`    to take it back: lifeboat redeploy revert ${printable(basename(redeploy.journalPath))}`);
  }
  if (boot) lines.push(...bootLines(style, boot));
  else lines.push(style.warn('It was not started, so nothing is proven.'));
  for (const what of compare?.notCompared ?? [])
    lines.push(style.warn(`Not compared with the point: ${printable(what)}`));
  if (result.verdict === 'differing') {
    lines.push(badLine(style, 'Files differ from those of the recovery point though they were not edited.'));
  }
  if (define) {
    lines.push(
      goodLine(
        style,
        `machine '${define.name}' is defined${define.started ? ' and started' : ''} (${define.machineId})`,
      ),
    );
  } else {
    lines.push(badLine(style, 'No machine was defined; the disks are kept for a look.'));
  }
  return lines;
}
