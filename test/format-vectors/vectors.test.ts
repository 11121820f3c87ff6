/** The bytes of the format, pinned: the writers make them, the readers understand them, and refuse what they do not know. */
import { cpSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseMachineId, parsePointId } from '@lifeboat/foundation/ids';
import { newestVersion, OBJECT_TYPES, sha256, type ObjectType } from '@lifeboat/repository/format/frame';
import { FORMAT_VERSION } from '@lifeboat/repository/format/limits';
import { packObject, type PackName } from '@lifeboat/repository/format/names';
import { inlineOpener } from '@lifeboat/repository/read/blob-opener';
import { openRepository, type Repository } from '@lifeboat/repository/repository';
import { zstd } from '@lifeboat/repository/seal/codec';
import { readKeyFile } from '@lifeboat/repository/seal/key-file';
import type { Secret } from '@lifeboat/repository/seal/secret';
import { DirectoryStore } from '@lifeboat/repository/store/directory-store';
import { Scratch } from '@lifeboat/repository/testing/tiny';
import { pinnedZstd, type Frames } from './fixed.ts';
import {
  FIXTURE,
  framed,
  openFixture,
  read,
  readJson,
  readTree,
  typeOf,
  waysIn,
  type Expected,
  type OpenedFixture,
} from './fixture.ts';
import { AGENT_FILE, POINT_KEYS_FILE, runScenario, SECOND_PASSPHRASE, SECOND_TENANT, WEB } from './scenario.ts';

const scratch = new Scratch();
afterAll(() => scratch.remove());

const objects = readTree(join(FIXTURE, 'repository'));
const files = readTree(join(FIXTURE, 'local'));
const frames = readJson('zstd.json') as Frames;
const expected = readJson('expected.json') as Expected;
const values = readJson('values.json') as Record<string, unknown>;
const vectors = framed(objects, files);
let opened: OpenedFixture;
beforeAll(async () => {
  opened = await openFixture(objects, scratch.directory());
});

const hexOf = (tree: ReadonlyMap<string, Uint8Array>): Record<string, string> =>
  Object.fromEntries([...tree].map(([name, bytes]) => [name, Buffer.from(bytes).toString('hex')]));

describe('the vectors', () => {
  test('are of every type there is, every kind of pack and every way in', () => {
    expect(new Set([...vectors.values()].map(typeOf))).toEqual(new Set(OBJECT_TYPES));
    const said = Object.values(values) as { header?: { kind?: number }; ways?: { kind: string }[] }[];
    expect(new Set(said.flatMap(({ header }) => header?.kind ?? []))).toEqual(new Set([1, 2, 3]));
    const ways = said.flatMap((value) => value.ways ?? []).map(({ kind }) => kind);
    expect(new Set(ways)).toEqual(new Set(['passphrase', 'key file', 'key service', 'paper']));
  });

  test('are of both versions of what agents sign', () => {
    const versions = [...vectors.values()].map((bytes) => `${typeOf(bytes)} ${Buffer.from(bytes).readUInt16BE(12)}`);
    for (const type of ['PONT', 'SESS', 'RELO'])
      expect(versions).toEqual(expect.arrayContaining([`${type} 1`, `${type} 2`]));
  });

  test('are what the writers still make, byte for byte', async () => {
    const made = await runScenario(pinnedZstd(frames), scratch.directory());
    expect(hexOf(made.objects)).toEqual(hexOf(objects));
    expect(hexOf(made.files)).toEqual(hexOf(files));
  });

  test('hold zstd frames that any zstd opens, and today’s zstd makes such frames', () => {
    const current = zstd(1);
    for (const [hash, frame] of Object.entries(frames)) {
      const plain = current.decompress(Buffer.from(frame, 'hex'), 1 << 20);
      expect(plain && sha256(plain).toString('hex')).toBe(hash);
      const again = plain && current.decompress(current.compress(plain), 1 << 20);
      expect(again && sha256(again).toString('hex')).toBe(hash);
    }
  });

  test.each([...vectors])('are read: %s', async (name, bytes) => {
    expect(await read(name, bytes, opened)).toEqual(values[name]);
  });
});

