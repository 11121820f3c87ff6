import { silentLog } from '@lifeboat/foundation/log';
import { lookAtLocks } from '@lifeboat/runtime/repository-locks';
import type { CommandContext } from '../context.ts';
import { EXIT, type ExitCode } from '../exit-codes.ts';
import { formatInstant } from '../text/instant.ts';
import { printable } from '../text/width.ts';

/** Problems that are printed; `--json` has more. */
const MAX_LINES = 20;

/** Asks the store for the lock of everything the recovery points need; with `extend` it makes the locks longer first. */
export async function locksCommand(context: CommandContext, options: { readonly extend: boolean }): Promise<ExitCode> {
  const { output, display, configuration, signal } = context;
  const { extension, report } = await lookAtLocks(configuration, { ...options, signal, log: silentLog });
  display.close();
  const { style } = output;
  const lines: string[] = [];
  if (extension) {
    lines.push(
      `${extension.extended} of ${extension.held} objects were extended, to ${formatInstant(extension.untilMs)}; ` +
        `${extension.givenUp} are needed by no point and keep the lock they have.`,
    );
  }
  for (const { object, problem, untilMs, point } of report.problems.slice(0, MAX_LINES)) {
    const until = untilMs === undefined ? '' : ` (${formatInstant(untilMs)})`;
    lines.push(
      style.bad(`${printable(object)}: ${problem}${until}${point === undefined ? '' : `, needed by ${point}`}`),
    );
  }
  const looked = `${report.points} points need ${report.objects} objects`;
  lines.push(
    report.sound
      ? `${looked}; each is locked for the whole retention.`
      : `${looked}; ${report.problemCount} problems. "lifeboat locks --extend" extends what is there.`,
  );
  output.result({ extension: extension ?? null, report }, lines);
  return report.sound ? EXIT.done : EXIT.negative;
}
