import { LifeboatError } from '@lifeboat/foundation/errors';
import * as fc from 'fast-check';
import { beforeEach, describe, expect, test } from 'vitest';

import { encodeControlVersion } from '../format/control-object.ts';
import { controlObject, OBJECTS } from '../format/names.ts';
import { addTenant, type Repository } from '../repository.ts';
import { controlName, sealRecord } from '../seal/control-records.ts';
import { MemoryStore } from '../store/memory-store.ts';
import { CHEAP_SCRYPT, initTiny, openTiny } from '../testing/tiny.ts';

const KEY = { kind: 'machine', id: 'web-1' };

let store: MemoryStore;
let repository: Repository;
beforeEach(async () => {
  store = new MemoryStore();
  repository = await initTiny(store);
});

const put = (text: string, key = KEY, on = repository) =>
  on.writeObject(key, () => ({ schema: 'note/1', payload: Buffer.from(text) }));

/** What counts, by id; what is deleted, and what nothing is left of, as a word. */
async function said(on = repository): Promise<Record<string, string>> {
  const states = await on.objects('machine');
  return Object.fromEntries(
    states.map(({ id, current }) => {
      if (!current) return [id, 'lost'];
      return [id, current.payload ? Buffer.from(current.payload).toString() : 'deleted'];
    }),
  );
}

const nameOf = (version: number, key = KEY): string => controlName(repository.core, controlObject({ ...key, version }));
const named = async (on = repository): Promise<string[]> =>
  (await on.checkObjects()).map(({ kind, object }) => `${kind} ${object}`);
const objectOf = (name: string): Uint8Array => Uint8Array.from(store.objects.get(name) ?? []);

describe('a control object', () => {
  test('is what its newest version says, to whoever opens the repository, until it is deleted', async () => {
    expect(await put('one')).toMatchObject({ version: 1, previous: undefined });
    expect(await put('two')).toMatchObject({ version: 2, previous: { version: 1 } });
    await put('other', { ...KEY, id: 'web-2' });
    expect(await said(await openTiny(store))).toEqual({ 'web-1': 'two', 'web-2': 'other' });
    expect(await repository.writeObject(KEY, () => 'delete')).toMatchObject({ version: 3 });
    expect(await said()).toEqual({ 'web-1': 'deleted', 'web-2': 'other' });
    expect(await repository.writeObject(KEY, () => 'delete')).toBeUndefined();
    expect(await put('again')).toMatchObject({ version: 4 });
    expect(await said()).toMatchObject({ 'web-1': 'again' });
    expect(await named()).toEqual([]);
  });

  test('says nothing to who has no key', async () => {
    await put('a name nobody else may read');
    expect(Buffer.from(objectOf(nameOf(1))).includes('nobody')).toBe(false);
  });

  test('is written one version after the other by several at once, each knowing what is there', async () => {
    const all = [repository, await openTiny(store), await openTiny(store), await openTiny(store)];
    const count = (on: Repository) =>
      on.writeObject(KEY, ({ current }) => {
        const before = current?.payload ? Number(Buffer.from(current.payload).toString()) : 0;
        return { schema: 'count/1', payload: Buffer.from(String(before + 1)) };
      });
    for (let round = 0; round < 3; round++) await Promise.all(all.map(count));
    expect(await said()).toEqual({ 'web-1': '12' });
    expect(await named()).toEqual([]);
  });

  test('has a name that is one, and a payload that fits', async () => {
    for (const key of [
      { kind: 'machine', id: '../x' },
      { kind: 'Machine', id: 'x' },
      { kind: '', id: 'x' },
    ])
      await expect(put('x', key)).rejects.toMatchObject({ code: 'input.invalid' });
    const large = repository.writeObject(KEY, () => ({ schema: 's', payload: Buffer.alloc(1024 * 1024 + 1) }));
    await expect(large).rejects.toMatchObject({ code: 'repository.limit-exceeded' });
    expect(store.objects.size).toBe([...store.objects.keys()].filter((name) => !name.startsWith(OBJECTS)).length);
  });
});

