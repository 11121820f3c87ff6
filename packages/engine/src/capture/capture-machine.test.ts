import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { systemClock } from '@lifeboat/foundation/clock';
import { LifeboatError } from '@lifeboat/foundation/errors';
import { newPointId, parseHostId, parseMachineId, parseOpId, type PointId } from '@lifeboat/foundation/ids';
import { silentLog } from '@lifeboat/foundation/log';
import { systemRandom } from '@lifeboat/foundation/random';
import { KiB, MiB } from '@lifeboat/foundation/units';
import { openStateRoot } from '@lifeboat/host/state';
import { scratchDirectory } from '@lifeboat/host/testing/scratch';
import type { BackupJob, BeginBackup } from '@lifeboat/hypervisor/port';
import type { HealingOutcome } from '@lifeboat/repository/write/healing';
import type { WriteDiskRequest } from '@lifeboat/repository/write/disk-writer';
import type { CommitInput } from '@lifeboat/repository/write/session';
import { describe, expect, it } from 'vitest';
import type { EngineDeps } from '../deps.ts';
import { captureMachine } from './capture-machine.ts';
import { dirtyExport } from './testing/dirty-export.ts';

const MACHINE = parseMachineId('11111111-2222-4333-8444-555555555555');
const context = { signal: new AbortController().signal, progress: () => {} };
const pointOf = (day: number): PointId => newPointId(Date.UTC(2026, 0, day), systemRandom);

/** A machine with one tracked disk, whose job outlives an attempt; a repository whose sessions fail until `works`. */
async function world(options: { nvramPath?: string; running?: boolean } = {}) {
  const exported = await dirtyExport();
  const stateRoot = await scratchDirectory();
  await openStateRoot(stateRoot, systemRandom);
  const root = { sizeBytes: exported.sizeBytes, chunkSizeBytes: MiB } as never;
  const requests: WriteDiskRequest[] = [];
  const state = {
    points: [] as PointId[],
    works: false,
    job: undefined as BackupJob | undefined,
    directory: '',
    /** Of the scratch files' filesystem, and what happened when it was nearly full. */
    leftBytes: Number.MAX_SAFE_INTEGER,
    ended: 0,
    /** What the repository does before it answers these. */
    before: {} as Partial<Record<'newestPoint' | 'beginSession' | 'heal', (signal?: AbortSignal) => Promise<void>>>,
    files: new Map<string, string>(),
    /** What the records of points say otherwise than we write it. */
    recorded: {} as object,
    healed: { chunks: 0 } as HealingOutcome,
  };
  const readPoint = async (machineId: string, pointId: PointId) => {
    const disks = [{ name: 'vda', epoch: 'then', nextSweepChunk: 0 }];
    const capture = { version: 1, machineName: 'm', instantMs: 0, consistency: 'crash', disks, ...state.recorded };
    return { machineId, pointId, capture, disks: [{ name: 'vda', root }], files: [] };
  };
  const session = {
    writeDisk: async (request: WriteDiskRequest) => {
      requests.push(request);
      if (!state.works) throw new Error('the store is away');
      return { root, stats: { readBytes: MiB, sourceBytes: MiB, storedBytes: 7 } };
    },
    compare: async () => ({ mismatches: [], comparedChunks: 0, readBytes: 0, sourceBytes: 0 }),
    async *mapRuns() {},
    heal: async () => {
      await state.before.heal?.();
      return state.healed;
    },
    transferred: { sourceBytes: 0, storedBytes: 0 },
    commit: async ({ pointId, capture, files }: CommitInput) => {
      state.files = new Map(files?.map(({ name, content }) => [name, Buffer.from(content).toString()]));
      return { machineId: MACHINE, pointId, capture };
    },
    detach: async () => {},
  };
  const deps = {
    hypervisor: {
      findMachine: async () => ({ id: MACHINE, name: 'm', domainXml: '<domain/>', disks: [exported], ...options }),
      describeHost: async () => ({ libvirtVersion: '9.0.0', qemuVersion: '7.2.0' }),
      trackingFor: async () => ({ usable: true }),
      currentBackup: async () => state.job && { ours: true, directory: state.directory },
      attachBackup: async () => state.job,
      beginBackup: async ({ pointId, directory }: BeginBackup) => {
        state.directory = directory;
        state.job = {
          pointId,
          disks: [exported],
          consistency: 'crash',
          consistencyReason: '',
          instantMs: 0,
          diskFailedBefore: false,
        };
        return state.job;
      },
      endBackup: async () => {
        if (state.job) state.ended++;
        state.job = undefined;
      },
      machineState: async () => 'running',
      deleteCheckpoint: async () => {},
      listCheckpoints: async () => [],
    },
    repository: {
      chunkSizeBytes: MiB,
      newestPoint: async () => {
        await state.before.newestPoint?.();
        const newest = state.points.at(-1);
        return newest && readPoint(MACHINE, newest);
      },
      readPoint: async (machineId: string, pointId: PointId) => {
        if (state.points.includes(pointId)) return readPoint(machineId, pointId);
        throw new LifeboatError('repository.point-missing', `no ${pointId}`);
      },
      writeObject: async () => undefined,
      beginSession: async ({ signal }: { signal: AbortSignal }) => {
        await state.before.beginSession?.(signal);
        return session;
      },
    },
    free: async () => state.leftBytes,
    stateRoot,
    hostId: parseHostId('host-1'),
    clock: systemClock,
    random: systemRandom,
    log: silentLog,
  } as unknown as EngineDeps;
  const capture = () => captureMachine(deps, { opId: parseOpId('op-1'), machine: 'm' }, context);
  return { state, requests, capture };
}

