import { describeProfile } from '@lifeboat/runtime/hardware-profiles';
import type { CommandContext } from '../context.ts';
import { EXIT, type ExitCode } from '../exit-codes.ts';
import { runOnMachine } from '../operations/session.ts';
import type { VerifyOptions } from '../program.ts';
import { bootLines, checkLines } from './findings.ts';

export async function verifyCommand(
  context: CommandContext,
  machine: string,
  options: VerifyOptions,
): Promise<ExitCode> {
  const { output, display } = context;
  const { point, level, boot, ready, timeout, target: profile } = options;
  if (profile !== undefined) await describeProfile(profile); // a wrong one is said before anything starts
  const result = await runOnMachine(context, {
    kind: 'verify',
    machine,
    lookup: 'repository',
    input: (target) => ({
      ...target,
      level,
      ...(point === undefined ? {} : { pointId: point }),
      ...(boot
        ? { boot: { readyPattern: ready, timeoutMs: timeout, ...(profile === undefined ? {} : { profile }) } }
        : {}),
    }),
  });
  display.close();
  const { style } = output;
  const good = result.verdict === 'proven' || result.verdict === 'sound';
  output.result(result, [
    ...checkLines(style, result.check),
    ...(result.boot ? bootLines(style, result.boot) : []),
    `proof levels: ${result.proof.join(', ') || 'none'}`,
  ]);
  return good ? EXIT.done : EXIT.negative;
}
