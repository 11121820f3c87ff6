import type { CaptureSummary } from '@lifeboat/contracts/workflow/verbs';
import { formatBytes, formatDuration } from '@lifeboat/foundation/units';
import type { CommandContext } from '../context.ts';
import { EXIT, type ExitCode } from '../exit-codes.ts';
import { runOnMachine } from '../operations/session.ts';
import type { Style } from '../text/style.ts';
import { table } from '../text/table.ts';
import { printable } from '../text/width.ts';
import { goodLine } from './findings.ts';

export async function backupCommand(context: CommandContext, machine: string): Promise<ExitCode> {
  const { output, display } = context;
  const result = await runOnMachine(context, {
    kind: 'backup',
    machine,
    lookup: 'hypervisor',
    input: (target) => target,
  });
  display.close();
  output.result(result, captureLines(output.style, result.capture));
  return EXIT.done;
}

function captureLines(style: Style, capture: CaptureSummary): string[] {
  const {
    pointId,
    machineName,
    consistency,
    consistencyReason,
    durationMs,
    healedChunks = 0,
    healingFailure,
    noInventory,
  } = capture;
  const reason = consistencyReason ? `: ${consistencyReason}` : '';
  return [
    goodLine(style, `${machineName} is backed up as ${pointId} in ${formatDuration(durationMs)}`),
    `    ${printable(`${consistency}-consistent${reason}`)}`,
    ...(healedChunks > 0 ? [`    healed ${healedChunks} damaged chunks of earlier recovery points`] : []),
    ...(healingFailure === undefined
      ? []
      : [`    ${style.warn(printable(`damage of earlier recovery points could not be healed: ${healingFailure}`))}`]),
    ...(noInventory === undefined ? [] : [`    ${style.warn(printable(`no inventory: ${noInventory}`))}`]),
    ...table(
      [
        { title: 'Disk' },
        { title: 'How' },
        { title: 'Size', align: 'right' },
        { title: 'Read', align: 'right' },
        { title: 'Changed', align: 'right' },
        { title: 'Stored', align: 'right' },
        { title: 'Why' },
      ],
      capture.disks.map((disk) => [
        printable(disk.name),
        disk.method,
        formatBytes(disk.sizeBytes),
        formatBytes(disk.readBytes),
        formatBytes(disk.changedBytes),
        formatBytes(disk.storedBytes),
        printable(disk.reason),
      ]),
    ).map((line) => `    ${line}`),
  ];
}