describe('a reader', () => {
  const refusal = async (type: ObjectType, change: (bytes: Uint8Array) => Uint8Array): Promise<unknown> => {
    const [name, bytes] = [...vectors].find(([, candidate]) => typeOf(candidate) === type) ?? [];
    if (name === undefined || bytes === undefined) throw new TypeError(`no vector of ${type}`);
    return read(name, change(bytes), opened).catch((error: unknown) => error);
  };

  test.each(OBJECT_TYPES)('of %s refuses a later version as such, and one that does not exist', async (type) => {
    const versioned = (version: number) => (bytes: Uint8Array) => {
      const changed = Buffer.from(bytes);
      changed.writeUInt16BE(version, 12);
      return type === 'PACK' ? changed : rehashed(changed);
    };
    expect(await refusal(type, versioned(newestVersion(type) + 1))).toMatchObject({ code: 'repository.newer-version' });
    expect(await refusal(type, versioned(0))).toMatchObject({
      message: expect.stringContaining('version 0') as string,
    });
  });

  test.each(OBJECT_TYPES)('of %s refuses a field it does not know', async (type) => {
    const changed = await refusal(type, type === 'PACK' ? withFieldInHeader : withField);
    expect(changed).toMatchObject({ message: expect.stringContaining('unknown field 2000') as string });
  });

  test('of a key file refuses a later one', async () => {
    const line = Buffer.from(files.get('repository.key') ?? '').toString('latin1');
    const path = scratch.file(Buffer.from(line.replace('lifeboat-key-1:', 'lifeboat-key-2:')));
    await expect(readKeyFile(path)).rejects.toMatchObject({ code: 'repository.key-file-unusable' });
  });
});

/** Field 2000, a varint that says 0, as protobuf has it. */
const UNKNOWN_FIELD = Buffer.from([0x80, 0x7d, 0x00]);

/** The first frame, with its hash made right, and what follows it. */
function rehashed(bytes: Buffer): Buffer {
  const end = 18 + bytes.readUInt32BE(14);
  return Buffer.concat([bytes.subarray(0, end), sha256(bytes.subarray(0, end)), bytes.subarray(end + 32)]);
}

function withField(bytes: Uint8Array): Buffer {
  const all = Buffer.from(bytes);
  const length = all.readUInt32BE(14);
  all.writeUInt32BE(length + UNKNOWN_FIELD.length, 14);
  return rehashed(Buffer.concat([all.subarray(0, 18 + length), UNKNOWN_FIELD, all.subarray(18 + length)]));
}

function withFieldInHeader(bytes: Uint8Array): Buffer {
  const all = Buffer.from(bytes);
  const length = all.readUInt16BE(14);
  all.writeUInt16BE(length + UNKNOWN_FIELD.length, 14);
  return Buffer.concat([all.subarray(0, 16 + length), UNKNOWN_FIELD, all.subarray(16 + length)]);
}

