/**
 * The disk that the figures of the repository are taken with: an ext4 image, built once and kept in the cache.
 *
 *   files          real ones of this machine (libraries, programs, sources), a sample by the hash of the path, so that a small
 *                  scale holds the same mix as a large one; and 15 % that does not compress
 *   deleted junk   more such files, removed again from the finished file system: their blocks are free and keep their bytes
 *   the rest       never written: holes of the image file
 *
 * Nothing is mounted: `mke2fs -d` fills the file system, `debugfs` removes the junk.
 */
import { createCipheriv, createHash } from 'node:crypto';
import { copyFile, mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Extent } from '@lifeboat/foundation/block-device';
import { systemCode } from '@lifeboat/foundation/errors';
import { formatBytes, GiB, KiB, MiB } from '@lifeboat/foundation/units';
import { runTool } from '@lifeboat/host/children';
import { ensureFree } from '@lifeboat/host/disk-space';

/** Of what is built here; another number is another image. */
const INPUT_VERSION = 1;
const IMAGE_BYTES = 10 * GiB;
const FILE_BYTES = 5.1 * GiB;
const INCOMPRESSIBLE_BYTES = 0.9 * GiB;
const JUNK_BYTES = 1.5 * GiB;
const BLOCK_BYTES = 4 * KiB;
/** Inodes of the whole image: twice its files. */
const INODES = 600_000;
const NOISE_FILE_BYTES = 8 * MiB;
const ROOTS = ['/usr', '/opt', '/root/go/pkg/mod', '/root/.rustup', '/home'];
/** One file must not decide the mix. */
const MAX_FILE_BYTES = 256 * MiB;
const BUILD_TIMEOUT_MS = 30 * 60_000;

export interface InputImage {
  /** Holds the image and nothing else, for programs that back up directories. */
  readonly directory: string;
  readonly path: string;
  readonly sizeBytes: number;
}

