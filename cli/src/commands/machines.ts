import { machinesOf } from '@lifeboat/runtime/repository-admin';
import type { CommandContext } from '../context.ts';
import { EXIT, type ExitCode } from '../exit-codes.ts';
import { formatInstant } from '../text/instant.ts';
import { table } from '../text/table.ts';
import { printable } from '../text/width.ts';

/** Reads the repository and nothing else. A record that cannot be read is shown and makes the exit code 3. */
export async function machinesCommand({ configuration, output, signal }: CommandContext): Promise<ExitCode> {
  const machines = await machinesOf(configuration, { signal });
  const { style } = output;
  const lines =
    machines.length === 0
      ? ['No machine was ever backed up into this repository. "lifeboat backup MACHINE" makes a first recovery point.']
      : table(
          [
            { title: 'Machine' },
            { title: 'Id' },
            { title: 'Ran on' },
            { title: 'Firmware' },
            { title: 'Points', align: 'right' },
            { title: 'Newest' },
          ],
          machines.map((machine) => [
            printable(machine.name),
            machine.machineId,
            printable(machine.connection ?? '?'),
            printable(machine.firmware ?? '?'),
            String(machine.points),
            machine.newestMs === undefined ? 'none' : formatInstant(machine.newestMs),
          ]),
        );
  const problems = machines.flatMap(({ name, problem }) =>
    problem === undefined ? [] : [style.bad(printable(`${name}: ${problem}`))],
  );
  output.result({ machines }, [...lines, ...problems]);
  return problems.length > 0 ? EXIT.negative : EXIT.done;
}
