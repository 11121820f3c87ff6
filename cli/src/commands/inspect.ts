import type { PointId } from '@lifeboat/foundation/ids';
import type { CommandContext } from '../context.ts';
import { EXIT, type ExitCode } from '../exit-codes.ts';
import { withHostRuntime } from '../operations/host.ts';
import { formatInstant } from '../text/instant.ts';
import { printable } from '../text/width.ts';

/** Reads the repository and nothing else: no Temporal, no hypervisor. */
export async function inspectCommand(
  context: CommandContext,
  machine: string,
  pointId: PointId | undefined,
): Promise<ExitCode> {
  const { output, display, signal } = context;
  const summary = await withHostRuntime(context, (host) =>
    host.engine.inspectPoint(
      { machine, ...(pointId === undefined ? {} : { pointId }) },
      { signal, progress: () => {} },
    ),
  );
  display.close();
  const { taken, inventory, machineName, lines, ...rest } = summary;
  const when = taken === 'at-backup' ? '' : `, looked at ${formatInstant(inventory.takenAtMs)}`;
  output.result({ machineName, taken, inventory, pointId: rest.pointId }, [
    printable(`${machineName} at ${rest.pointId}${when}`),
    '',
    ...lines.map(printable),
  ]);
  return EXIT.done;
}
