/**
 * `npm run bench -- NAME [--repeat N]`: takes a figure and prints its table. Both sides of a comparison are measured in
 * one run, by turns. Nothing is left behind.
 */
import { parseArgs } from 'node:util';
import { LifeboatError } from '@lifeboat/foundation/errors';
import { BenchLab } from './bench-lab.ts';
import { describeLoad, describeMachine } from './bench-machine.ts';
import { renderFigure } from './figure-table.ts';
import { backupFigure } from './figures/backup.ts';
import { bootFigure } from './figures/boot.ts';
import { incrementalFigure } from './figures/incremental.ts';
import { injectFigure } from './figures/inject.ts';
import type { Figure } from './series.ts';

const FIGURES: Readonly<Record<string, (lab: BenchLab, repeat: number) => Promise<Figure>>> = {
  backup: backupFigure,
  incremental: incrementalFigure,
  boot: bootFigure,
  inject: injectFigure,
};
const DEFAULT_REPEAT = 5;
const MAX_REPEAT = 50;
const USAGE = `usage: npm run bench -- ${Object.keys(FIGURES).join('|')} [--repeat N]     (N: 1 to ${MAX_REPEAT}, default ${DEFAULT_REPEAT})`;

const stop = new AbortController();
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.once(name, () => stop.abort(new LifeboatError('operation.cancelled', `broken off by ${name}`)));
}
const say = (text: string): void => void process.stderr.write(`bench: ${text}\n`);

const request = readRequest(process.argv.slice(2));
if (request === undefined) {
  process.stderr.write(`${USAGE}\n`);
  process.exitCode = 2;
} else {
  try {
    await takeFigure(request);
  } catch (error) {
    if (error !== stop.signal.reason) throw error;
    say(`${stop.signal.reason.message}; nothing is left behind`);
    process.exitCode = 130;
  }
}

async function takeFigure({ name, take, repeat }: NonNullable<ReturnType<typeof readRequest>>): Promise<void> {
  const lab = await BenchLab.open({ signal: stop.signal, say });
  try {
    const machine = describeMachine(await lab.hypervisor.describeHost());
    const beganAt = new Date();
    const loadBefore = describeLoad();
    const figure = await take(lab, repeat);
    const command = `npm run bench -- ${name} --repeat ${repeat}`;
    process.stdout.write(renderFigure(figure, { command, beganAt, machine, loadBefore, loadAfter: describeLoad() }));
  } finally {
    await lab.close();
  }
}

function readRequest(
  args: readonly string[],
): { name: string; take: (lab: BenchLab, repeat: number) => Promise<Figure>; repeat: number } | undefined {
  try {
    const { positionals, values } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: { repeat: { type: 'string', default: String(DEFAULT_REPEAT) } },
    });
    const [name = '', ...rest] = positionals;
    const take = FIGURES[name];
    const repeat = Number(values.repeat);
    const isCount = Number.isInteger(repeat) && repeat >= 1 && repeat <= MAX_REPEAT;
    return take && rest.length === 0 && isCount ? { name, take, repeat } : undefined;
  } catch (error) {
    say(error instanceof Error ? error.message : String(error));
    return undefined;
  }
}
