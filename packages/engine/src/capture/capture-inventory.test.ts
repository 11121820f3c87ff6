import { createServer } from 'node:net';
import { join } from 'node:path';
import { systemClock } from '@lifeboat/foundation/clock';
import { silentLog } from '@lifeboat/foundation/log';
import { scratchDirectory } from '@lifeboat/host/testing/scratch';
import type { BackupDisk, MachineDescription } from '@lifeboat/hypervisor/port';
import { describe, expect, it, onTestFinished } from 'vitest';
import { beginInventory } from './capture-inventory.ts';
import { dirtyExport } from './testing/dirty-export.ts';

const machine = { name: 'm', disks: [{ name: 'vda', controller: 'ahci' }] } as unknown as MachineDescription;

function begin(disk: BackupDisk, options: { graceIsOver?: boolean; signal?: AbortSignal } = {}) {
  const waited: number[] = [];
  const sleep = async (ms: number): Promise<void> => void waited.push(ms);
  const clock = options.graceIsOver ? { ...systemClock, sleep } : systemClock;
  const { signal = new AbortController().signal } = options;
  const pending = beginInventory(
    { clock, log: silentLog },
    { job: { disks: [disk] }, machine, parent: undefined },
    signal,
  );
  return { ...pending, waited };
}

/** A server that takes a client and says nothing, until the test ends; how many it holds. */
async function silentExport(): Promise<{ disk: BackupDisk; held: () => number }> {
  const open = new Set<unknown>();
  const server = createServer((socket) => {
    open.add(socket);
    socket.on('close', () => open.delete(socket)).on('error', () => {});
  });
  const socketPath = join(await scratchDirectory(), 'nbd.sock');
  await new Promise<void>((resolve) => server.listen(socketPath, resolve));
  onTestFinished(() => void server.close());
  const disk = { name: 'vda', sizeBytes: 1, socketPath, exportName: 'vda', tracked: true, untrackedReason: '' };
  return { disk, held: () => open.size };
}

describe('the inventory beside a backup', () => {
  it('is taken from the exports', async () => {
    const outcome = await begin(await dirtyExport()).finish();
    if ('problem' in outcome) throw new Error(outcome.problem);
    // The partition table, at the least.
    expect(outcome.readBytes).toBeGreaterThanOrEqual(512);
    expect(JSON.parse(Buffer.from(outcome.content).toString())).toMatchObject({
      version: 1,
      disks: [{ name: 'vda', controller: 'ahci', content: { kind: 'empty' } }],
    });
  });

  it('that cannot be taken is said, and no more', async () => {
    const exported = await dirtyExport();
    expect(await begin({ ...exported, exportName: 'other' }).finish()).toEqual({
      problem: expect.stringContaining('other') as string,
      readBytes: 0,
    });
  });

  it('is not waited for, and lets go of the export', async () => {
    const { disk, held } = await silentExport();
    const pending = begin(disk, { graceIsOver: true });
    expect(await pending.finish()).toEqual({
      problem: 'it took 2000 ms longer than the disks',
      readBytes: 0,
    });
    expect(pending.waited).toEqual([2000]);
    await expect.poll(held).toBe(0);
  });

  it('ends with a capture that is broken off', async () => {
    const { disk, held } = await silentExport();
    const pending = begin(disk);
    await expect.poll(held).toBe(1);
    await pending.cancel();
    await expect.poll(held).toBe(0);
    const broken = new AbortController();
    const other = begin(disk, { signal: broken.signal });
    broken.abort(new Error('stop'));
    expect(await other.finish()).toEqual({ problem: 'stop', readBytes: 0 });
  });
});
