/** The S3 store on a real server, in buckets of each kind. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DeleteObjectCommand, PutObjectCommand } from '@aws-sdk/client-s3';
import { testObjectLocks, testObjectStore, type StoreUnderTest } from '@lifeboat/repository/store/conformance';
import { openS3Store, type S3Store } from '@lifeboat/repository/store/s3/s3-store';
import { startVersitygw, type S3Server } from '../support/versitygw.ts';

let server: S3Server;
beforeAll(async () => {
  server = await startVersitygw();
});
afterAll(() => server.stop());

async function open(kind: 'plain' | 'versioned' | 'locked', prefix = ''): Promise<S3Store> {
  const place = server.place(await server.makeBucket(kind), prefix);
  return openS3Store(place, { client: () => server.client(place) });
}

/** Buckets go with the server. */
const under = async (store: Promise<S3Store>): Promise<StoreUnderTest> => ({
  store: await store,
  remove: () => Promise.resolve(),
});

testObjectStore('a bucket', () => under(open('plain')));
testObjectStore('a prefix of a bucket with versions', () => under(open('versioned', 'machines/backup/')));
testObjectStore('a bucket with locks', () => under(open('locked')));
testObjectLocks(
  'a bucket with locks',
  () => under(open('locked')),
  () => Date.now(),
);

describe('a bucket with versions', () => {
  it('has as its objects the earliest versions, whatever was put over them', async () => {
    const place = server.place(await server.makeBucket('versioned'), 'p/');
    const root = server.client(place);
    const store = await openS3Store(place, { client: () => root });
    const text = async (from: S3Store): Promise<string> =>
      Buffer.from(await from.get('data/a', { maxBytes: 100 })).toString();
    await store.putIfAbsent('data/a', [Buffer.from('first')]);
    await root.send(new PutObjectCommand({ Bucket: place.bucket, Key: 'p/data/a', Body: 'overwritten' }));
    await root.send(new DeleteObjectCommand({ Bucket: place.bucket, Key: 'p/data/a' }));

    for (const reader of [store, await openS3Store(place, { client: () => root })]) {
      expect(await text(reader)).toBe('first');
      expect(await reader.head('data/a')).toMatchObject({ name: 'data/a', sizeBytes: 5 });
      const names: string[] = [];
      for await (const { name, sizeBytes } of reader.list('data/')) names.push(`${name} ${sizeBytes}`);
      expect(names).toEqual(['data/a 5']);
      expect(await reader.putIfAbsent('data/a', [Buffer.from('later')])).toBe('exists');
    }
    const versions = await store.versions?.('data/a');
    expect(versions?.slice(0, 2).map(({ sizeBytes }) => sizeBytes)).toEqual([5, 11]);
    expect(Buffer.from((await versions?.[1]?.get({ maxBytes: 100 })) ?? []).toString()).toBe('overwritten');
    await store.delete('data/a');
    expect(await store.versions?.('data/a')).toEqual([]);
    expect(await store.putIfAbsent('data/a', [Buffer.from('anew')])).toBe('created');
    expect(await text(store)).toBe('anew');
  });
});