describe('an attempt that goes on with the job of another', () => {
  it('believes the bitmap if the parent is still that of the job', async () => {
    const { state, requests, capture } = await world();
    state.points = [pointOf(1), pointOf(2)];
    await expect(capture()).rejects.toThrow('away');
    state.works = true;
    const { disks, parentPointId } = await capture();
    expect([disks[0]?.method, parentPointId]).toEqual(['incremental', state.points[1]]);
    expect(requests.map(({ changed }) => changed)).toEqual([requests[0]?.changed, requests[0]?.changed]);
    expect(requests[0]?.changed).toHaveLength(3);
  });

  it.each(['pruned', 'made meanwhile'])('compares everything if the parent was %s', async (what) => {
    const { state, requests, capture } = await world();
    const [first, second] = [pointOf(1), pointOf(2)];
    const [before, after] = what === 'pruned' ? [[first, second], [first]] : [[first], [first, second]];
    state.points = before;
    await expect(capture()).rejects.toThrow('away');
    state.works = true;
    state.points = after;
    const { disks, parentPointId } = await capture();
    expect(parentPointId).toBe(after.at(-1));
    expect(disks[0]).toMatchObject({
      method: 'comparison',
      reason: `the backup job was begun against point ${before.at(-1)}, and the newest point is ${after.at(-1)} now`,
    });
    expect(requests.at(-1)?.changed).toBe('all');
  });
});

describe('a parent whose record cannot be understood', () => {
  it.each([
    ['of a newer release', { version: 2 }, /newer release/],
    ['that an agent wrote which is not ours', { disks: [null] }, /no record of its capture/],
  ])('%s is compared with, and stops no backup', async (_, recorded, why) => {
    const { state, requests, capture } = await world();
    Object.assign(state, { points: [pointOf(1)], works: true, recorded });
    const { disks } = await capture();
    expect(disks).toMatchObject([{ method: 'comparison', reason: expect.stringMatching(why) as string }]);
    expect(requests).toMatchObject([{ changed: 'all', parent: { sizeBytes: requests[0]?.sizeBytes } }]);
  });
});

describe('scratch files that fill their filesystem', () => {
  it('end the job also before anything is read', async () => {
    const { state, requests, capture } = await world({ running: true });
    state.works = true;
    state.before.beginSession = async (signal) => {
      state.leftBytes = 0;
      await new Promise((resolve) => signal?.addEventListener('abort', resolve, { once: true }));
      throw signal?.reason;
    };
    await expect(capture()).rejects.toMatchObject({ code: 'disk.full' });
    expect([state.ended, requests]).toEqual([1, []]);
  });

  it('end the job also while the next attempt asks for its parent', async () => {
    const { state, requests, capture } = await world({ running: true });
    await expect(capture()).rejects.toThrow('away');
    state.works = true;
    state.before.newestPoint = async () => {
      state.leftBytes = 0;
      await systemClock.sleep(300);
    };
    await expect(capture()).rejects.toMatchObject({ code: 'disk.full' });
    expect([state.ended, requests.length]).toEqual([1, 1]);
  });

  it('cost no point once everything is read', async () => {
    const { state, capture } = await world({ running: true });
    state.works = true;
    state.before.heal = async () => {
      state.leftBytes = 0;
      await expect.poll(() => state.ended).toBe(1);
    };
    expect(await capture()).toMatchObject({ machineName: 'm' });
  });
});

describe('the summary of a backup', () => {
  it('says what was healed, and why the rest was not', async () => {
    const { state, capture } = await world();
    state.works = true;
    expect(await capture()).not.toHaveProperty('healedChunks');
    state.healed = { chunks: 3, failure: 'the relocation could not be read' };
    expect(await capture()).toMatchObject({ healedChunks: 3, healingFailure: 'the relocation could not be read' });
  });
});

describe('the UEFI variables of a machine', () => {
  it('are in the point; before its first start there are none, which is no failure', async () => {
    const nvramPath = join(await scratchDirectory(), 'web_VARS.fd');
    const { state, capture } = await world({ nvramPath });
    state.works = true;
    await capture();
    expect([...state.files.keys()]).toEqual(['domain.xml', 'inventory.json']);
    await writeFile(nvramPath, 'boot order');
    await capture();
    expect(state.files.get('nvram')).toBe('boot order');
  });

  it('that cannot be read are an error with the reason, which is no bug', async () => {
    const nvramPath = await scratchDirectory();
    const { state, capture } = await world({ nvramPath });
    state.works = true;
    await expect(capture()).rejects.toMatchObject({ code: 'device.read-failed', context: { path: nvramPath } });
  });
});

describe('the inventory of a machine', () => {
  it('is in the point', async () => {
    const { state, capture } = await world();
    state.works = true;
    expect(await capture()).not.toHaveProperty('noInventory');
    expect(JSON.parse(state.files.get('inventory.json') ?? '')).toMatchObject({
      version: 1,
      disks: [{ name: 'vda', sizeBytes: 8 * MiB + 100 * KiB, scheme: 'none', content: { kind: 'empty' } }],
    });
  });
});
