import { chmod, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { afterAll, describe, expect, test } from 'vitest';

import { FORMAT_VERSION } from './format/limits.ts';
import { decodeFrame, encodeFrame } from './format/frame.ts';
import { decodeKeySet, encodeKeySet } from './format/key-set.ts';
import { KEYS, SUPERBLOCK } from './format/names.ts';
import { initRepository, openRepository } from './repository.ts';
import { DirectoryStore } from './store/directory-store.ts';
import { MemoryStore } from './store/memory-store.ts';
import { CHEAP_SCRYPT, initTiny, openTiny, PASSPHRASE, Scratch } from './testing/tiny.ts';

const scratch = new Scratch();
afterAll(() => scratch.remove());

describe('a repository', () => {
  test('opens with its passphrase, however its accents were typed, and with no other', async () => {
    const store = new MemoryStore();
    const made = await initRepository({ store, secret: { passphrase: 'caf\u00e9' }, scryptCost: CHEAP_SCRYPT });
    const opened = await openRepository({ store, secret: { passphrase: 'cafe\u0301' } });
    expect(opened.repositoryId).toBe(made.repositoryId);
    for (const passphrase of ['cafe', 'caf\u00e9 ', 'CAF\u00c9']) {
      await expect(openRepository({ store, secret: { passphrase } })).rejects.toMatchObject({
        code: 'repository.wrong-passphrase',
      });
    }
    await expect(openRepository({ store, secret: { passphrase: '' } })).rejects.toMatchObject({
      code: 'input.invalid',
    });
  });

  test('is not made where something is already', async () => {
    const store = new MemoryStore();
    await initTiny(store);
    await expect(initTiny(store)).rejects.toMatchObject({ code: 'repository.already-exists' });
    const used = new MemoryStore();
    used.objects.set('thesis.odt', Buffer.from('x'));
    await expect(initTiny(used)).rejects.toMatchObject({ code: 'repository.already-exists' });
    expect([...used.objects.keys()]).toEqual(['thesis.odt']);
  });

  test('that two programs make at once is made by one, and opens', async () => {
    const store = new MemoryStore();
    const outcomes = await Promise.allSettled([initTiny(store), initTiny(store), initTiny(store)]);
    expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    expect([...store.objects.keys()].filter((name) => name.startsWith(KEYS))).toHaveLength(2);
    await openTiny(store);
  });

  test('opens while one copy of its keys is whole, and says what is wrong when none is', async () => {
    const store = new MemoryStore();
    await initTiny(store);
    const [first = '', second = ''] = [...store.objects.keys()].filter((object) => object.startsWith(KEYS));
    const good = store.objects.get(first) ?? new Uint8Array(0);
    store.objects.set(first, good.subarray(0, 50));
    await openTiny(store);
    store.objects.delete(second);
    await expect(openTiny(store)).rejects.toMatchObject({ code: 'repository.object-damaged' });
    store.objects.set(second, good);
    await openTiny(store);
    store.objects.delete(first);
    await openTiny(store);
  });

  test('is not seen where there is none', async () => {
    const notOne = { code: 'repository.not-a-repository' };
    await expect(openTiny(new MemoryStore())).rejects.toMatchObject(notOne);
    await expect(openTiny(new DirectoryStore(scratch.directory()))).rejects.toMatchObject(notOne);
    await expect(openTiny(new DirectoryStore('/nonexistent/repository'))).rejects.toMatchObject(notOne);
  });

  test('of a newer version is not touched', async () => {
    const store = new MemoryStore();
    await initTiny(store);
    const object = Buffer.from(store.objects.get(SUPERBLOCK) ?? []);
    object.writeUInt16BE(FORMAT_VERSION + 1, 12);
    store.objects.set(SUPERBLOCK, object);
    await expect(openTiny(store)).rejects.toMatchObject({
      code: 'repository.newer-version',
      context: { version: FORMAT_VERSION + 1, known: FORMAT_VERSION },
    });
  });

  test('whose superblock was replaced by a well-formed other does not open: the keys are bound to it', async () => {
    const store = new MemoryStore();
    await initTiny(store);
    const body = Buffer.from(decodeFrame('REPO', store.objects.get(SUPERBLOCK) ?? Buffer.alloc(0), 'it'));
    body[4] = (body[4] ?? 0) ^ 1;
    store.objects.set(SUPERBLOCK, encodeFrame('REPO', body));
    await expect(openTiny(store)).rejects.toMatchObject({ code: 'repository.object-damaged' });
  });

  test('whose key asks for absurd work is refused before the work', async () => {
    const store = new MemoryStore();
    await initTiny(store);
    const names = [...store.objects.keys()].filter((object) => object.startsWith(KEYS));
    const { bodyBytes, signature } = decodeKeySet(store.objects.get(names[0] ?? '') ?? Buffer.alloc(0), 'it');
    // cost is field 2 of the slot's scrypt message: 0x10, then the varint 2. Make it one bit short of a power of two.
    const body = Buffer.from(bodyBytes);
    body[body.indexOf(Buffer.from([0x10, 0x02, 0x18])) + 1] = 3;
    for (const name of names) store.objects.set(name, encodeKeySet({ body, signature }));
    await expect(openTiny(store)).rejects.toMatchObject({
      code: 'repository.object-damaged',
      message: expect.stringMatching(/scrypt parameters N 3/) as string,
    });
  });

  test.each([{ chunkSizeBytes: 1000 }, { chunkSizeBytes: 32 }, { chunkSizeBytes: 8 * 1024 * 1024 }])(
    'refuses chunks of %o',
    async (size) => {
      const store = new MemoryStore();
      const making = initRepository({ store, secret: { passphrase: PASSPHRASE }, scryptCost: CHEAP_SCRYPT, ...size });
      await expect(making).rejects.toMatchObject({ code: 'repository.limit-exceeded' });
      expect(store.objects.size).toBe(0);
    },
  );
});

describe('a key file', () => {
  const keyFile = (): string => join(scratch.directory(), 'key');

  test('is made with the repository, for its user alone, and opens it', async () => {
    const store = new MemoryStore();
    const path = keyFile();
    const made = await initRepository({ store, secret: { keyFile: path } });
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    expect(await readFile(path, 'utf8')).toMatch(/^lifeboat-key-1:[A-Za-z0-9+/]{43}=\n$/);
    expect((await openRepository({ store, secret: { keyFile: path } })).repositoryId).toBe(made.repositoryId);
    await expect(openRepository({ store, secret: { passphrase: 'x' } })).rejects.toMatchObject({
      code: 'repository.wrong-passphrase',
    });
  });

  test('that exists is used, not replaced', async () => {
    const path = keyFile();
    await initRepository({ store: new MemoryStore(), secret: { keyFile: path } });
    const before = await readFile(path, 'utf8');
    const second = new MemoryStore();
    await initRepository({ store: second, secret: { keyFile: path } });
    expect(await readFile(path, 'utf8')).toBe(before);
    await openRepository({ store: second, secret: { keyFile: path } });
  });

  test('of another repository does not open this one', async () => {
    const store = new MemoryStore();
    await initRepository({ store, secret: { keyFile: keyFile() } });
    const other = keyFile();
    await initRepository({ store: new MemoryStore(), secret: { keyFile: other } });
    await expect(openRepository({ store, secret: { keyFile: other } })).rejects.toMatchObject({
      code: 'repository.wrong-key-file',
    });
  });

  test('that is missing, readable by others, or something else is named, with what to do', async () => {
    const store = new MemoryStore();
    const path = keyFile();
    await initRepository({ store, secret: { keyFile: path } });
    const unusable = (why: RegExp) => ({
      code: 'repository.key-file-unusable',
      message: expect.stringMatching(why) as string,
    });
    await expect(openRepository({ store, secret: { keyFile: `${path}-not` } })).rejects.toMatchObject(
      unusable(/does not exist/),
    );
    await chmod(path, 0o644);
    await expect(openRepository({ store, secret: { keyFile: path } })).rejects.toMatchObject(
      unusable(/mode 644.*set 600/),
    );
    await chmod(path, 0o600);
    await writeFile(path, 'ssh-ed25519 AAAA\n');
    await expect(openRepository({ store, secret: { keyFile: path } })).rejects.toMatchObject(
      unusable(/does not hold a Lifeboat key/),
    );
    // A key file that is there but unusable must not be replaced by a fresh one.
    await expect(initRepository({ store: new MemoryStore(), secret: { keyFile: path } })).rejects.toMatchObject(
      unusable(/does not hold/),
    );
  });
});
