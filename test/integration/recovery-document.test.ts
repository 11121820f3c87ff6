/**
 * docs/recovery.md, followed word for word: its commands and its program, Debian's python with its cryptography package, zstd, and
 * nothing of ours. What it reads was written by our own writer.
 */
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { copyFileSync, cpSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';

import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { packOfObject, PACKS, packObject, type PackName } from '@lifeboat/repository/format/names';
import { decodePackHeader, kindOf } from '@lifeboat/repository/format/pack';
import { initRepository, type Repository } from '@lifeboat/repository/repository';
import { DirectoryStore } from '@lifeboat/repository/store/directory-store';
import { fileSource } from '@lifeboat/repository/testing/file-source';
import { movePack } from '@lifeboat/repository/testing/move-pack';
import { CHEAP_SCRYPT, MACHINE, PASSPHRASE, pointId, Scratch } from '@lifeboat/repository/testing/tiny';

import { FIXTURE, readJson, waysIn, type Expected } from '../format-vectors/fixture.ts';
import { PASSPHRASE as VECTOR_PASSPHRASE, SECOND_PASSPHRASE } from '../format-vectors/scenario.ts';

const run = promisify(execFile);
const page = join(import.meta.dirname, '../../docs/recovery.md');
const scratch = new Scratch();
afterAll(() => scratch.remove());
const CHUNK = 64 * 1024;
const signal = new AbortController().signal;

/** Text, noise, zeros, and an end within a chunk: more than one leaf of the map, and more than one pack. */
function disk(): Buffer {
  const parts = [
    Buffer.from('A boot sector, and text that compresses. '.repeat(20_000)),
    randomBytes(40 * CHUNK),
    Buffer.alloc(30 * CHUNK),
    randomBytes(50 * CHUNK + 1234),
  ];
  return Buffer.concat(parts);
}

const first = disk();
const second = Buffer.concat([first.subarray(0, 20 * CHUNK), randomBytes(CHUNK), first.subarray(21 * CHUNK)]);

interface Stored {
  readonly directory: string;
  readonly repository: Repository;
}

/** Two points of one machine: a full one and an incremental; a second disk that was never written to. */
async function backUp(secret: { passphrase: string } | { keyFile: string }): Promise<Stored> {
  const directory = scratch.directory();
  const repository = await initRepository({
    store: new DirectoryStore(directory),
    secret,
    chunkSizeBytes: CHUNK,
    scryptCost: CHEAP_SCRYPT,
    deps: {
      writerLimits: {
        stripeChunks: 4,
        packBytes: 16 * CHUNK,
        spareBuffers: 1,
        waitingLeaves: 8,
        pagePackBytes: 4 * CHUNK,
      },
    },
  });
  let parent;
  for (const [n, content] of [first, second].entries()) {
    const session = await repository.beginSession({ machineId: MACHINE, directory: scratch.directory() });
    const request = { name: 'vda', sizeBytes: content.length, source: fileSource(scratch.file(content)) };
    const { root } = await session.writeDisk({ ...request, changed: 'all', parent }, { signal });
    parent = root;
    const empty = await session.writeDisk(
      {
        name: 'vdb',
        sizeBytes: 3 * CHUNK,
        source: fileSource(scratch.file(Buffer.alloc(3 * CHUNK))),
        changed: 'all',
        allocation: [{ offsetBytes: 0, lengthBytes: 3 * CHUNK, kind: 'hole' }],
      },
      { signal },
    );
    await session.commit({
      pointId: pointId(n + 1),
      machine: { name: 'web', firmware: 'bios' },
      capture: { consistency: 'crash' },
      disks: [
        { name: 'vda', root },
        { name: 'vdb', root: empty.root },
      ],
      files: [{ name: 'domain.xml', content: Buffer.from('<domain/>') }],
    });
  }
  return { directory, repository };
}

/** The page's commands, with its first block, which says where things are, filled in. */
function commands(where: Record<string, string>): string {
  const blocks = [...readFileSync(page, 'utf8').matchAll(/^```sh\n(.*?)^```$/gms)].map(([, block = '']) => block);
  const [assignments = '', ...steps] = blocks;
  const filled = assignments.replaceAll(/^(\w+)=.*$/gm, (_, name: string) => `${name}='${where[name] ?? ''}'`);
  return [filled, ...steps].join('\n');
}

async function shell(script: string, directory: string, env: Record<string, string> = {}): Promise<string> {
  const options = { cwd: directory, env: { PATH: '/usr/bin:/bin', ...env }, maxBuffer: 1 << 24 };
  const { stdout } = await run('/bin/sh', ['-euc', script], options);
  return stdout;
}

const program = `sed -n '/^\`\`\`python$/,/^\`\`\`$/p' '${page}' | sed '1d;$d' > recover.py`;

describe('the page on recovery', () => {
  const keyFile = join(scratch.path, 'repository.key');
  let stored: Stored;
  beforeAll(async () => {
    stored = await backUp({ keyFile });
  });
  afterAll(() => stored.repository.close());

  test.each([
    [1, first],
    [2, second],
  ])('gives disk and files of point %i, step by step', async (n, content) => {
    const work = scratch.directory();
    const where = { PAGE: page, REPOSITORY: stored.directory, KEY: keyFile, MACHINE, POINT: pointId(n), DISK: 'vda' };
    const output = await shell(commands(where), work);
    expect(output).toContain(`${MACHINE} ${pointId(1)} vda:${first.length} vdb:${3 * CHUNK}\n`);
    expect(output).toContain(`${MACHINE} ${pointId(2)} vda:`);
    expect(output).toContain('"firmware": "bios"');
    expect(output).toContain(`disk.raw: ${content.length} bytes, 0 of them lost`);
    expect(Buffer.compare(readFileSync(join(work, 'disk.raw')), content)).toBe(0);
    // Sparse where nothing was stored.
    expect(statSync(join(work, 'disk.raw')).blocks * 512).toBeLessThan(content.length - 20 * CHUNK);
    expect(readFileSync(join(work, 'machine-files/domain.xml'), 'utf8')).toBe('<domain/>');
  });

  test('gives a disk that was never written to, and checks ids with a BLAKE3 of somebody else', async () => {
    const work = scratch.directory();
    const recover = `python3 recover.py '${stored.directory}' --key-file '${keyFile}' disk ${MACHINE} ${pointId(2)}`;
    await shell(`${program}\n${recover} vdb vdb.raw\n${recover} vda vda.raw --ids`, work);
    expect(Buffer.compare(readFileSync(join(work, 'vdb.raw')), Buffer.alloc(3 * CHUNK))).toBe(0);
    expect(Buffer.compare(readFileSync(join(work, 'vda.raw')), second)).toBe(0);
  });
});

describe('the program on the page', () => {
  test('reads the kept repository of this format by every way in that it knows, also through a relocation', async () => {
    const kept = scratch.directory();
    cpSync(join(FIXTURE, 'repository'), kept, { recursive: true });
    const expected = readJson('expected.json') as Expected;
    rmSync(join(kept, packObject(expected.movedPack as PackName)));
    const local = scratch.directory();
    waysIn(local);
    const work = scratch.directory();
    const ways = [`--key-file '${local}/repository.key'`, `--paper-file '${local}/paper.txt'`, ''];
    const disks = expected.disks.filter(({ tenant }) => tenant === 'default');
    const listed = [...Map.groupBy(disks, ({ machineId, pointId }) => `${machineId} ${pointId}`)]
      .map(([point, of]) => `${point} ${of.map(({ disk, sizeBytes }) => `${disk}:${sizeBytes}`).join(' ')}\n`)
      .toSorted()
      .join('');
    const keyed = { LIFEBOAT_PASSPHRASE: VECTOR_PASSPHRASE };
    for (const way of ways)
      expect(await shell(`${program}\npython3 recover.py '${kept}' ${way} list`, work, keyed)).toBe(listed);
    for (const { tenant, machineId, pointId, disk, sha256 } of expected.disks) {
      const passphrase = tenant === 'default' ? VECTOR_PASSPHRASE : SECOND_PASSPHRASE;
      const recover = `python3 recover.py '${kept}' disk ${machineId} ${pointId} ${disk} disk.raw`;
      const output = await shell(`${recover} --ids\nsha256sum < disk.raw\nrm disk.raw`, work, {
        LIFEBOAT_PASSPHRASE: passphrase,
      });
      expect(output).toContain(sha256);
    }
  });

  test('refuses points of a revoked agent that no revocation names', async () => {
    const kept = scratch.directory();
    cpSync(join(FIXTURE, 'repository'), kept, { recursive: true });
    const work = scratch.directory();
    const list = `${program}\npython3 recover.py '${kept}' list`;
    const keyed = { LIFEBOAT_PASSPHRASE: VECTOR_PASSPHRASE };
    expect(await shell(list, work, keyed)).not.toContain('DAMAGED');
    const agents = join(kept, 'data/agents');
    const revocations = readdirSync(agents, { recursive: true, encoding: 'utf8' }).filter((name) =>
      /revoked-/.test(name),
    );
    const [first = '', second = ''] = revocations;
    // With one of the two the other's list is enough; a name without a tag is nobody's.
    writeFileSync(join(agents, first), 'x');
    writeFileSync(join(agents, `${dirname(first)}/revoked-0123456789abcdef`), 'x');
    expect(await shell(list, work, keyed)).not.toContain('DAMAGED');
    writeFileSync(join(agents, second), 'x');
    const output = await shell(list, work, keyed);
    expect(output.match(/^mail .* DAMAGED: agent mail host was revoked/gm)).toHaveLength(2);
    expect(output.match(/DAMAGED/g)).toHaveLength(2);
  });

  test('opens with what was typed from a printed page, and names the line of a typing error', async () => {
    const { directory, repository } = await backUp({ passphrase: PASSPHRASE });
    const { lines } = await repository.keys.print({ label: 'safe' });
    await repository.close();
    const work = scratch.directory();
    const list = `python3 recover.py '${directory}' --paper-file paper.txt list`;
    writeFileSync(join(work, 'paper.txt'), lines.join('\n').toLowerCase().replaceAll('0', 'O').replaceAll('-', ' '));
    expect(await shell(`${program}\n${list}`, work)).toContain(`${MACHINE} ${pointId(2)} vda:`);
    const [first = '', second = '', ...rest] = lines;
    writeFileSync(join(work, 'paper.txt'), [first, second.slice(0, -1), ...rest].join('\n'));
    await expect(shell(list, work)).rejects.toMatchObject({ stderr: expect.stringContaining('line 2') as string });
    const last = second.endsWith('Z') ? 'Y' : 'Z';
    writeFileSync(join(work, 'paper.txt'), [first, second.slice(0, -1) + last, ...rest].join('\n'));
    await expect(shell(list, work)).rejects.toMatchObject({ stderr: expect.stringContaining('line 2') as string });
  });

  const env = { LIFEBOAT_PASSPHRASE: PASSPHRASE };

  test('follows relocations of chunks and of pages', async () => {
    const { directory, repository } = await backUp({ passphrase: PASSPHRASE });
    for await (const { name } of repository.core.store.list(PACKS)) {
      const pack = packOfObject(name);
      if (!pack) continue;
      const next = await movePack(repository, pack);
      rmSync(join(directory, name));
      await movePack(repository, next);
      rmSync(join(directory, packObject(next)));
    }
    await repository.close();
    const work = scratch.directory();
    await shell(`${program}\npython3 recover.py '${directory}' disk ${MACHINE} ${pointId(2)} vda disk.raw`, work, env);
    expect(Buffer.compare(readFileSync(join(work, 'disk.raw')), second)).toBe(0);
  });

  test('names what is lost, and gives the rest', async () => {
    const { directory, repository } = await backUp({ passphrase: PASSPHRASE });
    const packs: { pack: PackName; sizeBytes: number }[] = [];
    for await (const { name, sizeBytes } of repository.core.store.list(PACKS)) {
      const pack = packOfObject(name);
      if (pack && kindOf(decodePackHeader(readFileSync(join(directory, name)), name).header) === 'data')
        packs.push({ pack, sizeBytes });
    }
    // Full packs are of the first point: the second added a single chunk.
    const [flipped = '', gone = ''] = packs.toSorted((a, b) => b.sizeBytes - a.sizeBytes).map(({ pack }) => pack);
    const path = join(directory, packObject(flipped as PackName));
    const bytes = readFileSync(path);
    // In the first blob, which follows the header.
    bytes[1500] = (bytes[1500] ?? 0) ^ 1;
    writeFileSync(path, bytes);
    rmSync(join(directory, packObject(gone as PackName)));
    await repository.close();
    const work = scratch.directory();
    const recover = `${program}\npython3 recover.py '${directory}' disk ${MACHINE} ${pointId(1)} vda disk.raw`;
    const failed = (await shell(recover, work, env).catch((error: unknown) => error)) as {
      code: number;
      stderr: string;
    };
    expect(failed.code).toBe(1);
    const lost = [...failed.stderr.matchAll(/^LOST (\d+) bytes at (\d+)/gm)].map(([, length, offset]) => ({
      offset: Number(offset),
      length: Number(length),
    }));
    expect(lost.length).toBeGreaterThan(1);
    const expected = Buffer.from(first);
    for (const { offset, length } of lost) expected.fill(0, offset, offset + length);
    expect(Buffer.compare(readFileSync(join(work, 'disk.raw')), expected)).toBe(0);
  });

  test('refuses a wrong secret, a forged point and a point in the wrong place', async () => {
    const { directory, repository } = await backUp({ passphrase: PASSPHRASE });
    await repository.close();
    const work = scratch.directory();
    const list = `${program}\npython3 recover.py '${directory}' list`;
    await expect(shell(list, work, { LIFEBOAT_PASSPHRASE: 'wrong' })).rejects.toMatchObject({ code: 1 });
    const points = join(directory, 'data/points', MACHINE);
    const name = pointId(2);
    const bytes = readFileSync(join(points, name));
    bytes[300] = (bytes[300] ?? 0) ^ 1;
    writeFileSync(join(points, name), bytes);
    const elsewhere = join(directory, 'data/points/machine-2');
    mkdirSync(elsewhere);
    copyFileSync(join(points, pointId(1)), join(elsewhere, pointId(1)));
    const output = await shell(list, work, env);
    expect(output).toContain(`${MACHINE} ${pointId(1)} vda:`);
    expect(output).toContain(`${MACHINE} ${name} DAMAGED`);
    expect(output).toContain(`machine-2 ${pointId(1)} DAMAGED: it is another point`);
    expect(readdirSync(work)).toEqual(['recover.py']);
  });
});
