import type { BlockDevice } from '@lifeboat/foundation/block-device';
import { systemClock } from '@lifeboat/foundation/clock';
import { LifeboatError } from '@lifeboat/foundation/errors';
import { describe, expect, it } from 'vitest';
import { ANSWER_LIMIT_MS, answeringDevice } from './answering-device.ts';

const hastyClock = {
  ...systemClock,
  sleep: (ms: number, signal?: AbortSignal) => systemClock.sleep(ms / 1000, signal),
};

/** A device whose every call ends as `answer` does, and what it was given up for. */
function served(answer: (signal?: AbortSignal) => Promise<never[]>) {
  const reasons: unknown[] = [];
  const below = {
    sizeBytes: 1024,
    read: async (_offset, _target, options) => void (await answer(options?.signal)),
    extents: async (_range, options) => answer(options?.signal),
    close: async () => {},
  } satisfies BlockDevice;
  const device = answeringDevice(below, { clock: hastyClock, giveUp: (reason) => void reasons.push(reason) });
  const calls = [
    (options?: { signal: AbortSignal }) => device.read(0, new Uint8Array(512), options),
    (options?: { signal: AbortSignal }) => device.extents({ offsetBytes: 0, lengthBytes: 512 }, options),
  ];
  return { reasons, calls };
}

describe('a disk that a guest runs from', () => {
  it('is given up when the store does not answer', async () => {
    const away = new LifeboatError('repository.store-unreachable', 'away');
    const { reasons, calls } = served(() => Promise.reject(away));
    for (const call of calls) await expect(call()).rejects.toBe(away);
    expect(reasons).toEqual([away, away]);
  });

  it('is given up when the store is late, and a guest would soon give up itself', async () => {
    const { reasons, calls } = served(async () => systemClock.sleep((ANSWER_LIMIT_MS / 1000) * 4).then(() => []));
    for (const call of calls) await call();
    expect(reasons).toHaveLength(2);
    expect(reasons[0]).toMatchObject({
      code: 'repository.store-unreachable',
      message: expect.stringContaining('not answered within 20.0 s') as string,
    });
  });

  it('goes on after damage, which the guest is told, and after a guest that did not wait', async () => {
    const damage = new LifeboatError('repository.chunk-damaged', 'flipped');
    const damaged = served(() => Promise.reject(damage));
    for (const call of damaged.calls) await expect(call()).rejects.toBe(damage);
    const gone = AbortSignal.abort(new Error('gone'));
    const left = served((signal) => Promise.reject(signal?.reason as Error));
    for (const call of left.calls) await expect(call({ signal: gone })).rejects.toThrow('gone');
    const sound = served(async () => []);
    for (const call of sound.calls) await call();
    await systemClock.sleep((ANSWER_LIMIT_MS / 1000) * 2);
    expect([damaged.reasons, left.reasons, sound.reasons]).toEqual([[], [], []]);
  });
});