/** Errors: `disk.full`, `host.tool-failed`. */
export async function inputImage(input: {
  cacheRoot: string;
  scale: number;
  signal: AbortSignal;
  say: (text: string) => void;
}): Promise<InputImage> {
  const { scale, signal, say } = input;
  const parent = join(input.cacheRoot, 'bench');
  const directory = join(parent, `input-v${INPUT_VERSION}-x${scale}`);
  const path = join(directory, 'disk.raw');
  const sizeBytes = Math.round((IMAGE_BYTES * scale) / MiB) * MiB;
  if (await isThere(path)) return { directory, path, sizeBytes };

  await mkdir(parent, { recursive: true });
  await ensureFree(parent, 2 * (FILE_BYTES + INCOMPRESSIBLE_BYTES + JUNK_BYTES) * scale, 'building the input image');
  const scratch = `${directory}.new-${process.pid}`;
  await rm(scratch, { recursive: true, force: true });
  try {
    say('input image: choosing files');
    const files = await sampleOrder(signal);
    const kept = takeBytes(files, FILE_BYTES * scale);
    const junk = takeBytes(files.slice(kept.length), JUNK_BYTES * scale);
    say(`input image: copying ${kept.length} files and ${junk.length} that are deleted again`);
    const tree = join(scratch, 'tree');
    for (const { path: from } of kept) await copyInto(from, join(tree, 'files', from), signal);
    const junkNames = junk.map((_, i) => `junk-${i}`);
    for (const [i, { path: from }] of junk.entries()) await copyInto(from, join(tree, 'junk', `junk-${i}`), signal);
    await writeNoise(join(tree, 'noise'), INCOMPRESSIBLE_BYTES * scale, signal);
    say(`input image: making a file system of ${formatBytes(sizeBytes)}`);
    const image = join(scratch, 'image', 'disk.raw');
    await mkdir(join(scratch, 'image'));
    const file = await open(image, 'wx');
    await file.truncate(sizeBytes);
    await file.close();
    await runTool(
      'mke2fs',
      [
        '-q',
        '-F',
        '-t',
        'ext4',
        '-b',
        String(BLOCK_BYTES),
        '-N',
        String(Math.round(INODES * scale)),
        '-m',
        '0',
        '-d',
        tree,
        image,
      ],
      {
        timeoutMs: BUILD_TIMEOUT_MS,
        signal,
      },
    );
    await runTool('debugfs', ['-w', '-f', '-', image], {
      timeoutMs: BUILD_TIMEOUT_MS,
      signal,
      stdin: junkNames.map((name) => `rm /junk/${name}\n`).join(''),
      maxOutputBytes: 64 * MiB,
    });
    await rename(join(scratch, 'image'), directory);
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
  return { directory, path, sizeBytes };
}

/** What the file system says is in use, as the map that a caller puts in front of a backup. */
export async function allocatedExtents(
  image: Pick<InputImage, 'path' | 'sizeBytes'>,
  signal: AbortSignal,
): Promise<Extent[]> {
  const { stdout } = await runTool('dumpe2fs', [image.path], {
    timeoutMs: BUILD_TIMEOUT_MS,
    signal,
    maxOutputBytes: 256 * MiB,
  });
  const extents: Extent[] = [];
  let at = 0;
  const append = (end: number, kind: Extent['kind']): void => {
    if (end > at) extents.push({ offsetBytes: at, lengthBytes: end - at, kind });
    at = Math.max(at, end);
  };
  // One line a group, in order: "  Free blocks: 1017-32767, 40000".
  for (const [, list = ''] of stdout.matchAll(/^ {2}Free blocks: (.*)$/gm)) {
    for (const [, first = '', last] of list.matchAll(/(\d+)(?:-(\d+))?/g)) {
      append(Number(first) * BLOCK_BYTES, 'data');
      append((Number(last ?? first) + 1) * BLOCK_BYTES, 'hole');
    }
  }
  append(image.sizeBytes, 'data');
  return extents;
}

interface SampleFile {
  readonly path: string;
  readonly sizeBytes: number;
}

async function sampleOrder(signal: AbortSignal): Promise<SampleFile[]> {
  const found: (SampleFile & { order: string })[] = [];
  for (const root of ROOTS) {
    const pending = [root];
    for (let directory = pending.pop(); directory !== undefined; directory = pending.pop()) {
      signal.throwIfAborted();
      for (const entry of await entriesOf(directory)) {
        const path = join(directory, entry.name);
        if (entry.isDirectory()) pending.push(path);
        else if (entry.isFile()) {
          const sizeBytes = (await stat(path).catch(() => undefined))?.size ?? 0; // removed since the listing
          if (sizeBytes === 0 || sizeBytes > MAX_FILE_BYTES) continue;
          found.push({ path, sizeBytes, order: createHash('sha1').update(path).digest('hex') });
        }
      }
    }
  }
  return found.toSorted((a, b) => (a.order < b.order ? -1 : 1));
}

async function entriesOf(directory: string): Promise<import('node:fs').Dirent[]> {
  try {
    return await readdir(directory, { withFileTypes: true });
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return [];
    throw error;
  }
}

function takeBytes(files: readonly SampleFile[], limitBytes: number): SampleFile[] {
  let bytes = 0;
  return files.filter((_, i) => {
    if (bytes >= limitBytes) return false;
    bytes += files[i]?.sizeBytes ?? 0;
    return true;
  });
}

async function copyInto(from: string, to: string, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  await mkdir(join(to, '..'), { recursive: true });
  try {
    await copyFile(from, to);
  } catch (error) {
    // Packages come and go while this runs.
    if (systemCode(error) !== 'ENOENT') throw error;
  }
}

/** The key stream of AES: the same bytes each time, and none of them to be compressed. */
async function writeNoise(directory: string, bytes: number, signal: AbortSignal): Promise<void> {
  await mkdir(directory, { recursive: true });
  const stream = createCipheriv('aes-128-ctr', Buffer.alloc(16, 1), Buffer.alloc(16));
  const zeros = Buffer.alloc(NOISE_FILE_BYTES);
  for (let at = 0; at < bytes; at += NOISE_FILE_BYTES) {
    signal.throwIfAborted();
    const file = await open(join(directory, `noise-${at / NOISE_FILE_BYTES}`), 'wx');
    await file.write(stream.update(zeros));
    await file.close();
  }
}

async function isThere(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return false;
    throw error;
  }
}
