/**
 * What a backup costs as the disk grows and nothing, or little, changes: time, memory, requests, metadata; and listing many points.
 * The disks are sparse files with data spread evenly over them, and a map of what is allocated in front.
 */
import { open, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Extent } from '@lifeboat/foundation/block-device';
import { systemRandom } from '@lifeboat/foundation/random';
import { GiB, KiB, MiB } from '@lifeboat/foundation/units';
import { type BenchOptions, type OurTime, RepositoryBench } from '../repository/repository-bench.ts';
import type { RepositoryReport, RepositoryRequest } from '../repository/repository-process.ts';
import type { Figure, Verdict } from '../series.ts';

const SIZES_GIB = [1, 10, 100, 1000];
const POINTS = [1, 100, 10_000];
/** Data of every disk, in extents of 1 MiB. */
const DATA_EXTENTS = 256;
const SEQUENTIAL_BYTES = GiB;
const SCATTERED_WRITES = 200;
const SCATTERED_BYTES = 64 * KiB;
/** Chunks compared with the disk although nothing is said to have changed there. */
const AUDIT_CHUNKS = 16;
const READS = 100;

type Range = NonNullable<Exclude<RepositoryRequest['changed'], 'all'>>[number];

export async function repositoryGrowthFigure(options: BenchOptions): Promise<Figure> {
  const bench = await RepositoryBench.open(options);
  try {
    const verdicts: Verdict[] = [];
    const rows: string[][] = [];
    for (const sizeGiB of SIZES_GIB.filter((size) => size <= 1000 * options.scale)) {
      options.say(`growth: ${sizeGiB} GiB`);
      rows.push(...(await oneSize(bench, sizeGiB, verdicts)));
    }
    const pointRows: string[][] = [];
    for (const count of POINTS.filter((points) => points <= 10_000 * options.scale)) {
      options.say(`growth: ${count} points`);
      pointRows.push(await manyPoints(bench, count, verdicts));
    }
    return {
      title: 'Growth: disks, points, and what did not change',
      method: [
        bench.placeSentence,
        `Disks: sparse files with ${DATA_EXTENTS} MiB of data in extents of 1 MiB spread evenly; the caller gives the map of what is allocated and what changed`,
        `Unchanged: a backup with an empty list of changes and ${AUDIT_CHUNKS} chunks read and compared; sequential: ${SEQUENTIAL_BYTES / MiB} MiB that do not compress, in one run; scattered: ${SCATTERED_WRITES} writes of 64 KiB at random places with data`,
        'Seconds: from the opened repository to the committed point; process: the whole process with its start. Metadata: all that grew in the store but the packs of data',
        `Reads: ${READS} of 4 KiB at random places that hold data, one after the other. Warm: one process, after as many that are not timed; cold: the repository is opened anew for each. The page cache of the machine is warm in both; over S3: versitygw on this machine, over the same files`,
      ],
      tables: [
        {
          head: ['disk', 'backup', 'seconds', 'process, s', 'PUTs', 'stored, KB', 'metadata, KB', 'peak memory, MB'],
          rows,
        },
        {
          head: [
            'points',
            'made in, s',
            'listed and read in, s',
            'peak memory, MB',
            'next backup, unchanged, s',
            'PUTs',
            'peak memory, MB',
            'objects',
          ],
          rows: pointRows,
        },
      ],
      series: [],
      verdicts,
    };
  } finally {
    await bench.close();
  }
}

