/**
 * A full backup of a disk image, its restore and its check, against zstd and against other programs for backups; all of them in
 * one run, by turns.
 */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { messageOf } from '@lifeboat/foundation/errors';
import { PRESETS } from '@lifeboat/repository/write/presets';
import { findProgram, PEERS, type Peer } from '../repository/peers.ts';
import { describeImage, type BenchOptions, RepositoryBench } from '../repository/repository-bench.ts';
import type { InputImage } from '../repository/input-image.ts';
import type { RepositoryReport } from '../repository/repository-process.ts';
import { RoundLog } from '../repository/round-log.ts';
import { type Figure, median, type Verdict } from '../series.ts';
import type { ToolTime } from '../timed-tool.ts';

const OURS = 'Lifeboat, all blocks';
const ALLOCATED = 'Lifeboat, allocated only';
const SMALL = 'Lifeboat, preset small';
const ZSTD = 'zstd -1 -T2';
const RESTIC = 'restic, auto';

interface Round {
  readonly backup: ToolTime;
  readonly restore: ToolTime;
  readonly verify?: ToolTime;
  readonly storedBytes: number;
  readonly report?: RepositoryReport;
}
type Outcome = Round | { readonly failed: string };

export async function repositoryFullFigure(options: BenchOptions): Promise<Figure> {
  const { repeat, scale, signal, say } = options;
  const bench = await RepositoryBench.open(options);
  try {
    const image = await bench.image();
    const { path: allocationPath, allocatedBytes } = await bench.allocation(image);
    const log = await RoundLog.open<Outcome>(
      join(bench.stateRoot, 'bench-rounds'),
      ['full', String(scale), String(bench.inMemory)],
      signal,
    );
    if (log.size > 0) say(`going on with ${log.size} measurements of a run that was broken off`);
    const sides: { label: string; version: string; run: () => Promise<Round> }[] = [];
    const missing: string[] = [];
    for (const peer of PEERS) {
      const found = await findProgram(peer.program, { cacheRoot: bench.cacheRoot, signal, say });
      if ('missing' in found) missing.push(`${peer.label}: ${found.missing}`);
      else
        sides.push({ label: peer.label, version: found.version, run: () => peerRound(bench, peer, found.path, image) });
    }
    const own = { version: 'this tree' };
    sides.splice(
      1,
      0,
      { ...own, label: OURS, run: () => ourRound(bench, image, {}) },
      { ...own, label: ALLOCATED, run: () => ourRound(bench, image, { allocationPath }) },
      { ...own, label: SMALL, run: () => ourRound(bench, image, PRESETS.small) },
    );

    const rounds = new Map<string, Round[]>(sides.map(({ label }) => [label, []]));
    const failures: string[] = [];
    for (let round = 0; round < repeat; round++) {
      // Who begins alternates, so that nobody always follows the same one.
      for (const { label, run } of round % 2 === 0 ? sides : sides.toReversed()) {
        say(`round ${round + 1} of ${repeat}: ${label}`);
        const outcome = await log.once(`${round} ${label}`, () => attempt(run, signal));
        if ('failed' in outcome) failures.push(`${label}, round ${round + 1}: ${outcome.failed}`);
        else rounds.get(label)?.push(outcome);
      }
    }
    await log.remove();
    const versions = sides.map(({ label, version }) => `${label}: ${version}`).join('; ');
    return {
      title: 'Full backup of a disk image against other programs',
      method: [
        describeImage(image),
        bench.placeSentence,
        `Each program as a process of its own, its start included, by turns, ${repeat} rounds; medians. Versions: ${versions}`,
        'Lifeboat: sealed, deduplicated, every pack opened again and compared before it is stored; "allocated only" reads the ' +
          `${(allocatedBytes / 1e9).toFixed(2)} GB that the file system says are in use; restore checks every chunk; verify opens every chunk`,
        ...missing.map((text) => `Not measured, because it could not be had: ${text}`),
        ...failures.map((text) => `Failed: ${text}`),
      ],
      tables: [mainTable(rounds), stageTable(rounds)],
      series: [],
      verdicts: verdicts(rounds),
    };
  } finally {
    await bench.close();
  }
}

async function attempt(run: () => Promise<Round>, signal: AbortSignal): Promise<Outcome> {
  try {
    return await run();
  } catch (error) {
    signal.throwIfAborted();
    return { failed: messageOf(error).replaceAll(/\s+/g, ' ').slice(-300) };
  }
}

async function ourRound(
  bench: RepositoryBench,
  image: InputImage,
  extra: { allocationPath?: string; zstdLevel?: number },
): Promise<Round> {
  const directory = await bench.freshDirectory('ours');
  const request = { directory, imagePath: image.path, targetPath: join(directory, 'restored.raw') };
  await bench.ours({ ...request, verb: 'init' });
  await bench.warm(image.path);
  const backup = await bench.ours({ ...request, ...extra, verb: 'backup' });
  const storedBytes = await bench.storedBytes(join(directory, 'repository'));
  const verify = await bench.ours({ ...request, verb: 'verify' });
  await bench.forget(image.path);
  const restore = await bench.ours({ ...request, verb: 'restore' });
  await rm(directory, { recursive: true });
  return { backup, restore, verify, storedBytes, report: backup.report };
}

