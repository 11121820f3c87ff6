/** `lifeboat repo` as a person types it, on a repository in a directory: no hypervisor, no Temporal. */
import {
  existsSync,
  mkdtempSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { newPointId, parseMachineId, type PointId } from '@lifeboat/foundation/ids';
import { silentLog } from '@lifeboat/foundation/log';
import { systemRandom } from '@lifeboat/foundation/random';
import { KiB } from '@lifeboat/foundation/units';
import { takeLock } from '@lifeboat/host/file-lock';
import { fileSource } from '@lifeboat/repository/testing/file-source';
import { inlineSealer } from '@lifeboat/repository/write/inline-sealer';
import { loadConfiguration } from '@lifeboat/runtime/configuration';
import { openConfiguredRepository } from '@lifeboat/runtime/repository';
import { lifeboat, type Ended } from '../support/lifeboat-command.ts';

const DAY = 86_400_000;
/** The instant all points are reckoned from: noon of today, or of yesterday. */
const NOON = Math.floor(Date.now() / DAY) * DAY - DAY / 2;
const WEB = '0b1c2d3e-0000-4000-8000-000000000001';
const DB = '0b1c2d3e-0000-4000-8000-000000000002';

let root: string;
let state: string;
let environment: Record<string, string>;
/** Comes in by another slot. */
let other: Record<string, string>;
/** By how many days before noon they were taken. */
const points: Record<string, PointId[]> = { [WEB]: [], [DB]: [] };

beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), 'lifeboat-repo-cli-'));
  state = join(root, 'state');
  environment = { LIFEBOAT_STATE: state };
  const passphrase = join(root, 'passphrase');
  writeFileSync(passphrase, 'second person\n', { mode: 0o600 });
  other = { ...environment, LIFEBOAT_PASSPHRASE_FILE: passphrase };
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

const repo = (...args: readonly string[]): Promise<Ended> => lifeboat(['repo', ...args], environment);
const repoAs = (who: Record<string, string>, ...args: readonly string[]): Promise<Ended> =>
  lifeboat(['repo', ...args], who);

/** What succeeded, as JSON. */
async function json<T>(...args: readonly string[]): Promise<T> {
  // Progress, which a prune that writes packs anew shows, would stand on stderr.
  const ended = await repo(...args, '--json', '--quiet');
  expect(ended).toMatchObject({ code: 0, stderr: '' });
  return ended.json as T;
}

async function backUp(machine: { id: string; name: string }, daysAgo: number): Promise<void> {
  const configuration = loadConfiguration({ environment });
  const repository = await openConfiguredRepository(configuration, {
    log: silentLog,
    sealer: inlineSealer({ laneCount: 1 }),
  });
  try {
    const machineId = parseMachineId(machine.id);
    const instantMs = NOON - daysAgo * DAY;
    const path = join(root, 'disk');
    writeFileSync(path, Buffer.concat([Buffer.alloc(100 * KiB, daysAgo + 1), systemRandom.bytes(28 * KiB)]));
    const session = await repository.beginSession({ machineId, directory: mkdtempSync(join(root, 'session-')) });
    const { root: disk } = await session.writeDisk(
      { name: 'vda', sizeBytes: 128 * KiB, source: fileSource(path), changed: 'all' },
      { signal: new AbortController().signal },
    );
    const pointId = newPointId(instantMs, systemRandom);
    const capture = { version: 1, machineName: machine.name, instantMs, consistency: 'crash', disks: [] };
    await session.commit({ pointId, machine: {}, capture, disks: [{ name: 'vda', root: disk }] });
    await repository.linkPoints(machineId);
    (points[machine.id] ??= [])[daysAgo] = pointId;
  } finally {
    await repository.close();
  }
}

const web = (daysAgo: number): string => points[WEB]?.[daysAgo] ?? '';
const tombstones = (): number => {
  const directory = join(state, 'repository/control/tombstones');
  return existsSync(directory)
    ? readdirSync(directory, { recursive: true, withFileTypes: true }).filter((e) => e.isFile()).length
    : 0;
};

interface PruneDocument {
  readonly machines: readonly {
    readonly name: string;
    readonly points: readonly {
      readonly pointId: string;
      readonly verdict: 'keep' | 'prune';
      readonly keep: readonly { readonly kind: string }[];
    }[];
  }[];
  readonly swept?: { readonly deletedPoints: number; readonly deletedPacks: number };
}
const goes = ({ machines }: PruneDocument, name: string): string[] =>
  machines
    .filter((machine) => machine.name === name)
    .flatMap((machine) => machine.points.filter(({ verdict }) => verdict === 'prune').map(({ pointId }) => pointId));