describe(`a repository of version ${FORMAT_VERSION}`, () => {
  let directory: string;
  beforeAll(() => {
    directory = scratch.directory();
    cpSync(join(FIXTURE, 'repository'), directory, { recursive: true });
    mkdirSync(join(directory, 'tmp'), { recursive: true });
  });

  const open = (secret: Secret): Promise<Repository> =>
    openRepository({ store: new DirectoryStore(directory), secret, deps: { opener: inlineOpener() } });
  const listed = async (repository: Repository): Promise<unknown[]> =>
    (await repository.points()).map(({ state, machineId, pointId }) => [state, machineId, pointId]);
  const restored = async (repository: Repository): Promise<unknown[]> => {
    const disks: unknown[] = [];
    for (const wanted of expected.disks.filter(({ tenant }) => tenant === repository.tenantName)) {
      const point = await repository.readPoint(parseMachineId(wanted.machineId), parsePointId(wanted.pointId));
      const device = repository.openDisk(point, wanted.disk);
      const content = Buffer.alloc(device.sizeBytes);
      await device.read(0, content);
      disks.push({ ...wanted, sizeBytes: content.length, sha256: sha256(content).toString('hex') });
    }
    return disks;
  };

  test.each(Object.entries(waysIn(scratch.directory())))(
    'is listed, checked and restored by its %s',
    async (_, secret) => {
      const repository = await open(secret);
      expect(await listed(repository)).toEqual([
        ['readable', 'web', 'p20260101T000001Z-00000001'],
        ['readable', 'web', 'p20260101T000002Z-00000002'],
        ['readable', 'db', 'p20260101T000004Z-00000004'],
        ['readable', 'web', 'p20260101T000005Z-00000005'],
        ['readable', 'db', 'p20260101T000007Z-00000007'],
        ['readable', 'mail', 'p20260101T000008Z-00000008'],
        ['readable', 'mail', 'p20260101T000009Z-00000009'],
      ]);
      for (const { machineId = WEB, pointId } of await repository.points()) {
        const point = await repository.readPoint(machineId, parsePointId(pointId ?? ''));
        const { signal } = new AbortController();
        const report = await repository.checkPoint(point, 'content', { signal, progress: () => {} });
        expect(report).toMatchObject({ sound: true });
      }
      expect(await restored(repository)).toEqual(expected.disks.filter(({ tenant }) => tenant === 'default'));
    },
  );

  test('shows its agent the points of its machine, and no chunk', async () => {
    const local = scratch.directory();
    waysIn(local);
    const secret = { agentFile: join(local, AGENT_FILE) };
    const repository = await openRepository({ store: new DirectoryStore(directory), secret });
    const points = await repository.points();
    expect(points.map(({ machineId, pointId }) => `${machineId} ${pointId}`)).toEqual([
      'mail p20260101T000008Z-00000008',
      'mail p20260101T000009Z-00000009',
    ]);
    const point = await repository.readPoint(parseMachineId('mail'), parsePointId('p20260101T000009Z-00000009'));
    await expect(repository.openDisk(point, 'vda').read(0, Buffer.alloc(1))).rejects.toMatchObject({
      code: 'repository.not-permitted',
    });
    await repository.close();
  });

  test('gives who has the keys of a point that point, and no other', async () => {
    const local = scratch.directory();
    waysIn(local);
    const secret = { pointKeysFile: join(local, POINT_KEYS_FILE) };
    const store = new DirectoryStore(directory);
    const repository = await openRepository({ store, secret, deps: { opener: inlineOpener() } });
    const [mail, eight, nine] = [parseMachineId('mail'), 'p20260101T000008Z-00000008', 'p20260101T000009Z-00000009'];
    const device = repository.openDisk(await repository.readPoint(mail, parsePointId(nine)), 'vda');
    const content = Buffer.alloc(device.sizeBytes);
    await device.read(0, content);
    const wanted = expected.disks.find(({ pointId, disk }) => pointId === nine && disk === 'vda');
    expect(sha256(content).toString('hex')).toBe(wanted?.sha256);
    await expect(repository.readPoint(mail, parsePointId(eight))).rejects.toMatchObject({
      code: 'repository.not-permitted',
    });
  });

  test('has a second tenant, which opens by itself', async () => {
    const repository = await open({ passphrase: SECOND_PASSPHRASE });
    expect(repository.tenantName).toBe(SECOND_TENANT);
    expect(await listed(repository)).toEqual([['readable', 'web', 'p20260101T000006Z-00000006']]);
    expect(await restored(repository)).toEqual(expected.disks.filter(({ tenant }) => tenant === SECOND_TENANT));
  });

  test('gives its disks from where a relocation says they are', async () => {
    rmSync(join(directory, packObject(expected.movedPack as PackName)));
    const repository = await open({ passphrase: 'correct horse' });
    expect(await restored(repository)).toEqual(expected.disks.filter(({ tenant }) => tenant === 'default'));
  });
});
