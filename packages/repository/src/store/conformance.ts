/** What every object store must do, run against each implementation and each decorator. */
import * as fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';

import { listNames, type ObjectStore } from './object-store.ts';

export interface StoreUnderTest {
  readonly store: ObjectStore;
  remove(): Promise<void>;
}

export function testObjectStore(name: string, open: () => Promise<StoreUnderTest>): void {
  describe(`${name} as an object store`, () => {
    let under: StoreUnderTest;
    let store: ObjectStore;
    beforeEach(async () => {
      under = await open();
      store = under.store;
    });
    afterEach(() => under.remove());

    const names = async (prefix: string): Promise<string[]> => {
      const found: string[] = [];
      for await (const object of store.list(prefix)) found.push(object.name);
      return found.toSorted();
    };
    const text = (value: string): Uint8Array => Buffer.from(value);

    test('gives back what was put, whole and in ranges', async () => {
      await fc.assert(
        fc.asyncProperty(
          fc.array(fc.uint8Array({ maxLength: 200 }), { maxLength: 4 }),
          fc.nat(),
          fc.nat(),
          fc.uuid(),
          async (parts, a, b, id) => {
            const whole = Buffer.concat(parts);
            const object = `data/${id}`;
            await store.putIfAbsent(object, parts);
            expect(Buffer.from(await store.get(object, { maxBytes: 1000 }))).toEqual(whole);
            const offsetBytes = a % (whole.length + 1);
            const lengthBytes = b % (whole.length - offsetBytes + 1);
            expect(Buffer.from(await store.getRange(object, { offsetBytes, lengthBytes }))).toEqual(
              whole.subarray(offsetBytes, offsetBytes + lengthBytes),
            );
            const there = await store.head(object);
            expect(there).toMatchObject({ name: object, sizeBytes: whole.length });
            // What it says of the time is of the put, not of the look; FAT counts in steps of two seconds.
            expect(Math.abs((there?.storedMs ?? Number.NaN) - Date.now())).toBeLessThan(60_000);
          },
        ),
        { numRuns: 30 },
      );
    });

    test('keeps the first of two contents for a name', async () => {
      expect(await store.putIfAbsent('a/b', [text('first')])).toBe('created');
      expect(await store.putIfAbsent('a/b', [text('second')])).toBe('exists');
      expect(Buffer.from(await store.get('a/b', { maxBytes: 10 })).toString()).toBe('first');
    });

    test('has one winner among many writers of a name', async () => {
      const outcomes = await Promise.all(
        Array.from({ length: 20 }, (_, i) => store.putIfAbsent('points/m/p', [text(`writer ${i}`), text('.')])),
      );
      expect(outcomes.filter((outcome) => outcome === 'created')).toHaveLength(1);
      const winner = outcomes.indexOf('created');
      expect(Buffer.from(await store.get('points/m/p', { maxBytes: 100 })).toString()).toBe(`writer ${winner}.`);
    });

    test('says that an object is missing', async () => {
      await expect(store.get('a/b', { maxBytes: 10 })).rejects.toMatchObject({ code: 'repository.object-missing' });
      await expect(store.getRange('a/b', { offsetBytes: 0, lengthBytes: 1 })).rejects.toMatchObject({
        code: 'repository.object-missing',
      });
      expect(await store.head('a/b')).toBeUndefined();
    });

    test('never returns less than the range that was asked for', async () => {
      await store.putIfAbsent('a/b', [text('0123456789')]);
      await expect(store.getRange('a/b', { offsetBytes: 5, lengthBytes: 6 })).rejects.toMatchObject({
        code: 'repository.object-damaged',
      });
      const short = await store.getRange('a/b', { offsetBytes: 5, lengthBytes: 6, atMost: true });
      expect(Buffer.from(short).toString()).toBe('56789');
    });

    test('refuses an object that is larger than it may be', async () => {
      await store.putIfAbsent('a/b', [text('0123456789')]);
      await expect(store.get('a/b', { maxBytes: 9 })).rejects.toMatchObject({ code: 'repository.object-damaged' });
    });

    test('lists by prefix, everything, and nothing', async () => {
      for (const name of ['a/1', 'a/2/3', 'ab/1', 'top']) await store.putIfAbsent(name, [text(name)]);
      expect(await names('')).toEqual(['a/1', 'a/2/3', 'ab/1', 'top']);
      expect(await names('a/')).toEqual(['a/1', 'a/2/3']);
      expect(await names('a/2/')).toEqual(['a/2/3']);
      expect(await names('none/')).toEqual([]);
      for (const prefix of ['', 'a/', 'a/2/', 'ab/', 'none/']) {
        const found: string[] = [];
        for await (const name of listNames(store, prefix)) found.push(name);
        expect(found.toSorted()).toEqual(await names(prefix));
      }
      const sizes: number[] = [];
      for await (const { sizeBytes } of store.list('ab/')) sizes.push(sizeBytes);
      expect(sizes).toEqual([4]);
    });

    test('deletes, also what is not there', async () => {
      await store.putIfAbsent('a/b', [text('x')]);
      await store.delete('a/b');
      await store.delete('a/b');
      expect(await store.head('a/b')).toBeUndefined();
      expect(await names('')).toEqual([]);
      expect(await store.putIfAbsent('a/b', [text('y')])).toBe('created');
    });

    test('stores nothing when it is aborted before', async () => {
      const reason = new Error('stop');
      const aborted = AbortSignal.abort(reason);
      await expect(store.putIfAbsent('a/b', [text('x')], { signal: aborted })).rejects.toBe(reason);
      expect(await names('')).toEqual([]);
    });

    test('holds an empty object and a large one', async () => {
      const large = Buffer.alloc(20 * 1024 * 1024, 'lifeboat');
      await store.putIfAbsent('empty', []);
      await store.putIfAbsent('large', [large.subarray(0, 7), large.subarray(7)]);
      expect((await store.get('empty', { maxBytes: 0 })).length).toBe(0);
      expect(Buffer.compare(await store.get('large', { maxBytes: large.length }), large)).toBe(0);
    });
  });
}