describe('a repository', () => {
  it('is made, and says what it is and what guards it', async () => {
    expect(await json('init', '--label', 'first person', '--chunk-size', '64KiB')).toMatchObject({
      chunkSizeBytes: 65_536,
      tenants: [{ slots: [{ label: 'first person', kind: 'key file' }], retention: { fourEyes: false, delayMs: 0 } }],
    });
    expect((await repo('init')).code).toBe(1);
    // The key is asked for nothing here.
    const info = await repoAs({ ...environment, LIFEBOAT_KEY_FILE: '/nowhere' }, 'info');
    expect(info.code).toBe(0);
    expect(info.stdout).toContain('four eyes are off');
    expect(info.stdout).toContain('no policy: nothing is ever pruned');
  });

  it('counts and checks what is in it', async () => {
    for (const daysAgo of [5, 4, 3, 2, 1]) await backUp({ id: WEB, name: 'web' }, daysAgo);
    for (const daysAgo of [3, 2, 1]) await backUp({ id: DB, name: 'db' }, daysAgo);
    expect(await json('stats')).toMatchObject({
      points: 8,
      damagedPoints: 0,
      machines: [
        { machineId: WEB, points: 5 },
        { machineId: DB, points: 3 },
      ],
    });
    const checked = await repo('check', '--level', 'content');
    expect([
      checked.code,
      checked.stdout.split('\n').filter((line) => line.includes('whole (content)')).length,
    ]).toEqual([0, 8]);
  });

  it('checks within a budget, remembers what it looked at, and lists what was proven', async () => {
    const shown = await json<BudgetedCheck>('check', '--budget', '1d', '--dry-run', '--quiet');
    expect(shown.looked.packs).toBe(0);
    expect(shown.coverage.never).toEqual({ packs: shown.coverage.packs, bytes: shown.coverage.bytes });
    const checked = await json<BudgetedCheck>('check', '--budget', '1d', '--quiet');
    expect(checked).toMatchObject({
      points: [],
      looked: { packs: shown.coverage.packs },
      coverage: { never: { packs: 0 } },
    });
    const text = await repo('check', '--budget', '1GiB', '--dry-run');
    expect(text.stdout).toMatch(/within 1 d .*\(100 %\)/);
    const evidence = await lifeboat(['evidence', 'web'], environment);
    expect(evidence.code).toBe(0);
    // Of the check without a budget before this one: a budget proves nothing of a point.
    expect(evidence.stdout).toContain(`${web(1)}: content`);
    expect(evidence.stdout).toContain('the chain is whole: 1 records');
    expect((await lifeboat(['evidence', 'nobody'], environment)).stderr).toContain('[engine.no-such-point]');
  });
});

interface BudgetedCheck {
  readonly looked: { readonly packs: number };
  readonly coverage: { readonly packs: number; readonly bytes: number; readonly never: object };
}

describe('what should be there', () => {
  it('is the machines, from the repository and its key alone', async () => {
    const ended = await lifeboat(['machines', '--json'], environment);
    expect(ended).toMatchObject({
      code: 0,
      json: {
        machines: [
          { machineId: DB, name: 'db', points: 3 },
          { machineId: WEB, name: 'web', points: 5 },
        ],
      },
    });
  });

  it('is every point: the newest, deleted behind our back, is missed by name, and nothing is collected', async () => {
    const [file, aside] = [join(state, 'repository/data/points', WEB, web(1)), join(root, 'aside')];
    renameSync(file, aside);
    const checked = await repo('check', '--level', 'present', '--json');
    expect(checked).toMatchObject({
      code: 3,
      json: { chains: [{ kind: 'point-vanished', machineId: WEB, pointId: web(1) }] },
    });
    const pruned = await repo('prune');
    expect(pruned.code).not.toBe(0);
    expect(pruned.stderr).toContain(`repo prune-point ${WEB} ${web(1)}`);
    renameSync(aside, file);
    expect((await repo('check', '--level', 'present')).code).toBe(0);
  });
});

