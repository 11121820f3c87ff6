import type { CommandContext } from '../context.ts';
import { EXIT, type ExitCode } from '../exit-codes.ts';
import { runOnMachine } from '../operations/session.ts';
import type { RestoreOptions } from '../program.ts';
import { restoreLines } from './findings.ts';

export async function restoreCommand(
  context: CommandContext,
  machine: string,
  options: RestoreOptions,
): Promise<ExitCode> {
  const { output, display } = context;
  const { point, target: restoreTarget } = options;
  const result = await runOnMachine(context, {
    kind: 'restore',
    machine,
    lookup: 'repository',
    input: (target) => ({
      ...target,
      target: restoreTarget,
      disks: 'keep',
      ...(point === undefined ? {} : { pointId: point }),
    }),
  });
  display.close();
  output.result(result, [
    ...restoreLines(output.style, result.restore),
    'Nothing was started from them: "lifeboat verify" proves a point, "lifeboat redeploy" makes a machine of it.',
  ]);
  return EXIT.done;
}
