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
  const { pointId: shown, taken, inventory, requirements, machineName, lines } = summary;
  const when = taken === 'at-backup' ? '' : `, looked at ${formatInstant(inventory.takenAtMs)}`;
  output.result({ machineName, pointId: shown, taken, inventory, requirements }, [
    printable(`${machineName} at ${shown}${when}`),
    '',
    ...lines.map(printable),
  ]);
  return EXIT.done;
}
