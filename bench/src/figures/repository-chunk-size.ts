/**
 * What the size of a chunk costs and saves: three recorded traces of change, one backup after each step, and a full backup of the
 * input image. From its table the default is chosen (docs/format.md, section 11).
 */
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { KiB, MiB, TiB } from '@lifeboat/foundation/units';
import { runTool } from '@lifeboat/host/children';
import { applyStep, changeTraces, type Trace } from '../repository/change-traces.ts';
import { describeImage, type BenchOptions, RepositoryBench } from '../repository/repository-bench.ts';
import type { RepositoryReport } from '../repository/repository-process.ts';
import type { InputImage } from '../repository/input-image.ts';
import { type Figure, median } from '../series.ts';

const CHUNK_BYTES = [64 * KiB, 256 * KiB, MiB, 4 * MiB];
const READS = 300;
const COPY_LIMIT_MS = 10 * 60_000;

/** What a trace left in a repository, its steps added up but for the first backup. */
interface TraceCost {
  readonly baseBytes: number;
  readonly storedBytes: number;
  readonly metadataBytes: number;
  readonly stepStoredBytes: readonly number[];
}

interface FullCost {
  readonly bytesPerSecond: number;
  readonly dataBytes: number;
  readonly storedBytes: number;
  readonly metadataBytes: number;
  readonly objects: number;
  readonly chunks: number;
  readonly indexBytes: number;
  readonly directory: RepositoryReport;
  readonly s3: RepositoryReport;
}

export async function repositoryChunkSizeFigure(options: BenchOptions): Promise<Figure> {
  const { repeat, say, signal } = options;
  const bench = await RepositoryBench.open(options);
  try {
    const traces = await changeTraces({ cacheRoot: bench.cacheRoot, signal, say });
    const image = await bench.image();
    const costs = new Map<number, TraceCost[]>();
    const fulls = new Map<number, FullCost[]>(CHUNK_BYTES.map((chunk) => [chunk, []]));
    for (const chunkSizeBytes of CHUNK_BYTES) {
      costs.set(chunkSizeBytes, []);
      for (const trace of traces) {
        say(`${name(chunkSizeBytes)}: ${trace.label}`);
        costs.get(chunkSizeBytes)?.push(await replay(bench, trace, chunkSizeBytes));
      }
    }
    for (let round = 0; round < repeat; round++) {
      for (const chunkSizeBytes of round % 2 === 0 ? CHUNK_BYTES : CHUNK_BYTES.toReversed()) {
        say(`round ${round + 1} of ${repeat}: full backup, chunks of ${name(chunkSizeBytes)}`);
        fulls.get(chunkSizeBytes)?.push(await fullBackup(bench, image, chunkSizeBytes));
      }
    }
    const changedBytes = traces.map(({ steps }) =>
      steps.flatMap(({ changed }) => changed).reduce((sum, { lengthBytes }) => sum + lengthBytes, 0),
    );
    return {
      title: 'The size of a chunk',
      method: [
        bench.placeSentence,
        ...traces.map(
          ({ label, steps }, i) =>
            `Trace '${label}': ${steps.length} steps (${steps.map((step) => step.label).join(', ')}) that changed ${mb(changedBytes[i])} MB in ${steps.reduce((sum, { changed }) => sum + changed.length, 0)} runs of blocks of 4 KiB, recorded on a mounted ext4 file system; a backup before the first and after each`,
        ),
        'Stored and metadata: of the backups after the steps, without the first one. Metadata: all that grew in the store but the packs of data',
        `Full backup: ${describeImage(image)}; what the file system says is in use; ${repeat} rounds by turns, medians; its process with its start`,
        `Reads: ${READS} of 4 KiB at random places that hold data, of that backup, cold: the repository is opened anew for each; S3: versitygw on this machine over the same files`,
        'Per TiB: of data in use, from that full backup; index: its segments in the store',
      ],
      tables: [
        {
          head: [
            'chunk',
            ...traces.flatMap(({ label }) => [`${label}: stored, MB`, 'to changed', 'metadata, KB']),
            'all: stored, MB',
            'with the first, MB',
          ],
          rows: CHUNK_BYTES.map((chunk) => traceRow(chunk, costs.get(chunk) ?? [], changedBytes)),
        },
        {
          head: [
            'chunk',
            ...traces.map(({ label, steps }) => `${label}, MB by step: ${steps.map((step) => step.label).join(', ')}`),
          ],
          rows: CHUNK_BYTES.map((chunk) => [
            name(chunk),
            ...(costs.get(chunk) ?? []).map(({ stepStoredBytes }) =>
              stepStoredBytes.map((bytes) => mb(bytes)).join(', '),
            ),
          ]),
        },
        {
          head: [
            'chunk',
            'full backup, MB/s',
            'stored, MB',
            'metadata, KB',
            'read p50, ms',
            'p99',
            'over S3 p50, ms',
            'p99',
            'objects per TiB',
            'chunks per TiB',
            'index per TiB, MB',
          ],
          rows: CHUNK_BYTES.map((chunk) => fullRow(chunk, fulls.get(chunk) ?? [])),
        },
      ],
      series: [],
      verdicts: [],
    };
  } finally {
    await bench.close();
  }
}

