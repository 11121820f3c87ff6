/**
 * Backup, restore of a part, check and collection of a disk of 100 TiB against an index of 100 million chunks in 3.3 million packs, in a
 * control group that ends what takes more memory than it may. Disk, index, listing, and a point that needs all of it, are made up; the
 * code that runs is the real one.
 */
import { mkdir, open, rmdir, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Extent } from '@lifeboat/foundation/block-device';
import { systemRandom } from '@lifeboat/foundation/random';
import { KiB, MiB } from '@lifeboat/foundation/units';
import { type BenchOptions, RepositoryBench } from '../repository/repository-bench.ts';
import type { RepositoryRequest } from '../repository/repository-process.ts';
import type { Figure, Verdict } from '../series.ts';

const LIMIT_BYTES = 512 * MiB;
const DISK_BYTES = 100 * 1024 ** 4;
const CHUNKS = 100_000_000;
const PACKS = 3_300_000;
const DEAD_PACKS = 400_000;
/** Of 512 chunks each. */
const JOURNALLED_PACKS = 10_000;
const EXTENTS = 2000;
const READS = 500;

export async function repositoryMemoryFigure(options: BenchOptions): Promise<Figure> {
  const { scale, say } = options;
  // In memory a repository would be charged to the group; the disk itself is a sparse file there, which nothing else can hold.
  const bench = await RepositoryBench.open({ ...options, directory: options.directory ?? '/var/tmp' });
  const imagePath = `/dev/shm/lifeboat-bench-100TiB-${process.pid}`;
  const group = await ControlGroup.make();
  try {
    const directory = await bench.freshDirectory('memory');
    const sizeBytes = DISK_BYTES * scale;
    const allocationPath = join(directory, 'allocation.json');
    await makeDisk({ imagePath, allocationPath, sizeBytes });
    const madeUpPacks = Math.round(PACKS * scale);
    const request: Omit<RepositoryRequest, 'verb'> = {
      directory,
      imagePath,
      allocationPath,
      madeUpPacks,
      indexDirectory: join(directory, 'index'),
    };
    await bench.ours({ ...request, verb: 'init' });
    say('memory: making up the index');
    const count = Math.round(CHUNKS * scale);
    await bench.ours({ ...request, verb: 'index', count });
    const rows: string[][] = [];
    const verdicts: Verdict[] = [];
    const measure = async (
      label: string,
      what: Partial<RepositoryRequest> & Pick<RepositoryRequest, 'verb'>,
    ): Promise<void> => {
      say(`memory: ${label}`);
      const { report } = await bench.ours({ ...request, ...what }, group.enter);
      const peakMb = report.peakBytes / 1e6;
      say(`memory: ${label}: ${peakMb.toFixed(0)} MB`);
      rows.push([label, peakMb.toFixed(0)]);
      verdicts.push({ label, value: peakMb, unit: 'MB', digits: 0, below: LIMIT_BYTES / 1e6 });
    };
    await measure('writer, full backup', { verb: 'backup' });
    await measure('writer, unchanged', { verb: 'backup', changed: [], auditChunks: 16 });
    await measure('writer, everything read and compared', { verb: 'backup', changed: 'all' });
    await measure('reader, random reads', { verb: 'reads', count: READS });
    await measure('check of the content', { verb: 'verify' });
    await measure('writer, pack set', { verb: 'packs', count: madeUpPacks });
    await measure('check of presence', { verb: 'verify', level: 'present' });
    say('memory: making up the journal');
    await bench.ours({ ...request, verb: 'journal', count: Math.round(JOURNALLED_PACKS * scale) });
    await measure('writer, goes on after a kill', { verb: 'resume' });
    const withDead = madeUpPacks + Math.round(DEAD_PACKS * scale);
    await measure('collection, mark and condemn', { verb: 'condemn', madeUpPacks: withDead });
    await measure('collection, mark again, sweep, tidy', { verb: 'sweep', madeUpPacks: withDead });
    say('memory: making up the map');
    await bench.ours({ ...request, verb: 'maps', count });
    await measure('collection, every map read, packs written anew', { verb: 'compact' });
    await measure('collection, mark again where packs were moved', { verb: 'sweep' });
    return {
      title: 'Memory at 100 TiB',
      method: [
        `A disk of ${(sizeBytes / 1024 ** 4).toFixed(1)} TiB with ${EXTENTS} extents of 64 KiB; a local index of ${count.toLocaleString('en')} chunks; ${madeUpPacks.toLocaleString('en')} packs in the listing of the store`,
        `From the pack set on: a point that needs each of those packs; a journal of ${Math.round(JOURNALLED_PACKS * 512 * scale).toLocaleString('en')} chunks; ${Math.round(DEAD_PACKS * scale).toLocaleString('en')} more packs that no point needs; at the end a point whose map names ${count.toLocaleString('en')} chunks, a half or less of each pack`,
        `Each verb as a process in a control group of ${LIMIT_BYTES / MiB} MiB, page cache included: what does not fit is killed, and the figure fails`,
      ],
      tables: [{ head: ['verb', 'peak resident, MB'], rows }],
      series: [],
      verdicts,
    };
  } finally {
    await group.remove();
    await rm(imagePath, { force: true });
    await bench.close();
  }
}

async function makeDisk(input: { imagePath: string; allocationPath: string; sizeBytes: number }): Promise<void> {
  const { imagePath, allocationPath, sizeBytes } = input;
  const file = await open(imagePath, 'wx');
  await file.truncate(sizeBytes);
  const step = Math.floor(sizeBytes / EXTENTS / MiB) * MiB;
  const extents: Extent[] = [];
  for (let i = 0; i < EXTENTS; i++) {
    const offsetBytes = i * step;
    await file.write(Buffer.from(systemRandom.bytes(64 * KiB)), 0, 64 * KiB, offsetBytes);
    const end = i === EXTENTS - 1 ? sizeBytes : offsetBytes + step;
    extents.push(
      { offsetBytes, lengthBytes: MiB, kind: 'data' },
      { offsetBytes: offsetBytes + MiB, lengthBytes: end - offsetBytes - MiB, kind: 'hole' },
    );
  }
  await file.close();
  await writeFile(allocationPath, JSON.stringify(extents));
}

/** A control group of either version, with a limit on memory. */
class ControlGroup {
  readonly #path: string;

  static async make(): Promise<ControlGroup> {
    const v1 = '/sys/fs/cgroup/memory';
    const isV1 = await stat(v1).then(
      () => true,
      () => false,
    );
    const path = join(isV1 ? v1 : '/sys/fs/cgroup', `lifeboat-bench-${process.pid}`);
    await mkdir(path);
    await writeFile(join(path, isV1 ? 'memory.limit_in_bytes' : 'memory.max'), String(LIMIT_BYTES));
    return new ControlGroup(path);
  }

  private constructor(path: string) {
    this.#path = path;
  }

  /** Shell: puts what follows into the group. */
  get enter(): string {
    return `echo $$ > ${join(this.#path, 'cgroup.procs')}; exec `;
  }

  async remove(): Promise<void> {
    await rmdir(this.#path);
  }
}
