/** What the figures of the repository share: the input, a place to work, and how a command is timed there. */
import { mkdir, open, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { formatBytes, GiB, KiB, MiB } from '@lifeboat/foundation/units';
import { runTool } from '@lifeboat/host/children';
import { ensureFree, freeBytes } from '@lifeboat/host/disk-space';
import { loadConfiguration } from '@lifeboat/runtime/configuration';
import { timeTool, type ToolTime } from '../timed-tool.ts';
import { allocatedExtents, inputImage, type InputImage } from './input-image.ts';
import type { RepositoryReport, RepositoryRequest } from './repository-process.ts';

const PROCESS = fileURLToPath(new URL('./repository-process.ts', import.meta.url));
const LIMIT_MS = 60 * 60_000;
const READ_BYTES = 8 * MiB;
/** Largest side: a repository of 0.48 of the image, what is restored from it, 0.72; and a reserve. */
const WORK_SHARE = 1.3;
const RESERVE_BYTES = 2 * GiB;
const MEMORY = '/dev/shm';
const DIRECTORY = 'lifeboat-bench-repository-';

export interface BenchOptions {
  readonly repeat: number;
  readonly scale: number;
  /** Where repositories are made; memory where there is enough of it, unless given. */
  readonly directory: string | undefined;
  readonly signal: AbortSignal;
  readonly say: (text: string) => void;
}

export interface OurTime extends ToolTime {
  readonly report: RepositoryReport;
}

export class RepositoryBench {
  readonly options: BenchOptions;
  readonly cacheRoot: string;
  readonly stateRoot: string;
  /** Removed at the end. */
  readonly directory: string;
  readonly inMemory: boolean;

  static async open(options: BenchOptions): Promise<RepositoryBench> {
    const { cacheRoot, stateRoot } = loadConfiguration();
    const neededBytes = WORK_SHARE * options.scale * 10 * GiB + RESERVE_BYTES;
    const fitsMemory =
      (await availableMemory()) > neededBytes + options.scale * 10 * GiB && (await freeBytes(MEMORY)) > neededBytes;
    const parent = options.directory ?? (fitsMemory ? MEMORY : stateRoot);
    await mkdir(parent, { recursive: true });
    await ensureFree(parent, neededBytes, 'this benchmark');
    await removeLeftovers(parent);
    const directory = join(parent, `${DIRECTORY}${process.pid}`);
    await mkdir(directory);
    return new RepositoryBench({ options, cacheRoot, stateRoot, directory, inMemory: parent === MEMORY });
  }

  private constructor(input: {
    options: BenchOptions;
    cacheRoot: string;
    stateRoot: string;
    directory: string;
    inMemory: boolean;
  }) {
    this.options = input.options;
    this.cacheRoot = input.cacheRoot;
    this.stateRoot = input.stateRoot;
    this.directory = input.directory;
    this.inMemory = input.inMemory;
  }

  get placeSentence(): string {
    return this.inMemory
      ? 'Repositories and restored disks of all sides lie in memory (tmpfs): the processors are measured, not the disk of this machine'
      : `Repositories and restored disks of all sides lie in ${this.directory}; each measurement ends with \`sync\` of that file system`;
  }

  image(): Promise<InputImage> {
    const { scale, signal, say } = this.options;
    return inputImage({ cacheRoot: this.cacheRoot, scale, signal, say });
  }

  /** The extents in use, as a file for our process, and how much they hold. */
  async allocation(image: Pick<InputImage, 'path' | 'sizeBytes'>): Promise<{ path: string; allocatedBytes: number }> {
    const extents = await allocatedExtents(image, this.options.signal);
    const path = join(this.directory, 'allocation.json');
    await writeFile(path, JSON.stringify(extents));
    const data = extents.filter(({ kind }) => kind === 'data');
    return { path, allocatedBytes: data.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0) };
  }

  /** Reads the file once, so that the page cache holds it for whoever comes next. */
  async warm(path: string): Promise<void> {
    const file = await open(path, 'r');
    try {
      const piece = Buffer.allocUnsafeSlow(READ_BYTES);
      for (let bytesRead = 1; bytesRead > 0;) {
        this.options.signal.throwIfAborted();
        ({ bytesRead } = await file.read(piece, 0, piece.length, null));
      }
    } finally {
      await file.close();
    }
  }

  /** Takes the file out of the page cache, so that nobody who needs memory has to take it from there, page by page. */
  async forget(path: string): Promise<void> {
    await runTool('dd', [`if=${path}`, 'iflag=nocache', 'count=0', 'status=none'], {
      timeoutMs: LIMIT_MS,
      signal: this.options.signal,
    });
  }

  async freshDirectory(name: string): Promise<string> {
    const path = join(this.directory, name);
    await rm(path, { recursive: true, force: true });
    await mkdir(path, { recursive: true });
    return path;
  }

  /** Wall clock and CPU time of a shell command, what it wrote durable. */
  time(script: string, env: Readonly<Record<string, string>> = {}): Promise<ToolTime> {
    const durable = this.inMemory ? script : `${script}\nsync -f ${quote(this.directory)}`;
    return timeTool(
      ['env', ...Object.entries(env).map(([key, value]) => `${key}=${value}`), 'bash', '-ec', durable],
      this.options.signal,
    );
  }

  /** Our own process, timed in the same way. `under`: a shell command that comes before it and ends with `exec` or `&&`. */
  async ours(request: RepositoryRequest, under = ''): Promise<OurTime> {
    const reportPath = join(this.directory, 'report.json');
    const command = [process.execPath, PROCESS, JSON.stringify(request)].map(quote).join(' ');
    const time = await this.time(`${under}${command} > ${quote(reportPath)}`);
    return { ...time, report: JSON.parse(await readFile(reportPath, 'utf8')) as RepositoryReport };
  }

  async storedBytes(directory: string): Promise<number> {
    const { stdout } = await runTool('du', ['-s', '--apparent-size', '-B1', directory], {
      timeoutMs: LIMIT_MS,
      signal: this.options.signal,
    });
    return Number(stdout.split('\t')[0]);
  }

  async countFiles(directory: string): Promise<number> {
    const { stdout } = await runTool('sh', ['-c', 'find "$0" -type f | wc -l', directory], {
      timeoutMs: LIMIT_MS,
      signal: this.options.signal,
    });
    return Number(stdout);
  }

  async close(): Promise<void> {
    await rm(this.directory, { recursive: true, force: true });
  }
}

/** What runs that were killed left; one that is still at work keeps its own. */
async function removeLeftovers(parent: string): Promise<void> {
  const alive = new Set(await readdir('/proc'));
  for (const name of await readdir(parent)) {
    if (!name.startsWith(DIRECTORY) || alive.has(name.slice(DIRECTORY.length))) continue;
    await rm(join(parent, name), { recursive: true, force: true });
  }
}

function quote(word: string): string {
  return `'${word.replaceAll("'", String.raw`'\''`)}'`;
}

async function availableMemory(): Promise<number> {
  const kibibytes = /^MemAvailable:\s+(\d+) kB$/m.exec(await readFile('/proc/meminfo', 'utf8'))?.[1];
  return Number(kibibytes ?? 0) * KiB;
}

export function describeImage(image: InputImage): string {
  return `Input: an ext4 image of ${formatBytes(image.sizeBytes)}: real files (libraries, programs, sources), 15 % of them incompressible, deleted junk, untouched space; read from the page cache`;
}