async function oneSize(bench: RepositoryBench, sizeGiB: number, verdicts: Verdict[]): Promise<string[][]> {
  const directory = await bench.freshDirectory('growth');
  const imagePath = join(directory, 'disk.raw');
  const sizeBytes = Math.round(sizeGiB * GiB);
  const step = Math.floor(sizeBytes / DATA_EXTENTS / MiB) * MiB;
  const data = Array.from({ length: DATA_EXTENTS }, (_, i) => ({ offsetBytes: i * step, lengthBytes: MiB }));
  const file = await open(imagePath, 'wx');
  await file.truncate(sizeBytes);
  for (const { offsetBytes } of data) await file.write(Buffer.from(systemRandom.bytes(MiB)), 0, MiB, offsetBytes);
  const allocationPath = join(directory, 'allocation.json');
  await writeFile(allocationPath, JSON.stringify(extentsOf(data, sizeBytes)));
  const request = { directory, imagePath, allocationPath } as const;
  await bench.ours({ ...request, verb: 'init' });

  const rows: string[][] = [];
  const take = async (
    label: string,
    changed: readonly Range[] | undefined,
  ): Promise<{ time: OurTime; metadata: number }> => {
    const before = await bench.storedBytes(join(directory, 'repository'));
    const extra = changed ? { changed, auditChunks: AUDIT_CHUNKS } : {};
    const time = await bench.ours({ ...request, ...extra, verb: 'backup' });
    const stored = time.report.stats?.storedBytes ?? 0;
    const metadata = (await bench.storedBytes(join(directory, 'repository'))) - before - stored;
    const { verbMs = 0, puts = 0, peakBytes } = time.report;
    rows.push([
      `${sizeGiB} GiB`,
      label,
      (verbMs / 1000).toFixed(3),
      time.wallSeconds.toFixed(2),
      String(puts),
      (stored / 1000).toFixed(1),
      (metadata / 1000).toFixed(1),
      (peakBytes / 1e6).toFixed(0),
    ]);
    return { time, metadata };
  };
  await take('full', undefined);
  const unchanged = await take('unchanged', []);
  const scattered = Array.from({ length: SCATTERED_WRITES }, (_, i) => {
    const at = data[(i * 97) % DATA_EXTENTS]?.offsetBytes ?? 0;
    return { offsetBytes: at + (i % 16) * SCATTERED_BYTES, lengthBytes: SCATTERED_BYTES };
  });
  for (const { offsetBytes } of scattered)
    await file.write(Buffer.from(systemRandom.bytes(SCATTERED_BYTES)), 0, SCATTERED_BYTES, offsetBytes);
  const few = await take('scattered', scattered);
  const run = { offsetBytes: step - (step % MiB), lengthBytes: Math.min(SEQUENTIAL_BYTES, sizeBytes - step) };
  for (let at = 0; at < run.lengthBytes; at += MiB)
    await file.write(
      Buffer.from(systemRandom.bytes(MiB)),
      0,
      Math.min(MiB, run.lengthBytes - at),
      run.offsetBytes + at,
    );
  await writeFile(allocationPath, JSON.stringify(extentsOf([...data, run], sizeBytes)));
  const sequential = await take('sequential', [run]);
  await file.close();
  for (const overS3 of [false, true]) {
    const { wallSeconds, report } = await bench.ours({ ...request, verb: 'reads', count: READS, overS3 });
    const label = `${overS3 ? 'over S3, ' : ''}${readsSentence(report)}`;
    rows.push([`${sizeGiB} GiB`, label, '', wallSeconds.toFixed(2), '', '', '', (report.peakBytes / 1e6).toFixed(0)]);
  }
  await rm(directory, { recursive: true });

  const scatteredStored = few.time.report.stats?.storedBytes ?? Number.NaN;
  verdicts.push(
    {
      label: `${sizeGiB} GiB: unchanged`,
      value: (unchanged.time.report.verbMs ?? Number.NaN) / 1000,
      unit: 's',
      digits: 3,
      below: 1,
    },
    {
      label: `${sizeGiB} GiB: metadata of ${(run.lengthBytes / MiB).toFixed(0)} MiB in one run`,
      value: sequential.metadata / KiB,
      unit: 'KiB',
      digits: 1,
      below: 64 + (0.002 * run.lengthBytes) / KiB,
    },
    {
      label: `${sizeGiB} GiB: metadata of scattered writes, of what they stored`,
      value: (100 * few.metadata) / scatteredStored,
      unit: '%',
      digits: 2,
      below: 5,
    },
    {
      label: `${sizeGiB} GiB: PUTs per GiB of new data, beyond those of an empty backup`,
      value: ((sequential.time.report.puts ?? 0) - (unchanged.time.report.puts ?? 0)) / (run.lengthBytes / GiB),
      unit: '',
      digits: 0,
      below: 40,
    },
  );
  return rows;
}

function readsSentence({ p50Ms, p99Ms, coldP50Ms, coldP99Ms }: RepositoryReport): string {
  const both = (p50 = Number.NaN, p99 = Number.NaN): string => `p50 ${p50.toFixed(2)} ms, p99 ${p99.toFixed(2)} ms`;
  return `random reads: warm ${both(p50Ms, p99Ms)}; cold ${both(coldP50Ms, coldP99Ms)}`;
}

async function manyPoints(bench: RepositoryBench, count: number, verdicts: Verdict[]): Promise<string[]> {
  const directory = await bench.freshDirectory('points');
  const imagePath = join(directory, 'disk.raw');
  await writeFile(imagePath, Buffer.from(systemRandom.bytes(MiB)));
  const request = { directory, imagePath } as const;
  await bench.ours({ ...request, verb: 'init' });
  await bench.ours({ ...request, verb: 'backup' });
  const { wallSeconds, report } = await bench.ours({ ...request, verb: 'points', count });
  const next = await bench.ours({ ...request, verb: 'backup', changed: [] });
  const objects = await bench.countFiles(join(directory, 'repository'));
  await rm(directory, { recursive: true });
  const listed = (report.verbMs ?? 0) / 1000;
  const nextSeconds = (next.report.verbMs ?? Number.NaN) / 1000;
  verdicts.push({ label: `${count} points: unchanged`, value: nextSeconds, unit: 's', digits: 3, below: 1 });
  return [
    String(count),
    (wallSeconds - listed).toFixed(1),
    listed.toFixed(3),
    (report.peakBytes / 1e6).toFixed(0),
    nextSeconds.toFixed(3),
    String(next.report.puts ?? 0),
    (next.report.peakBytes / 1e6).toFixed(0),
    String(objects),
  ];
}

/** Sorted and joined, with holes between. */
function extentsOf(ranges: readonly Range[], sizeBytes: number): Extent[] {
  const extents: Extent[] = [];
  let at = 0;
  const append = (end: number, kind: Extent['kind']): void => {
    if (end > at) extents.push({ offsetBytes: at, lengthBytes: end - at, kind });
    at = Math.max(at, end);
  };
  for (const { offsetBytes, lengthBytes } of ranges.toSorted((a, b) => a.offsetBytes - b.offsetBytes)) {
    append(offsetBytes, 'hole');
    append(offsetBytes + lengthBytes, 'data');
  }
  append(sizeBytes, 'hole');
  return extents;
}