async function peerRound(bench: RepositoryBench, peer: Peer, program: string, image: InputImage): Promise<Round> {
  const work = await bench.freshDirectory('theirs');
  const target = await bench.freshDirectory('theirs/target');
  const repository = join(work, 'repository');
  const env = { W: work, R: repository, I: image.path, D: image.directory, T: target, BIN: program };
  try {
    await bench.time(peer.init, env);
    await bench.warm(image.path);
    const backup = await bench.time(peer.backup, env);
    const storedBytes = await bench.storedBytes(repository);
    const verify = peer.verify === undefined ? undefined : await bench.time(peer.verify, env);
    await bench.forget(image.path);
    const restore = await bench.time(peer.restore, env);
    return { backup, restore, storedBytes, ...(verify ? { verify } : {}) };
  } finally {
    await rm(work, { recursive: true });
  }
}

function mainTable(rounds: ReadonlyMap<string, readonly Round[]>): NonNullable<Figure['tables']>[number] {
  const zstd = rounds.get(ZSTD) ?? [];
  const rows = [...rounds].map(([label, all]) => {
    const seconds = (pick: (round: Round) => ToolTime | undefined): string => {
      const values = all.map(pick).filter((time) => time !== undefined);
      if (values.length === 0) return '';
      return `${median(values.map(({ wallSeconds }) => wallSeconds)).toFixed(1)} (${median(values.map(({ cpuSeconds }) => cpuSeconds)).toFixed(1)})`;
    };
    return [
      label,
      seconds(({ backup }) => backup),
      ratio(wall(all, 'backup'), wall(zstd, 'backup')),
      all.length > 0 ? (stored(all) / 1e6).toFixed(0) : '',
      seconds(({ restore }) => restore),
      ratio(wall(all, 'restore'), wall(zstd, 'restore')),
      seconds(({ verify }) => verify),
      all[0]?.report ? (Math.max(...all.map(({ report }) => report?.peakBytes ?? 0)) / 1e6).toFixed(0) : '',
      all.map(({ backup }) => backup.wallSeconds.toFixed(1)).join(', '),
    ];
  });
  const head = [
    'seconds (CPU seconds)',
    'backup',
    'to zstd',
    'stored, MB',
    'restore',
    'to zstd',
    'verify',
    'peak memory, MB',
    'backups, in order',
  ];
  return { head, rows };
}

/** Where the lanes of our backup spent their time. */
function stageTable(rounds: ReadonlyMap<string, readonly Round[]>): NonNullable<Figure['tables']>[number] {
  const labels = [OURS, ALLOCATED, SMALL];
  const stages = Object.keys(rounds.get(OURS)?.[0]?.report?.stats?.stageMs ?? {});
  const rows = labels.map((label) => {
    const all = (rounds.get(label) ?? []).map(({ report }) => report?.stats?.stageMs ?? {});
    const of = (stage: string): number => median(all.map((ms) => (ms as Record<string, number>)[stage] ?? 0));
    const total = stages.reduce((sum, stage) => sum + of(stage), 0);
    return [label, ...stages.map((stage) => `${((100 * of(stage)) / total).toFixed(0)} %`)];
  });
  return { head: ["share of the lanes' time", ...stages], rows };
}

function verdicts(rounds: ReadonlyMap<string, readonly Round[]>): Verdict[] {
  const of = (label: string): readonly Round[] => rounds.get(label) ?? [];
  const others = [...rounds].filter(
    ([label, all]) => !label.startsWith('Lifeboat') && label !== ZSTD && all.length > 0,
  );
  const fastest = (verb: 'backup' | 'restore'): number => Math.min(...others.map(([, all]) => wall(all, verb)));
  const plain = { unit: '', digits: 3 };
  return [
    {
      ...plain,
      label: 'Full backup, to zstd -1 -T2',
      value: wall(of(OURS), 'backup') / wall(of(ZSTD), 'backup'),
      below: 1.6,
    },
    {
      ...plain,
      label: 'Full backup, to the fastest other program for backups (1/1.4)',
      value: wall(of(OURS), 'backup') / fastest('backup'),
      below: 1 / 1.4,
    },
    {
      ...plain,
      label: 'Allocated only, to zstd -1 -T2',
      value: wall(of(ALLOCATED), 'backup') / wall(of(ZSTD), 'backup'),
      below: 1.2,
    },
    { ...plain, label: 'Stored, to zstd -1', value: stored(of(OURS)) / stored(of(ZSTD)), below: 1.02 },
    { ...plain, label: 'Preset small, stored, to restic', value: stored(of(SMALL)) / stored(of(RESTIC)), below: 1.02 },
    {
      ...plain,
      label: 'Preset small, time, to restic',
      value: wall(of(SMALL), 'backup') / wall(of(RESTIC), 'backup'),
      below: 1,
    },
    {
      ...plain,
      label: 'Restore, to zstd -d',
      value: wall(of(OURS), 'restore') / wall(of(ZSTD), 'restore'),
      below: 0.7,
    },
    {
      ...plain,
      label: 'Restore, to the fastest other program for backups',
      value: wall(of(OURS), 'restore') / fastest('restore'),
      below: 1,
    },
    {
      ...plain,
      label: 'Verify, to zstd -d to null',
      value: wall(of(OURS), 'verify') / wall(of(ZSTD), 'verify'),
      below: 1,
    },
    {
      label: 'Peak resident memory of a backup',
      value: Math.max(...of(OURS).map(({ report }) => report?.peakBytes ?? 0)) / 1e6,
      unit: 'MB',
      digits: 0,
      below: 512,
    },
  ];
}

function wall(rounds: readonly Round[], verb: 'backup' | 'restore' | 'verify'): number {
  return median(rounds.map((round) => round[verb]?.wallSeconds ?? Number.NaN));
}

function stored(rounds: readonly Round[]): number {
  return median(rounds.map(({ storedBytes }) => storedBytes));
}

function ratio(ours: number, theirs: number): string {
  return Number.isNaN(ours / theirs) ? '' : (ours / theirs).toFixed(2);
}