/** What the locks of a store must do, for each store that has them. `now` is the store's own clock. */
export function testObjectLocks(name: string, open: () => Promise<StoreUnderTest>, nowMs: () => number): void {
  describe(`${name} as a store with locks`, () => {
    let under: StoreUnderTest;
    beforeEach(async () => {
      under = await open();
    });
    afterEach(() => under.remove());

    test('holds what was locked by the put, and what was locked later', async () => {
      const { store } = under;
      // Whole seconds: what S3 keeps of an instant.
      const untilMs = (Math.floor(nowMs() / 1000) + 3600) * 1000;
      await store.putIfAbsent('data/held', [Buffer.from('x')], { lockUntilMs: untilMs });
      await store.putIfAbsent('data/free', [Buffer.from('y')]);
      expect(await store.locks?.lockedUntilMs('data/held')).toBe(untilMs);
      expect(await store.locks?.lockedUntilMs('data/free')).toBeUndefined();
      await expect(store.delete('data/held')).rejects.toMatchObject({
        code: 'repository.object-locked',
        context: { object: 'data/held', untilMs },
      });
      expect(Buffer.from(await store.get('data/held', { maxBytes: 1 })).toString()).toBe('x');

      await store.locks?.extend('data/held', untilMs + 1_000_000);
      await store.locks?.extend('data/held', untilMs - 1_000_000);
      expect(await store.locks?.lockedUntilMs('data/held')).toBe(untilMs + 1_000_000);
      await store.locks?.extend('data/free', untilMs);
      await expect(store.delete('data/free')).rejects.toMatchObject({ code: 'repository.object-locked' });
    });

    test('lets go when the lock has ended', async () => {
      const { store } = under;
      const untilMs = (Math.floor(nowMs() / 1000) + 4) * 1000;
      await store.putIfAbsent('data/short', [Buffer.from('x')], { lockUntilMs: untilMs });
      await expect(store.delete('data/short')).rejects.toMatchObject({ code: 'repository.object-locked' });
      await expect
        .poll(() => store.delete('data/short').then(() => 'gone', String), { timeout: 20_000, interval: 250 })
        .toBe('gone');
      expect(await store.head('data/short')).toBeUndefined();
    });

    test('says that an object is missing', async () => {
      const missing = { code: 'repository.object-missing' };
      await expect(under.store.locks?.lockedUntilMs('data/none')).rejects.toMatchObject(missing);
      await expect(under.store.locks?.extend('data/none', nowMs() + 60_000)).rejects.toMatchObject(missing);
    });
  });
}
