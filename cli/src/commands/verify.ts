import { describeProfile } from '@lifeboat/runtime/hardware-profiles';
import { bootPlan } from '../boot-options.ts';
import type { CommandContext } from '../context.ts';
import { EXIT, type ExitCode } from '../exit-codes.ts';
import { runOnMachine } from '../operations/session.ts';
import type { VerifyOptions } from '../program.ts';
import { bootLines, checkLines, filesystemLines } from './findings.ts';

export async function verifyCommand(
  context: CommandContext,
  machine: string,
  options: VerifyOptions,
): Promise<ExitCode> {
  const { output, display } = context;
  const { point, level, check, boot, target: profile } = options;
  if (profile !== undefined) await describeProfile(profile); // a wrong one is said before anything starts
  const result = await runOnMachine(context, {
    kind: 'verify',
    machine,
    lookup: 'repository',
    input: (target) => ({
      ...target,
      level: level === 'filesystem' ? 'content' : level,
      ...(level === 'filesystem' ? { filesystems: { programs: check } } : {}),
      ...(point === undefined ? {} : { pointId: point }),
      ...(boot ? { boot: { ...bootPlan(options), ...(profile === undefined ? {} : { profile }) } } : {}),
    }),
  });
  display.close();
  const { style } = output;
  const good = result.verdict === 'proven' || result.verdict === 'sound';
  output.result(result, [
    ...checkLines(style, result.check),
    ...(result.filesystems ? filesystemLines(style, result.filesystems) : []),
    ...(result.boot ? bootLines(style, result.boot) : []),
    `proof levels: ${result.proof.join(', ') || 'none'}`,
  ]);
  return good ? EXIT.done : EXIT.negative;
}
