import { parseOpId } from '@lifeboat/foundation/ids';
import type { HostRuntime } from '@lifeboat/runtime/host-runtime';
import { describeProfile } from '@lifeboat/runtime/hardware-profiles';
import type { CommandContext } from '../context.ts';
import { EXIT, type ExitCode } from '../exit-codes.ts';
import { type BootAnswer, bootYeses } from '../operations/boot-preflight.ts';
import { withHostRuntime } from '../operations/host.ts';
import { setNightly, stopNightly } from '../operations/nightly-preflight.ts';
import { newRequestId } from '../operations/request.ts';
import { withStack } from '../operations/stack-session.ts';
import type { PreflightOptions } from '../program.ts';
import type { Style } from '../text/style.ts';
import { printable } from '../text/width.ts';
import { badLine, goodLine } from './findings.ts';

type Machine = Awaited<ReturnType<HostRuntime['engine']['preflight']>>['machines'][number];

/**
 * Asked now, in this process and without Temporal; or every night, by a schedule of Temporal's. The exit code is 0 only if every machine would
 * start on every model.
 */
export async function preflightCommand(
  context: CommandContext,
  machines: readonly string[],
  options: PreflightOptions,
): Promise<ExitCode> {
  const { display, output, signal, random } = context;
  const { target: profiles, nightly, bootBudget } = options;
  for (const profile of profiles) await describeProfile(profile); // a wrong one is said before anything is opened
  if (nightly !== undefined) return await schedule(context, { nightly, profiles });
  const opId = parseOpId(`pre-${newRequestId(random)}`);
  const summary = await withHostRuntime(context, (host) =>
    host.engine.preflight(
      { opId, profiles, ...(machines.length === 0 ? {} : { machines }) },
      { signal, progress: ({ detail = '' }) => display.note(`looking at ${printable(detail)}`) },
    ),
  );
  const boots =
    bootBudget === undefined
      ? []
      : await bootYeses(context, summary, { profiles, boot: options, budgetMs: bootBudget });
  display.close();
  const isGood =
    summary.machines.length > 0 &&
    summary.machines.every(({ problem, answers }) => !problem && answers.every(({ verdict }) => verdict === 'yes')) &&
    boots.every(({ verdict }) => verdict === 'yes' || verdict === 'waits');
  output.result({ ...summary, ...(bootBudget === undefined ? {} : { boots }) }, [
    ...summary.machines.flatMap((machine) => lines(output.style, machine)),
    ...boots.map((boot) => bootLine(output.style, boot, summary.machines)),
    ...(summary.machines.length === 0 ? ['There is no machine with a recovery point.'] : []),
  ]);
  return isGood ? EXIT.done : EXIT.negative;
}

async function schedule(
  context: CommandContext,
  {
    nightly,
    profiles,
  }: { readonly nightly: NonNullable<PreflightOptions['nightly']>; readonly profiles: readonly string[] },
): Promise<ExitCode> {
  const { display, output } = context;
  const hostId = await withHostRuntime(context, async (host) => host.hostId);
  const was = await withStack({ ...context, hostId }, async (client) =>
    nightly === 'off' ? await stopNightly(client, hostId) : await setNightly(client, { hostId, profiles, at: nightly }),
  );
  display.close();
  const text =
    nightly === 'off'
      ? was
        ? 'Nothing is asked every night any more.'
        : 'Nothing was asked every night.'
      : `Every night at ${clockTime(nightly)} UTC all machines are asked about ${profiles.join(', ')}, while the stack runs; "lifeboat evidence MACHINE" shows the answers.`;
  output.result({ nightly: nightly === 'off' ? null : clockTime(nightly), profiles }, [goodLine(output.style, text)]);
  return EXIT.done;
}

function clockTime({ hour, minute }: { readonly hour: number; readonly minute: number }): string {
  return [hour, minute].map((part) => String(part).padStart(2, '0')).join(':');
}

/** What there was no time for is no news of the machine, and said all the same. */
function bootLine(
  style: Style,
  { machineId, profile, verdict, reason }: BootAnswer,
  machines: readonly Machine[],
): string {
  const name = machines.find((machine) => machine.machineId === machineId)?.machineName ?? machineId;
  const of = `${name} on ${profile}`;
  switch (verdict) {
    case 'yes':
      return goodLine(style, `${of}: was started`);
    case 'no':
      return badLine(style, `${of}: did not start, though the plan said so: ${reason}`);
    case 'unknown':
      return badLine(style, `${of}: could not be started: ${reason}`);
    default:
      return style.warn(printable(`${of}: ${reason}`));
  }
}

function lines(style: Style, { machineName, pointId, answers, problem }: Machine): string[] {
  if (problem !== undefined) return [badLine(style, `${machineName}: cannot be told: ${problem}`)];
  return answers.flatMap(({ profile, verdict, reasons, warnings }) => {
    const of = `${machineName} (${pointId ?? ''}) on ${profile}`;
    return [
      verdict === 'yes'
        ? goodLine(style, `${of}: would start, by plan`)
        : badLine(style, verdict === 'no' ? `${of}: would not start` : `${of}: cannot be told`),
      ...reasons.map((reason) => `    ${printable(reason)}`),
      ...warnings.map((warning) => `    ${style.warn(`warning: ${printable(warning)}`)}`),
    ];
  });
}