describe('pruning', () => {
  it('lets go of nothing without a policy, and says so', async () => {
    const ended = await repo('prune');
    expect(ended.code).toBe(0);
    expect(ended.stdout).toContain('There is no retention policy, so no point is ever pruned.');
    expect(tombstones()).toBe(0);
  });

  it('is simulated, point by point with every reason, and changes nothing', async () => {
    expect(await json('policy', 'set', '--last', '1', '--daily', '2', '--reason', 'a test')).toMatchObject({
      outcome: 'done',
      act: { policy: { last: 1, daily: 2, weekly: 0, zone: 'UTC' } },
    });
    await json('policy', 'set', 'db', '--keep-everything');
    const table = await repo('prune', '--dry-run');
    expect(table.code).toBe(0);
    expect(table.stdout).toMatch(/web \(0b1c.*\): last 1, daily 2 \(UTC\) \(the default, entry 1\)/);
    expect(table.stdout).toMatch(new RegExp(`${web(1)} .* keep +newest, last, daily \\d{4}-\\d\\d-\\d\\d`));
    expect(table.stdout).toMatch(new RegExp(`${web(5)} .* prune +no rule keeps it`));
    expect(table.stdout).toMatch(/db \(0b1c.*\): keeps everything \(its own, entry 2\)/);
    const plan = await json<PruneDocument>('prune', '--dry-run');
    expect(goes(plan, 'web')).toEqual([3, 4, 5].map(web));
    expect(goes(plan, 'db')).toEqual([]);
    expect(tombstones()).toBe(0);
    expect(await json('policy', 'show')).toMatchObject({ machines: [{ machineId: DB }], requests: [], lost: [] });
  });

  it('spares what a hold holds and what an operation uses, and collects the rest', async () => {
    const held = await json<{ entry: number }>('hold', 'add', 'web', '--point', web(5), '--reason', 'case 17');
    const listed = await repo('hold', 'list');
    expect(listed.stdout).toMatch(new RegExp(`${held.entry} +${WEB} +${web(5)} .* first person +case 17`));
    const byHand = await repo('prune-point', 'web', web(5));
    expect(byHand.code).toBe(1);
    expect(byHand.stderr).toContain('[repository.point-held]');
    expect(byHand.stderr).toContain(`hold ${held.entry} (case 17)`);

    const operation = join(state, 'ops', 'op-1');
    mkdirSync(operation, { recursive: true });
    const intent = { format: 1, opId: 'op-1', epoch: 0, intent: { verb: 'restore', machine: WEB } };
    writeFileSync(join(operation, 'intent.json'), JSON.stringify(intent));
    const lock = await takeLock(join(operation, 'lock'), { waitMs: 0 });
    const busy = await json<PruneDocument>('prune', '--dry-run');
    expect(goes(busy, 'web')).toEqual([]);
    expect(busy.machines.find(({ name }) => name === 'web')?.points[2]?.keep).toEqual([
      { kind: 'in-use', by: 'restore op-1' },
    ]);
    await lock?.release();

    const pruned = await json<PruneDocument>('prune');
    expect(goes(pruned, 'web')).toEqual([3, 4].map(web));
    expect(pruned.swept).toMatchObject({ state: 'swept', deletedPoints: 2 });
    expect(pruned.swept?.deletedPacks).toBeGreaterThan(0);
    expect(await json('stats')).toMatchObject({ points: 6 });
    expect(goes(await json<PruneDocument>('prune'), 'web')).toEqual([]);
    expect((await repo('check', '--level', 'content')).code).toBe(0);
  });

  it('wrong usage is exit code 2', async () => {
    for (const args of [
      ['policy', 'set'],
      ['policy', 'set', '--daily', '7', '--remove'],
      ['policy', 'set', '--daily', '7', '--zone', 'Mars/Olympus'],
      ['policy', 'set', 'nobody', '--daily', '7'],
      ['policy', 'guard'],
      ['hold', 'add', 'nobody'],
      ['prune-point', 'web', 'yesterday'],
    ]) {
      expect([args, (await repo(...args)).code]).toEqual([args, 2]);
    }
    expect((await repo('hold', 'add', 'web', '--point', 'p20000101T000000Z-00000000')).stderr).toContain(
      '[repository.point-missing]',
    );
  });
});

