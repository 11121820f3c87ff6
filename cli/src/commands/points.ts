import { formatBytes } from '@lifeboat/foundation/units';
import type { HostRuntime } from '@lifeboat/runtime/host-runtime';
import type { CommandContext } from '../context.ts';
import { EXIT, type ExitCode } from '../exit-codes.ts';
import { withHostRuntime } from '../operations/host.ts';
import type { Style } from '../text/style.ts';
import { table } from '../text/table.ts';
import { printable } from '../text/width.ts';
import { formatInstant } from '../text/instant.ts';

type Proof = Awaited<ReturnType<HostRuntime['engine']['listPoints']>>[number]['proof'];

/** Reads the repository and nothing else: no Temporal, no hypervisor. A damaged point is shown and makes the exit code 3. */
export async function pointsCommand(context: CommandContext, machine: string | undefined): Promise<ExitCode> {
  const { output, display } = context;
  const points = await withHostRuntime(context, (host) =>
    host.engine.listPoints(machine, { proof: true, signal: context.signal }),
  );
  const newestFirst = points.toSorted((a, b) => b.instantMs - a.instantMs);
  display.close();
  const { style } = output;
  const lines =
    newestFirst.length === 0
      ? [
          machine === undefined
            ? 'There are no recovery points yet. "lifeboat backup MACHINE" makes the first.'
            : printable(`'${machine}' has no recovery points. "lifeboat points" lists those of all machines.`),
        ]
      : table(
          [
            { title: 'Machine' },
            { title: 'Recovery point' },
            { title: 'Shows' },
            { title: 'Consistency' },
            { title: 'Proven' },
            { title: 'Disks' },
          ],
          newestFirst.map((point) => [
            printable(point.machineName),
            point.pointId,
            formatInstant(point.instantMs),
            point.damage === undefined ? point.consistency : style.bad(`damaged: ${printable(point.damage)}`),
            proofText(style, point),
            point.disks.map((disk) => `${printable(disk.name)} ${formatBytes(disk.sizeBytes)}`).join(', '),
          ]),
        );
  output.result({ points: newestFirst }, lines);
  return newestFirst.some((point) => point.damage !== undefined) ? EXIT.negative : EXIT.done;
}

/** A level nobody looked at is not named: what is skipped is neither good nor bad. */
function proofText(style: Style, { proof }: { readonly proof?: Proof }): string {
  const { proven, failed } = proof ?? { proven: [], failed: [] };
  const parts = [
    ...proven.map((level) => style.good(level)),
    ...failed.map(({ level }) => style.bad(`${level} failed`)),
  ];
  return parts.join(', ') || 'nothing yet';
}
