import { appendFile, readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { afterAll, afterEach, describe, expect, test } from 'vitest';

import { LifeboatError } from '@lifeboat/foundation/errors';
import { parseMachineId } from '@lifeboat/foundation/ids';

import { settleSession } from '../collect/session-end.ts';
import { MAX_POINT_BYTES } from '../format/limits.ts';
import { INDEX, PACKS, POINTS } from '../format/names.ts';
import type { Repository } from '../repository.ts';
import { DirectoryStore } from '../store/directory-store.ts';
import { nodeFiles, type Files } from '../store/files.ts';
import { MemoryStore } from '../store/memory-store.ts';
import type { StoreOptions } from '../store/object-store.ts';
import { fileSource } from '../testing/file-source.ts';
import { noise, noisyDisk, readDisk } from '../testing/disks.ts';
import { initTiny, MACHINE, pointId, Scratch, TINY_CHUNK } from '../testing/tiny.ts';
import { inlineSealer } from './inline-sealer.ts';
import { zstd } from '../seal/codec.ts';
import type { WriterSession } from './session.ts';
import { threadSealer } from './thread-sealer.ts';

const scratch = new Scratch();
afterAll(() => scratch.remove());
const signal = new AbortController().signal;

const namesUnder = (store: MemoryStore, prefix: string): string[] =>
  [...store.objects.keys()].filter((name) => name.startsWith(prefix));

const sessions: WriterSession[] = [];
afterEach(async () => {
  for (const session of sessions.splice(0)) await session.detach();
});

async function begin(repository: Repository, directory = scratch.directory()): Promise<WriterSession> {
  const session = await repository.beginSession({ machineId: MACHINE, directory });
  sessions.push(session);
  return session;
}

async function write(
  session: WriterSession,
  content: Uint8Array,
  abort = signal,
): ReturnType<WriterSession['writeDisk']> {
  const source = fileSource(scratch.file(content));
  return session.writeDisk({ name: 'vda', sizeBytes: content.length, source, changed: 'all' }, { signal: abort });
}

const commitInput = (n: number, root: Awaited<ReturnType<WriterSession['writeDisk']>>['root']) => ({
  pointId: pointId(n),
  machine: { name: 'web', disks: 1 },
  capture: { method: 'test' },
  disks: [{ name: 'vda', root, info: { bus: 'sata' } }],
  files: [{ name: 'domain.xml', content: Buffer.from('<domain/>') }],
});

describe('a commit', () => {
  test('makes visible what was captured, with its files, and only then', async () => {
    const store = new MemoryStore();
    const repository = await initTiny(store);
    const session = await begin(repository);
    const { root } = await write(session, noisyDisk(20));
    expect(await repository.points()).toEqual([]);
    await session.commit(commitInput(1, root));
    const [summary] = await repository.points(MACHINE);
    expect(summary).toMatchObject({
      state: 'readable',
      machine: { name: 'web' },
      previous: 'none',
      sessionId: session.sessionId,
    });
    const point = await repository.readPoint(MACHINE, pointId(1));
    expect(point.files.map(({ name, content }) => [name, Buffer.from(content).toString()])).toEqual([
      ['domain.xml', '<domain/>'],
    ]);
    expect(point.disks).toEqual([{ name: 'vda', root, info: { bus: 'sata' } }]);
  });

  test('links to the point before, and says when that one was replaced or is gone', async () => {
    const store = new MemoryStore();
    const repository = await initTiny(store);
    for (const n of [1, 2, 3]) {
      const session = await begin(repository);
      await session.commit(commitInput(n, (await write(session, noisyDisk(5, n))).root));
    }
    const links = async (): Promise<string[]> =>
      (await repository.points(MACHINE)).map((point) => (point.state === 'readable' ? point.previous : point.state));
    expect(await links()).toEqual(['none', 'linked', 'linked']);
    store.objects.delete(`${POINTS}${MACHINE}/${pointId(2)}`);
    expect(await links()).toEqual(['none', 'missing']);
  });

  test('may be repeated: by the same session directory, with the same input', async () => {
    const store = new MemoryStore();
    const repository = await initTiny(store);
    const directory = scratch.directory();
    const session = await begin(repository, directory);
    const { root } = await write(session, noisyDisk(9));
    const first = await session.commit(commitInput(1, root));
    const again = await (await begin(repository, directory)).commit(commitInput(1, root));
    expect(again.hash).toBe(first.hash);
    expect(namesUnder(store, POINTS)).toHaveLength(1);
  });

  test('does not replace another point of its name', async () => {
    const store = new MemoryStore();
    const repository = await initTiny(store);
    const one = await begin(repository);
    await one.commit(commitInput(1, (await write(one, noisyDisk(9))).root));
    const before = store.objects.get(`${POINTS}${MACHINE}/${pointId(1)}`);
    const two = await begin(repository);
    const other = commitInput(1, (await write(two, noisyDisk(9, 4))).root);
    await expect(two.commit(other)).rejects.toMatchObject({ code: 'repository.point-exists' });
    expect(store.objects.get(`${POINTS}${MACHINE}/${pointId(1)}`)).toBe(before);
  });

  test('whose reply was lost puts again, looks what is there, and succeeds', async () => {
    const store = new (class extends MemoryStore {
      lost = 0;
      override async putIfAbsent(name: string, parts: readonly Uint8Array[], options?: StoreOptions) {
        const outcome = await super.putIfAbsent(name, parts, options);
        if (name.startsWith(POINTS) && this.lost++ === 0)
          throw new LifeboatError('repository.store-failed', 'connection reset');
        return outcome;
      }
    })();
    const repository = await initTiny(store);
    const session = await begin(repository);
    const point = await session.commit(commitInput(1, (await write(session, noisyDisk(9))).root));
    expect((await repository.readPoint(MACHINE, pointId(1))).hash).toBe(point.hash);
  });

  test.each([
    ['once is durable when it says so', 1, 'committed'],
    ['every time is not reported as success', Infinity, 'repository.store-failed'],
  ])('whose fsync fails %s', async (_, failures, expected) => {
    const root = scratch.directory();
    const open: Files['open'] = async (path, flags, mode) => {
      const file = await nodeFiles.open(path, flags, mode);
      const sync = file.sync.bind(file);
      return Object.assign(file, { sync: () => (path === join(root, POINTS, MACHINE) ? syncPoints(sync) : sync()) });
    };
    let asked = 0;
    const syncPoints = (sync: () => Promise<void>): Promise<void> =>
      ++asked <= failures ? Promise.reject(Object.assign(new Error('bad sector'), { code: 'EIO' })) : sync();
    const repository = await initTiny(new DirectoryStore(root, { files: { ...nodeFiles, open } }));
    const session = await begin(repository);
    const input = commitInput(1, (await write(session, noisyDisk(9))).root);
    const outcome = await session.commit(input).then(
      () => 'committed',
      (error: unknown) => (error instanceof LifeboatError ? error.code : error),
    );
    expect({ outcome, asked }).toEqual({ outcome: expected, asked: 2 });
  });

  test('is not held up by an object among the points that can be none', async () => {
    const store = new MemoryStore();
    const repository = await initTiny(store);
    const first = await begin(repository);
    await first.commit(commitInput(1, (await write(first, noisyDisk(9))).root));
    await store.putIfAbsent(`${POINTS}${MACHINE}/zzz`, [Buffer.alloc(MAX_POINT_BYTES + 1)]);
    const second = await begin(repository);
    const point = await second.commit(commitInput(2, (await write(second, noisyDisk(9))).root));
    expect(point.previous?.pointId).toBe(pointId(1));
    expect((await repository.points()).map(({ state }) => state).toSorted()).toEqual([
      'damaged',
      'readable',
      'readable',
    ]);
  });

  test('that never arrived fails with the error of the store', async () => {
    const store = new (class extends MemoryStore {
      override putIfAbsent(name: string, parts: readonly Uint8Array[], options?: StoreOptions) {
        if (name.startsWith(POINTS)) return Promise.reject(new LifeboatError('disk.full', 'no space'));
        return super.putIfAbsent(name, parts, options);
      }
    })();
    const repository = await initTiny(store);
    const session = await begin(repository);
    const { root } = await write(session, noisyDisk(9));
    await expect(session.commit(commitInput(1, root))).rejects.toMatchObject({ code: 'disk.full' });
    expect(await repository.points()).toEqual([]);
  });

  test('of a session somebody closed is not reported as success', async () => {
    const store = new MemoryStore();
    const repository = await initTiny(store);
    const session = await begin(repository);
    const { root } = await write(session, noisyDisk(9));
    await settleSession(repository.core, session);
    await expect(session.commit(commitInput(1, root))).rejects.toMatchObject({ code: 'repository.session-fenced' });
  });
});

describe('a session', () => {
  test('does not upload twice what an attempt before it uploaded', async () => {
    const store = new MemoryStore();
    const repository = await initTiny(store);
    const directory = scratch.directory();
    const content = noisyDisk(200);
    const first = await begin(repository, directory);
    await write(first, content);
    await first.detach();
    const packs = namesUnder(store, PACKS).length;
    const second = await begin(repository, directory);
    expect(second.sessionId).toBe(first.sessionId);
    const { root, stats } = await write(second, content);
    expect(stats).toMatchObject({ newChunks: 0, knownChunks: 200, storedBytes: 0 });
    expect(namesUnder(store, PACKS)).toHaveLength(packs);
    await second.commit(commitInput(1, root));
    expect(await readDisk(repository, MACHINE, pointId(1))).toEqual(content);
  });

  test('stores again a journalled pack that the store has lost', async () => {
    const store = new MemoryStore();
    const repository = await initTiny(store);
    const directory = scratch.directory();
    const content = noisyDisk(200);
    const first = await begin(repository, directory);
    await write(first, content);
    await first.detach();
    for (const name of namesUnder(store, PACKS).slice(0, 3)) store.objects.delete(name);
    const second = await begin(repository, directory);
    const { root } = await write(second, content);
    await second.commit(commitInput(1, root));
    expect(await readDisk(repository, MACHINE, pointId(1))).toEqual(content);
  });

  test('whose key is lost goes on as a new one, with the packs of the old', async () => {
    const repository = await initTiny(new MemoryStore());
    const directory = scratch.directory();
    const content = noisyDisk(50);
    const first = await begin(repository, directory);
    await write(first, content);
    await first.detach();
    await rm(join(directory, 'session.key'));
    const second = await begin(repository, directory);
    expect(second.sessionId).not.toBe(first.sessionId);
    const { root, stats } = await write(second, content);
    expect(stats.newChunks).toBe(0);
    await second.commit(commitInput(1, root));
    expect(await readDisk(repository, MACHINE, pointId(1))).toEqual(content);
  });

  test('drops the record a crash cut off, and goes on behind the last whole one', async () => {
    const repository = await initTiny(new MemoryStore());
    for (const cut of [1, 31, 60, 200]) {
      const directory = scratch.directory();
      const content = noisyDisk(120, cut);
      const first = await begin(repository, directory);
      await write(first, content);
      await first.detach();
      const journal = join(directory, 'session.journal');
      await truncate(journal, (await stat(journal)).size - cut);
      const second = await begin(repository, directory);
      const { stats } = await write(second, content);
      expect(stats.newChunks).toBeGreaterThan(0);
      expect(stats.knownChunks).toBeGreaterThan(0);
      await second.detach();
      // What the second attempt appended is whole again.
      const third = await begin(repository, directory);
      expect((await write(third, content)).stats.newChunks).toBe(0);
      await third.detach();
    }
  });

  test('ignores what is behind the last whole record', async () => {
    const repository = await initTiny(new MemoryStore());
    const directory = scratch.directory();
    const first = await begin(repository, directory);
    await write(first, noisyDisk(30));
    await first.detach();
    await appendFile(join(directory, 'session.journal'), 'LIFEBOATJRNL and then the power went');
    const second = await begin(repository, directory);
    expect((await write(second, noisyDisk(30))).stats.newChunks).toBe(0);
    await second.detach();
  });

  test('is not taken up by another machine or repository', async () => {
    const repository = await initTiny(new MemoryStore());
    const directory = scratch.directory();
    await (await begin(repository, directory)).detach();
    const unusable = { code: 'repository.session-unusable' };
    const other = repository.beginSession({ machineId: parseMachineId('machine-2'), directory });
    await expect(other).rejects.toMatchObject(unusable);
    await expect(begin(await initTiny(new MemoryStore()), directory)).rejects.toMatchObject(unusable);
    const content = await readFile(join(directory, 'session.key'));
    content[40] = (content[40] ?? 0) ^ 1;
    await writeFile(join(directory, 'session.key'), content);
    await expect(begin(repository, directory)).rejects.toMatchObject(unusable);
  });

  test('keeps its key from other users and removes it at the end', async () => {
    const repository = await initTiny(new MemoryStore());
    const directory = scratch.directory();
    const session = await begin(repository, directory);
    expect(((await stat(join(directory, 'session.key'))).mode & 0o777).toString(8)).toBe('600');
    await session.abandon();
    expect(await readdir(directory)).toEqual([]);
  });

  test('that was abandoned leaves no point, and its packs to the next one', async () => {
    const store = new MemoryStore();
    const repository = await initTiny(store);
    const session = await begin(repository);
    await write(session, noisyDisk(30));
    await session.abandon();
    expect(await repository.points()).toEqual([]);
    expect(namesUnder(store, INDEX)).toEqual([]);
  });

  test('stores a chunk once, however many lanes meet it at the same time', async () => {
    const repository = await initTiny(new MemoryStore(), { sealer: inlineSealer({ laneCount: 4 }) });
    const content = Buffer.concat(Array.from({ length: 300 }, (_, i) => noise(i % 10)));
    const session = await begin(repository);
    const { root, stats } = await write(session, content);
    expect(stats).toMatchObject({ newChunks: 10, knownChunks: 290 });
    await session.commit(commitInput(1, root));
    expect(await readDisk(repository, MACHINE, pointId(1))).toEqual(content);
  });

  test('finds what other machines stored, and without the index stores it again', async () => {
    const store = new MemoryStore();
    const repository = await initTiny(store);
    const content = noisyDisk(100);
    const first = await begin(repository);
    await first.commit(commitInput(1, (await write(first, content)).root));
    const second = await repository.beginSession({
      machineId: parseMachineId('machine-2'),
      directory: scratch.directory(),
    });
    sessions.push(second);
    expect((await write(second, content)).stats).toMatchObject({ newChunks: 0, knownChunks: 100 });
    for (const name of namesUnder(store, INDEX)) store.objects.set(name, Buffer.from('damaged'));
    const third = await begin(repository);
    const { root, stats } = await write(third, content);
    expect(stats.newChunks).toBe(100);
    await third.commit(commitInput(3, root));
    expect(await readDisk(repository, MACHINE, pointId(3))).toEqual(content);
  });

  test('two at once, of one machine, both commit what they read', async () => {
    const repository = await initTiny(new MemoryStore());
    const contents = [noisyDisk(150, 1), noisyDisk(150, 1).fill(noise(77), 0, TINY_CHUNK * 40)];
    await Promise.all(
      contents.map(async (content, n) => {
        const session = await begin(repository);
        await session.commit(commitInput(n, (await write(session, content)).root));
      }),
    );
    expect(await readDisk(repository, MACHINE, pointId(0))).toEqual(contents[0]);
    expect(await readDisk(repository, MACHINE, pointId(1))).toEqual(contents[1]);
  });
});

describe('a write that fails', () => {
  test('uploads nothing when compressed data does not open again', async () => {
    const store = new MemoryStore();
    const real = zstd(1);
    let calls = 0;
    const compression = {
      ...real,
      compress: (plain: Uint8Array) => {
        const packed = Uint8Array.from(real.compress(plain));
        if (++calls === 3) packed[packed.length >> 1] = (packed[packed.length >> 1] ?? 0) ^ 1;
        return packed;
      },
    };
    const repository = await initTiny(store, { sealer: inlineSealer({ compression }) });
    const session = await begin(repository);
    const text = Buffer.alloc(TINY_CHUNK * 8, '0123456789abcdef');
    text.writeUInt32LE(1, TINY_CHUNK);
    text.writeUInt32LE(2, TINY_CHUNK * 2);
    await expect(write(session, text)).rejects.toMatchObject({ code: 'repository.sealing-mismatch' });
    expect(namesUnder(store, PACKS)).toEqual([]);
  });

  test('reports the error of the source, and may be repeated', async () => {
    const repository = await initTiny(new MemoryStore(), { sealer: threadSealer({ threads: 2 }) });
    const session = await begin(repository);
    const path = scratch.file(noisyDisk(100));
    const request = { name: 'vda', sizeBytes: TINY_CHUNK * 100, source: fileSource(path), changed: 'all' as const };
    const absent = { ...request, source: fileSource('/nonexistent') };
    await expect(session.writeDisk(absent, { signal })).rejects.toThrow(/ENOENT/);
    await expect(session.writeDisk({ ...request, sizeBytes: TINY_CHUNK * 101 }, { signal })).rejects.toMatchObject({
      code: 'device.read-failed',
    });
    expect((await session.writeDisk(request, { signal })).stats.newChunks).toBe(100);
    await session.detach();
  });

  test('reports a full store, and leaves nothing visible', async () => {
    let room = 5;
    const store = new (class extends MemoryStore {
      override putIfAbsent(name: string, parts: readonly Uint8Array[], options?: StoreOptions) {
        if (name.startsWith(PACKS) && room-- <= 0)
          return Promise.reject(new LifeboatError('disk.full', 'no space left'));
        return super.putIfAbsent(name, parts, options);
      }
    })();
    const repository = await initTiny(store);
    const directory = scratch.directory();
    const content = noisyDisk(400);
    const session = await begin(repository, directory);
    await expect(write(session, content)).rejects.toMatchObject({ code: 'disk.full' });
    expect(await repository.points()).toEqual([]);
    await session.detach();
    room = 1000;
    const again = await begin(repository, directory);
    const { root, stats } = await write(again, content);
    expect(stats.knownChunks).toBeGreaterThan(0);
    await again.commit(commitInput(1, root));
    expect(await readDisk(repository, MACHINE, pointId(1))).toEqual(content);
  });

  test('stops when it is cancelled, with the reason', async () => {
    const repository = await initTiny(new MemoryStore());
    const session = await begin(repository);
    const abort = new AbortController();
    const reason = new LifeboatError('operation.cancelled', 'enough');
    const writing = session.writeDisk(
      { name: 'vda', sizeBytes: TINY_CHUNK * 500, source: fileSource(scratch.file(noisyDisk(500))), changed: 'all' },
      { signal: abort.signal, progress: ({ doneBytes }) => doneBytes > TINY_CHUNK * 50 && abort.abort(reason) },
    );
    await expect(writing).rejects.toBe(reason);
    await session.detach();
  });
});

describe('an audit', () => {
  test('finds the chunks that differ from the parent, and leaves out what it does not map', async () => {
    const repository = await initTiny(new MemoryStore());
    const session = await begin(repository);
    const content = Buffer.concat([noisyDisk(20), Buffer.alloc(TINY_CHUNK * 10), noisyDisk(5, 9).subarray(0, -7)]);
    const { root } = await write(session, content);
    const expected = new Set([...Array(20).keys(), 30, 31, 32, 33, 34]);
    for (const [firstChunk, end] of [
      [0, 35],
      [3, 32],
      [18, 31],
      [22, 23],
    ] as const) {
      let at = firstChunk;
      for await (const run of session.mapRuns(root, { firstChunk, count: end - firstChunk })) {
        expect(run.firstChunk).toBe(at);
        for (const last = at + run.count; at < last; at++) expect(run.isMapped).toBe(expected.has(at));
      }
      expect(at).toBe(end);
    }

    const changed = Buffer.from(content);
    for (const chunk of [0, 7, 34]) changed[chunk * TINY_CHUNK] = (changed[chunk * TINY_CHUNK] ?? 0) ^ 1;
    changed.fill(0, 3 * TINY_CHUNK, 4 * TINY_CHUNK);
    const all = [...Array(35).keys()];
    const report = await session.compare(
      { parent: root, source: fileSource(scratch.file(changed)), chunkIndexes: all },
      { signal },
    );
    expect(report).toEqual({
      mismatches: [0, 3, 7, 34],
      comparedChunks: 25,
      readBytes: 25 * TINY_CHUNK - 7,
      sourceBytes: 25 * TINY_CHUNK - 7,
    });
    const outside = session.compare(
      { parent: root, source: fileSource(scratch.file(content)), chunkIndexes: [35] },
      { signal },
    );
    await expect(outside).rejects.toMatchObject({ code: 'input.invalid' });
    await session.detach();
  });
});