describe('four eyes', () => {
  it('a second way in is needed, and then another person', async () => {
    expect((await repo('policy', 'guard', '--four-eyes')).stderr).toContain('there is one way into the repository');
    const passphrase = other['LIFEBOAT_PASSPHRASE_FILE'] ?? '';
    await json('keys', 'add', '--label', 'second person', '--passphrase-file', passphrase);
    expect(await json('keys', 'list')).toMatchObject({
      slots: [{ label: 'first person' }, { label: 'second person' }],
    });
    await json('policy', 'guard', '--four-eyes', '--delay', '0');
    expect((await repo('info')).stdout).toContain('four eyes: another key slot must approve; no delay');

    const asked = await repo('hold', 'lift', '3', '--json');
    expect(asked.code).toBe(4);
    expect(asked.json).toMatchObject({ outcome: 'requested', request: { state: 'waiting', label: 'first person' } });
    const { entry } = asked.json as { entry: number };
    const own = await repo('requests', 'approve', String(entry));
    expect([own.code, own.stderr.includes('[repository.retention-refused]')]).toEqual([1, true]);
    const approved = await repoAs(other, 'requests', 'approve', String(entry));
    expect(approved.code).toBe(0);
    expect(approved.stdout).toContain('done, approved by second person');
    expect((await repo('hold', 'list')).stdout).toContain('There are no holds.');
    expect((await repo('requests', 'list')).stdout).toContain('Nothing is asked for.');
  });

  it('with a delay nobody hurries it, and who asked may withdraw', async () => {
    await json('policy', 'guard', '--delay', '24h');
    const asked = await repo('prune-point', 'db', points[DB]?.[3] ?? '', '--reason', 'taken by mistake');
    expect(asked.code).toBe(4);
    const [request] = (await json<{ requests: { entry: number }[] }>('requests', 'list')).requests;
    const number = String(request?.entry);
    expect((await repoAs(other, 'requests', 'approve', number)).stdout).toMatch(/waits until \d{4}-.*second person/);
    // The policy goes on meanwhile: what it keeps no longer without the hold is routine.
    const pruned = await json<PruneDocument & { carriedOut: number[] }>('prune');
    expect(pruned.carriedOut).toEqual([]);
    expect(goes(pruned, 'web')).toEqual([web(5)]);
    expect((await repo('requests', 'withdraw', number)).stdout).toContain('withdrawn');
    expect((await repo('policy', 'set', '--last', '1')).code).toBe(4);
    expect(await json('stats')).toMatchObject({ points: 5 });
  });
});

describe('copies, keys and harm', () => {
  it('copies into a repository with another key, and says what is there', async () => {
    const target = { LIFEBOAT_STATE: join(root, 'target'), LIFEBOAT_REPOSITORY: join(root, 'usb') };
    expect((await repoAs(target, 'init', '--chunk-size', '64KiB')).code).toBe(0);
    const to = ['--to', join(root, 'usb'), '--key-file', join(root, 'target/keys/repository.key')];
    expect((await repo('copy', ...to)).stdout).toContain('5 points copied and read back, 0 were there already');
    expect((await repo('copy', ...to)).stdout).toContain('0 points copied and read back, 5 were there already');
    expect((await repoAs(target, 'check', '--level', 'content')).code).toBe(0);
    // By what the points show, not by when they were copied.
    expect((await repoAs(target, 'policy', 'set', '--daily', '1')).code).toBe(0);
    const plan = (await repoAs(target, 'prune', '--dry-run', '--json')).json as PruneDocument;
    expect([goes(plan, 'web'), goes(plan, 'db')]).toEqual([[web(2)], [2, 3].map((n) => points[DB]?.[n])]);
  });

  it('rotates, and removes a way in', async () => {
    expect(await json('keys', 'rotate')).toMatchObject({ epoch: 2 });
    const { slots } = await json<{ slots: { slotId: string; label: string }[] }>('keys', 'list');
    const slot = slots.find(({ label }) => label === 'second person')?.slotId ?? '';
    await json('keys', 'remove', slot);
    expect((await repoAs(other, 'stats')).stderr).toContain('[repository.wrong-passphrase]');
    expect((await repo('check')).code).toBe(0);
  });

  it('a lost entry of the ledger stops pruning, and is shown', async () => {
    const ledger = join(state, 'repository/data/retention');
    const entry = join(ledger, readdirSync(ledger).find((name) => name.startsWith('00000001.')) ?? '');
    const whole = readFileSync(entry);
    truncateSync(entry, 10);
    const refused = await repo('prune');
    expect(refused.code).toBe(1);
    expect(refused.stderr).toContain('[repository.retention-unreadable]');
    const shown = await repo('policy', 'show');
    expect([shown.code, shown.stdout.includes('entry 1 of the retention ledger is lost')]).toEqual([3, true]);
    writeFileSync(entry, whole);
    expect((await repo('prune')).code).toBe(0);
  });
});