describe('versions', () => {
  beforeEach(async () => {
    for (const text of ['one', 'two', 'three']) await put(text);
  });

  test('every flipped byte and every cut of the newest is found, and the one before it counts', async () => {
    const name = nameOf(3);
    const object = objectOf(name);
    const falls = async (bytes: Uint8Array): Promise<void> => {
      store.objects.set(name, bytes);
      expect(await named()).toEqual([`version-damaged ${name}`]);
      expect(await said()).toEqual({ 'web-1': 'two' });
    };
    await fc.assert(
      fc.asyncProperty(fc.nat(object.length - 1), fc.integer({ min: 1, max: 255 }), (at, flip) => {
        const bytes = Uint8Array.from(object);
        bytes[at] = (bytes[at] ?? 0) ^ flip;
        return falls(bytes);
      }),
      { numRuns: 24 },
    );
    await fc.assert(
      fc.asyncProperty(fc.nat(object.length - 1), (length) => falls(object.subarray(0, length))),
      { numRuns: 8 },
    );
    // The next one goes behind it, and says which it followed.
    expect(await put('four')).toMatchObject({ version: 4, previous: { version: 2 } });
    expect(await said()).toEqual({ 'web-1': 'four' });
  });

  test('an older one in the place of the newest is found', async () => {
    store.objects.set(nameOf(3), objectOf(nameOf(1)));
    expect(await named()).toEqual([`version-damaged ${nameOf(3)}`]);
    expect(await said()).toEqual({ 'web-1': 'two' });
  });

  test('one of another object, or of another tenant, in its place is found', async () => {
    const other = { ...KEY, id: 'web-2' };
    await put('other', other);
    store.objects.set(nameOf(3), objectOf(nameOf(1, other)));
    const secret = { passphrase: 'another' };
    const tenant = await addTenant({ store, secret, tenantName: 'other', scryptCost: CHEAP_SCRYPT });
    await put('theirs', KEY, tenant);
    const theirs = [...store.objects].find(([name]) => name.startsWith('data/tenants/'));
    store.objects.set(nameOf(2), theirs?.[1] ?? Buffer.from('none'));
    expect(await named()).toEqual([`version-damaged ${nameOf(2)}`, `version-damaged ${nameOf(3)}`]);
    expect(await said()).toEqual({ 'web-1': 'one', 'web-2': 'other' });
    expect(await named(tenant)).toEqual([]);
    expect(await said(tenant)).toEqual({ 'web-1': 'theirs' });
  });

  test('one that is gone is named; one made by who has the keys for another before it as well', async () => {
    store.objects.delete(nameOf(2));
    expect(await named()).toEqual([`version-missing ${nameOf(2)}`]);
    expect(await said()).toEqual({ 'web-1': 'three' });
    const name = nameOf(2);
    const version = { ...KEY, version: 2, previous: { version: 1, hash: Buffer.alloc(32, 9) } };
    const body = encodeControlVersion({
      ...version,
      writtenMs: 0,
      schema: '',
      salt: Buffer.alloc(32),
      sealed: undefined,
    });
    store.objects.set(name, sealRecord(repository.core, { type: 'CTRL', name, body }));
    expect(await named()).toEqual([`version-broken ${nameOf(2)}`, `version-broken ${nameOf(3)}`]);
  });

  test.each([{ version: 2 }, { id: 'web-2' }, { kind: 'host' }])(
    'one with the keys that says %o is found',
    async (says) => {
      const version = { ...KEY, version: 3, previous: undefined, writtenMs: 0, schema: '', salt: Buffer.alloc(32) };
      const body = encodeControlVersion({ ...version, ...says, sealed: undefined });
      store.objects.set(nameOf(3), sealRecord(repository.core, { type: 'CTRL', name: nameOf(3), body }));
      expect(await named()).toEqual([`version-damaged ${nameOf(3)}`]);
      expect(await said()).toEqual({ 'web-1': 'two' });
    },
  );

  test('what others put among them means nothing, and keeps no version from being written', async () => {
    const plain = controlObject({ ...KEY, version: 4 });
    const planted = [plain, `${plain}.${'0'.repeat(32)}`, `${OBJECTS}x`];
    for (const name of planted) store.objects.set(name, Buffer.from('x'));
    expect(await put('four')).toMatchObject({ version: 4 });
    const findings = await repository.checkObjects();
    expect(new Set(findings.map(({ object }) => object))).toEqual(new Set(planted));
    expect(findings.every(({ kind, isLoss }) => kind === 'foreign' && !isLoss)).toBe(true);
  });

  test('a store that does not answer is no finding', async () => {
    const get = store.get.bind(store);
    store.get = (name, options) =>
      name.startsWith(OBJECTS)
        ? Promise.reject(new LifeboatError('repository.store-unreachable', 'no answer'))
        : get(name, options);
    for (const ask of [() => repository.objects('machine'), () => repository.checkObjects(), () => put('four')])
      await expect(ask()).rejects.toMatchObject({ code: 'repository.store-unreachable' });
  });
});