async function replay(bench: RepositoryBench, trace: Trace, chunkSizeBytes: number): Promise<TraceCost> {
  const { signal } = bench.options;
  const directory = await bench.freshDirectory('trace');
  const imagePath = join(directory, 'disk.raw');
  const changedPath = join(directory, 'changed.json');
  await runTool('cp', ['--sparse=always', trace.basePath, imagePath], { timeoutMs: COPY_LIMIT_MS, signal });
  const { path: allocationPath } = await bench.allocation({ path: imagePath, sizeBytes: trace.sizeBytes });
  const request = { directory, imagePath, chunkSizeBytes } as const;
  await bench.ours({ ...request, verb: 'init' });
  const repository = join(directory, 'repository');
  await bench.ours({ ...request, allocationPath, verb: 'backup' });
  const baseBytes = await bench.storedBytes(repository);
  const stepStoredBytes: number[] = [];
  for (const step of trace.steps) {
    await applyStep(step, imagePath, signal);
    await writeFile(changedPath, JSON.stringify(step.changed));
    const { report } = await bench.ours({ ...request, changedPath, verb: 'backup' });
    stepStoredBytes.push(report.stats?.storedBytes ?? Number.NaN);
  }
  const grownBytes = (await bench.storedBytes(repository)) - baseBytes;
  await rm(directory, { recursive: true });
  const storedBytes = stepStoredBytes.reduce((sum, bytes) => sum + bytes, 0);
  return { baseBytes, storedBytes, metadataBytes: grownBytes - storedBytes, stepStoredBytes };
}

async function fullBackup(bench: RepositoryBench, image: InputImage, chunkSizeBytes: number): Promise<FullCost> {
  const directory = await bench.freshDirectory('full');
  const { path: allocationPath, allocatedBytes } = await bench.allocation(image);
  const request = { directory, imagePath: image.path, chunkSizeBytes, allocationPath } as const;
  const repository = join(directory, 'repository');
  await bench.ours({ ...request, verb: 'init' });
  const before = { bytes: await bench.storedBytes(repository), objects: await bench.countFiles(repository) };
  await bench.warm(image.path);
  const backup = await bench.ours({ ...request, verb: 'backup' });
  const { storedBytes = 0, newChunks = 0 } = backup.report.stats ?? {};
  const metadataBytes = (await bench.storedBytes(repository)) - before.bytes - storedBytes;
  const objects = (await bench.countFiles(repository)) - before.objects;
  const indexBytes = await bench.storedBytes(join(repository, 'control', 'index'));
  const { report: fromDirectory } = await bench.ours({ ...request, verb: 'reads', count: READS });
  const { report: s3 } = await bench.ours({ ...request, verb: 'reads', count: READS, overS3: true });
  await rm(directory, { recursive: true });
  return {
    bytesPerSecond: allocatedBytes / backup.wallSeconds,
    dataBytes: allocatedBytes,
    storedBytes,
    metadataBytes,
    objects,
    chunks: newChunks,
    indexBytes,
    directory: fromDirectory,
    s3,
  };
}

function traceRow(chunk: number, costs: readonly TraceCost[], changedBytes: readonly number[]): string[] {
  const sum = (pick: (cost: TraceCost) => number): number => costs.reduce((total, cost) => total + pick(cost), 0);
  return [
    name(chunk),
    ...costs.flatMap(({ storedBytes, metadataBytes }, i) => [
      mb(storedBytes),
      (storedBytes / (changedBytes[i] ?? Number.NaN)).toFixed(2),
      (metadataBytes / 1000).toFixed(0),
    ]),
    mb(sum(({ storedBytes, metadataBytes }) => storedBytes + metadataBytes)),
    mb(sum(({ baseBytes, storedBytes, metadataBytes }) => baseBytes + storedBytes + metadataBytes)),
  ];
}

function fullRow(chunk: number, costs: readonly FullCost[]): string[] {
  const of = (pick: (cost: FullCost) => number | undefined): number =>
    median(costs.map((cost) => pick(cost) ?? Number.NaN));
  const perTiB = (pick: (cost: FullCost) => number): number => of((cost) => (pick(cost) * TiB) / cost.dataBytes);
  return [
    name(chunk),
    (of(({ bytesPerSecond }) => bytesPerSecond) / 1e6).toFixed(0),
    mb(of(({ storedBytes }) => storedBytes)),
    (of(({ metadataBytes }) => metadataBytes) / 1000).toFixed(0),
    of(({ directory }) => directory.coldP50Ms).toFixed(2),
    of(({ directory }) => directory.coldP99Ms).toFixed(2),
    of(({ s3 }) => s3.coldP50Ms).toFixed(2),
    of(({ s3 }) => s3.coldP99Ms).toFixed(2),
    perTiB(({ objects }) => objects).toFixed(0),
    perTiB(({ chunks }) => chunks).toFixed(0),
    (perTiB(({ indexBytes }) => indexBytes) / 1e6).toFixed(0),
  ];
}

function name(chunkSizeBytes: number): string {
  return chunkSizeBytes < MiB ? `${chunkSizeBytes / KiB} KiB` : `${chunkSizeBytes / MiB} MiB`;
}

function mb(bytes = Number.NaN): string {
  return (bytes / 1e6).toFixed(1);
}
