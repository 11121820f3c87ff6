import { expect, test } from 'vitest';
import { GiB } from '@lifeboat/foundation/units';
import { GuestMemory } from './guest-memory.ts';

const host = (totalGiB: number, availableGiB: number) => async () => ({
  totalBytes: totalGiB * GiB,
  availableBytes: availableGiB * GiB,
});

test('guests at once get what there is, and the next one when another has ended', async () => {
  const memory = new GuestMemory(host(10, 9));
  const all = await Promise.allSettled(Array.from({ length: 5 }, () => memory.take(2048, 'a guest')));
  expect(all.map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled', 'fulfilled', 'fulfilled', 'rejected']);
  await expect(memory.take(2048, 'web-1')).rejects.toMatchObject({
    code: 'engine.no-memory',
    message: expect.stringMatching(/^web-1 needs 2\.\d+ G/) as string,
  });
  const [first] = all;
  if (first?.status !== 'fulfilled') throw new Error('the first got none');
  first.value();
  first.value();
  await memory.take(2048, 'a guest');
  await expect(memory.take(1, 'a guest')).rejects.toMatchObject({ code: 'engine.no-memory' });
});

test('what other programs use is not given away', async () => {
  await expect(new GuestMemory(host(64, 1)).take(2048, 'a guest')).rejects.toMatchObject({ code: 'engine.no-memory' });
});

test('this host has memory', async () => {
  const giveBack = await new GuestMemory().take(1, 'a guest');
  expect(giveBack).not.toThrow();
});
