/**
 * `npm run bench -- NAME [--repeat N] [--scale F] [--directory D]`: takes a figure and prints its table. Both sides of a comparison are
 * measured in one run, by turns. Nothing is left behind but what is kept in the cache: input images and programs.
 */
import { parseArgs } from 'node:util';
import { LifeboatError } from '@lifeboat/foundation/errors';
import { BenchLab } from './bench-lab.ts';
import { describeLoad, describeMachine } from './bench-machine.ts';
import { renderFigure } from './figure-table.ts';
import { backupFigure } from './figures/backup.ts';
import { bootFigure } from './figures/boot.ts';
import { bootsFigure } from './figures/boots.ts';
import { incrementalFigure } from './figures/incremental.ts';
import { injectFigure } from './figures/inject.ts';
import { repositoryChunkSizeFigure } from './figures/repository-chunk-size.ts';
import { repositoryFullFigure } from './figures/repository-full.ts';
import { repositoryGrowthFigure } from './figures/repository-growth.ts';
import { repositoryMemoryFigure } from './figures/repository-memory.ts';
import { repositoryReadsFigure } from './figures/repository-reads.ts';
import type { BenchOptions } from './repository/repository-bench.ts';
import type { Figure } from './series.ts';

/** With guests of their own on this machine's libvirt. */
const GUEST_FIGURES: Readonly<Record<string, (lab: BenchLab, repeat: number) => Promise<Figure>>> = {
  backup: backupFigure,
  incremental: incrementalFigure,
  boot: bootFigure,
  boots: bootsFigure,
  inject: injectFigure,
};
/** Of the repository alone. */
const REPOSITORY_FIGURES: Readonly<Record<string, (options: BenchOptions) => Promise<Figure>>> = {
  'repo-full': repositoryFullFigure,
  'repo-growth': repositoryGrowthFigure,
  'repo-memory': repositoryMemoryFigure,
  'repo-reads': repositoryReadsFigure,
  'repo-chunk-size': repositoryChunkSizeFigure,
};
const DEFAULT_REPEAT = 5;
const MAX_REPEAT = 50;
const USAGE = `usage: npm run bench -- ${[...Object.keys(GUEST_FIGURES), ...Object.keys(REPOSITORY_FIGURES)].join('|')} [--repeat N]     (N: 1 to ${MAX_REPEAT}, default ${DEFAULT_REPEAT})
       repo-*: also --scale F (of the input, 0.01 to 1, default 1) and --directory D (where repositories are made; default: memory if it is enough)`;

const stop = new AbortController();
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.once(name, () => stop.abort(new LifeboatError('operation.cancelled', `broken off by ${name}`)));
}
const say = (text: string): void => void process.stderr.write(`bench: ${text}\n`);

interface Request {
  readonly name: string;
  readonly repeat: number;
  readonly scale: number;
  readonly directory: string | undefined;
}

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

async function takeFigure(asked: Request): Promise<void> {
  const beganAt = new Date();
  const loadBefore = describeLoad();
  const { figure, machine } = await measure(asked);
  const { name, repeat, scale, directory } = asked;
  const command = [
    `npm run bench -- ${name} --repeat ${repeat}`,
    ...(name in REPOSITORY_FIGURES ? [`--scale ${scale}`] : []),
    ...(directory === undefined ? [] : [`--directory ${directory}`]),
  ].join(' ');
  process.stdout.write(renderFigure(figure, { command, beganAt, machine, loadBefore, loadAfter: describeLoad() }));
}

async function measure({ name, repeat, scale, directory }: Request): Promise<{ figure: Figure; machine: string }> {
  const ofRepository = REPOSITORY_FIGURES[name];
  if (ofRepository) {
    const figure = await ofRepository({ repeat, scale, directory, signal: stop.signal, say });
    return { figure, machine: describeMachine() };
  }
  const ofGuests = GUEST_FIGURES[name];
  if (!ofGuests) throw new LifeboatError('internal.bug', `${name} is not a figure`);
  const lab = await BenchLab.open({ signal: stop.signal, say });
  try {
    const machine = describeMachine(await lab.hypervisor.describeHost());
    return { figure: await ofGuests(lab, repeat), machine };
  } finally {
    await lab.close();
  }
}

function readRequest(args: readonly string[]): Request | undefined {
  try {
    const { positionals, values } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        repeat: { type: 'string', default: String(DEFAULT_REPEAT) },
        scale: { type: 'string', default: '1' },
        directory: { type: 'string' },
      },
    });
    const [name = '', ...rest] = positionals;
    const repeat = Number(values.repeat);
    const scale = Number(values.scale);
    const isFigure = name in GUEST_FIGURES || name in REPOSITORY_FIGURES;
    const isCount = Number.isInteger(repeat) && repeat >= 1 && repeat <= MAX_REPEAT;
    const isScale = scale >= 0.01 && scale <= 1;
    if (!isFigure || rest.length > 0 || !isCount || !isScale) return undefined;
    return { name, repeat, scale, directory: values.directory };
  } catch (error) {
    say(error instanceof Error ? error.message : String(error));
    return undefined;
  }
}
