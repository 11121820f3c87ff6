/** The S3 store on a real server with faults in between: the same conformance, and what must be refused. */
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { ListObjectVersionsCommand } from '@aws-sdk/client-s3';
import { systemClock, type Clock } from '@lifeboat/foundation/clock';
import { systemRandom } from '@lifeboat/foundation/random';
import { CAPABILITIES } from '@lifeboat/repository/format/superblock';
import { probeStore } from '@lifeboat/repository/store/capabilities';
import { testObjectStore } from '@lifeboat/repository/store/conformance';
import { openS3Store, type S3Store } from '@lifeboat/repository/store/s3/s3-store';
import {
  answering,
  busy,
  cutShort,
  lostReply,
  partialListing,
  slow,
  truncated,
  withoutConditions,
  withFault,
  type Fault,
} from '../support/s3-faults.ts';
import { startVersitygw, type S3Server } from '../support/versitygw.ts';

let server: S3Server;
beforeAll(async () => {
  server = await startVersitygw();
});
afterAll(() => server.stop());

/** Pauses between attempts last no time. */
const hasty: Clock = {
  nowMs: () => systemClock.nowMs(),
  monotonicMs: () => systemClock.monotonicMs(),
  sleep: (_, signal) => systemClock.sleep(0, signal),
};

async function open(kind: 'plain' | 'versioned' | 'locked', fault: Fault): Promise<S3Store> {
  const place = server.place(await server.makeBucket(kind));
  return openS3Store(place, { clock: hasty, client: () => withFault(server.client(place), fault) });
}

async function openUnconditional(): Promise<S3Store> {
  const place = server.place(await server.makeBucket('versioned'));
  return openS3Store(place, { client: () => withoutConditions(server.client(place)) });
}

const FAULTS = [
  ['answers 503 at first', busy],
  ['is slow', slow],
  ['cuts connections', truncated],
  ['ends answers early', cutShort],
  ['lists a part', partialListing],
  ['loses its answers', lostReply],
] as const;

for (const [name, fault] of FAULTS) {
  testObjectStore(`a bucket whose service ${name}`, async () => ({
    store: await open('plain', fault),
    remove: () => Promise.resolve(),
  }));
}
testObjectStore('a bucket with versions whose service loses its answers', async () => ({
  store: await open('versioned', lostReply),
  remove: () => Promise.resolve(),
}));
testObjectStore('a bucket with versions whose service ignores If-None-Match', async () => ({
  store: await openUnconditional(),
  remove: () => Promise.resolve(),
}));

describe('a service that ignores If-None-Match', () => {
  it('is found out before a repository is made: it is refused without versions, and good enough with them', async () => {
    const plain = server.place(await server.makeBucket('plain'));
    const careless = await openS3Store(plain, { client: () => withoutConditions(server.client(plain)) });
    await expect(probeStore(careless, systemRandom)).rejects.toMatchObject({ code: 'repository.store-unsupported' });
    const { createOnly, versions } = CAPABILITIES;
    expect(await probeStore(await openUnconditional(), systemRandom)).toBe(createOnly + versions);
  });
});

describe('a put whose answer was lost', () => {
  it('is known to be ours, and is one object', async () => {
    const place = server.place(await server.makeBucket('versioned'));
    const store = await openS3Store(place, {
      clock: hasty,
      client: () => withFault(server.client(place), lostReply),
    });
    expect(await store.putIfAbsent('a', [Buffer.from('mine')])).toBe('created');
    expect(await store.putIfAbsent('a', [Buffer.from('other')])).toBe('exists');
    const { Versions = [] } = await server.root.send(new ListObjectVersionsCommand({ Bucket: place.bucket }));
    expect(Versions).toHaveLength(1);
  });
});

describe('a service that stays broken', () => {
  it.each([
    [
      '503',
      (): ReturnType<Fault> => Promise.reject(Object.assign(new Error('x'), { $metadata: { httpStatusCode: 503 } })),
      'repository.store-failed',
    ],
    [
      'a dead connection',
      (): ReturnType<Fault> => Promise.reject(Object.assign(new Error('x'), { code: 'ECONNREFUSED' })),
      'repository.store-unreachable',
    ],
  ] as const)('with %s is reported after a few attempts, and a listing never looks empty', async (_, fail, code) => {
    let broken = false;
    let attempts = 0;
    const store = await open('plain', (_request, send) => {
      if (!broken) return send();
      attempts++;
      return fail();
    });
    await store.putIfAbsent('a/b', [Buffer.from('x')]);
    broken = true;
    const listed = async (): Promise<void> => {
      for await (const { name } of store.list('')) throw new Error(`listed ${name}`);
    };
    await expect(listed()).rejects.toMatchObject({ code });
    expect(attempts).toBe(6);
    await expect(store.get('a/b', { maxBytes: 1 })).rejects.toMatchObject({ code });
    await expect(store.head('a/b')).rejects.toMatchObject({ code });
  });

  it('is not waited for once the caller has given up', async () => {
    const stop = new AbortController();
    const store = await open('plain', (request, send) => {
      if (request.method !== 'PUT') return send();
      stop.abort(new Error('enough'));
      return Promise.reject(new Error('socket hang up'));
    });
    await expect(store.putIfAbsent('a', [], { signal: stop.signal })).rejects.toThrow('enough');
  });
});

describe('a bucket with a lifecycle rule', () => {
  const rule = (inner: string, status = 'Enabled', prefix = ''): string =>
    `<LifecycleConfiguration><Rule><ID>clean</ID><Status>${status}</Status><Filter><Prefix>${prefix}</Prefix></Filter>${inner}</Rule></LifecycleConfiguration>`;
  const openWith = (text: string): Promise<S3Store> => open('plain', answering('lifecycle', text));

  it.each([
    ['expires objects', rule('<Expiration><Days>30</Days></Expiration>')],
    [
      'expires what was overwritten',
      rule('<NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays></NoncurrentVersionExpiration>'),
    ],
    ['freezes objects', rule('<Transition><Days>1</Days><StorageClass>DEEP_ARCHIVE</StorageClass></Transition>')],
  ])('that %s is refused', async (_, text) => {
    await expect(openWith(text)).rejects.toMatchObject({
      code: 'repository.store-unsupported',
      message: expect.stringContaining("'clean'") as string,
    });
  });

  it.each([
    ['is switched off', rule('<Expiration><Days>30</Days></Expiration>', 'Disabled')],
    [
      'ends uploads that were never finished',
      rule(
        '<AbortIncompleteMultipartUpload><DaysAfterInitiation>1</DaysAfterInitiation></AbortIncompleteMultipartUpload>',
      ),
    ],
    [
      'removes delete markers that hide nothing',
      rule('<Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>'),
    ],
  ])('that %s is not', async (_, text) => {
    expect((await openWith(text)).rules.lock).toBeUndefined();
  });
});

describe('a clock that is days off', () => {
  it('is reported instead of corrected: locks and retention are reckoned by it', async () => {
    const place = server.place(await server.makeBucket('locked'));
    const store = await openS3Store(place, { clock: hasty, client: () => server.client(place) });
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 3 * 86_400_000 });
    try {
      for (let again = 0; again < 2; again++) {
        await expect(store.putIfAbsent('a', [])).rejects.toMatchObject({ code: 'repository.clock-skewed' });
      }
    } finally {
      vi.useRealTimers();
    }
    expect(await store.head('a')).toBeUndefined();
  });
});
