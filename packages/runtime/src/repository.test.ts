import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseMachineId, parsePointId } from '@lifeboat/foundation/ids';
import { silentLog } from '@lifeboat/foundation/log';
import type { Repository } from '@lifeboat/repository/repository';
import { fileSource } from '@lifeboat/repository/testing/file-source';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { loadConfiguration } from './configuration.ts';
import { enrolAgent, grantPoint, listAgents, policiesOf, revokeAgent } from './agents-admin.ts';
import { infoOf, initConfigured, printKey } from './repository-admin.ts';
import { openConfiguredRepository, openOrMakeRepository } from './repository.ts';
import { pruneVanished } from './retention-admin.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'lifeboat-repository-'));
});
afterEach(() => rmSync(directory, { recursive: true }));

describe('the repository of a first backup', () => {
  it('is made once; an empty mount point where it was is left empty', async () => {
    const place = join(directory, 'usb');
    const environment = { LIFEBOAT_STATE: join(directory, 'state'), LIFEBOAT_REPOSITORY: place };
    const configuration = loadConfiguration({ environment });
    const open = async (): Promise<string> => {
      const repository = await openOrMakeRepository(configuration, { log: silentLog });
      await repository.close();
      return repository.repositoryId;
    };
    const id = await open();
    renameSync(place, `${place}-pulled-out`);
    for (const leave of [() => {}, () => mkdirSync(place)]) {
      leave();
      const away = { code: 'repository.store-unreachable', message: expect.stringContaining('not mounted') as string };
      await expect(open()).rejects.toMatchObject(away);
      await expect(openConfiguredRepository(configuration, { log: silentLog })).rejects.toMatchObject(away);
      await expect(infoOf(configuration)).rejects.toMatchObject(away);
    }
    expect(readdirSync(place)).toEqual([]);
    rmSync(place, { recursive: true });
    renameSync(`${place}-pulled-out`, place);
    expect(await open()).toBe(id);
  });
});

describe('a key that is printed', () => {
  it('is in a private file that opens the repository; a page that cannot be written leaves no way in', async () => {
    const environment = { LIFEBOAT_STATE: join(directory, 'state') };
    const configuration = loadConfiguration({ environment });
    await initConfigured(configuration, {});
    const path = join(directory, 'page.txt');
    const full = {
      path,
      render: (): string => {
        throw new Error('disk full');
      },
    };
    await expect(printKey(configuration, { label: 'safe', output: full })).rejects.toThrow('disk full');
    expect(existsSync(path)).toBe(false);
    const kinds = async (): Promise<string[] | undefined> =>
      (await infoOf(configuration)).tenants[0]?.slots.map(({ kind }) => kind);
    expect(await kinds()).toEqual(['key file']);

    await printKey(configuration, { label: 'safe', output: { path, render: ({ lines }) => lines.join('\n') } });
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(await kinds()).toEqual(['key file', 'paper']);
    const onPaper = loadConfiguration({ environment: { ...environment, LIFEBOAT_PAPER_FILE: path } });
    const opened = await openConfiguredRepository(onPaper, { log: silentLog });
    await opened.close();

    writeFileSync(path, 'something else');
    const again = printKey(configuration, { label: 'safe', output: { path, render: () => '' } });
    await expect(again).rejects.toMatchObject({ code: 'input.invalid' });
    expect(statSync(path).size).toBe(14);
  });
});

describe('the policies of the buckets, for a host with an agent’s file', () => {
  const whose = { principal: 'host-7', tenant: { id: 'a'.repeat(32), isFirst: true } };
  const of = (settings: Record<string, string>): unknown =>
    policiesOf(loadConfiguration({ environment: { LIFEBOAT_STATE: directory, ...settings } }).repository.place, whose);

  it('are one for each bucket; only where packs are locked by their put they let it lock', () => {
    const settings = { LIFEBOAT_REPOSITORY: 's3://data/site', LIFEBOAT_CONTROL: 's3://records/site' };
    const text = (policies: unknown): string => JSON.stringify(policies);
    const plain = of(settings);
    expect(plain).toMatchObject([{ bucket: 'data' }, { bucket: 'records' }]);
    expect(text(plain)).toContain('arn:aws:s3:::records/site/control/sessions/*');
    expect(text(plain)).not.toContain('PutObjectRetention');
    const locked = of({ ...settings, LIFEBOAT_LOCK_DAYS: '30' }) as unknown[];
    expect(locked.map((policy) => text(policy).includes('PutObjectRetention'))).toEqual([true, false]);
  });

  it('are none for a directory, which has no such thing', () => {
    expect(() => of({})).toThrow(expect.objectContaining({ code: 'input.invalid' }));
  });
});

describe('an agent', () => {
  const at = { signal: new AbortController().signal };

  it('opens the repository with its private file, and does not become anything else', async () => {
    const environment = { LIFEBOAT_STATE: join(directory, 'state') };
    const configuration = loadConfiguration({ environment });
    await initConfigured(configuration, {});
    const output = join(directory, 'host.agent');
    const input = { name: 'host', machines: ['web', 'db'], validDays: 30, output };
    const agent = await enrolAgent(configuration, input, at);
    expect(agent).toMatchObject({ state: 'active', machines: ['db', 'web'] });
    expect(statSync(output).mode & 0o777).toBe(0o600);
    // Neither a file that is there nor a name that is taken costs anything.
    await expect(enrolAgent(configuration, { ...input, name: 'other' }, at)).rejects.toMatchObject({
      code: 'input.invalid',
    });
    const second = join(directory, 'second.agent');
    await expect(enrolAgent(configuration, { ...input, output: second }, at)).rejects.toMatchObject({
      code: 'repository.agent-exists',
    });
    expect(existsSync(second)).toBe(false);
    expect(await listAgents(configuration, at)).toEqual([agent]);

    const onHost = loadConfiguration({ environment: { ...environment, LIFEBOAT_AGENT_FILE: output } });
    const repository = await openOrMakeRepository(onHost, { log: silentLog });
    expect(await repository.points()).toEqual([]);
    const pointId = parsePointId('p20260101T000000Z-00000001');
    const content = Buffer.alloc(3000, 'what the machine holds ');
    writeFileSync(join(directory, 'disk'), content);
    const machineId = parseMachineId('web');
    const session = await repository.beginSession({ machineId, directory: join(directory, 'operation') });
    const source = fileSource(join(directory, 'disk'));
    const request = { name: 'vda', sizeBytes: content.length, source, changed: 'all' } as const;
    const { root } = await session.writeDisk(request, at);
    await session.commit({ pointId, machine: {}, capture: {}, disks: [{ name: 'vda', root }] });
    const read = async (from: Repository): Promise<Buffer> => {
      const found = Buffer.alloc(content.length);
      await from.openDisk(await from.readPoint(machineId, pointId), 'vda').read(0, found);
      return found;
    };
    await expect(read(repository)).rejects.toMatchObject({ code: 'repository.not-permitted' });
    await repository.close();

    const keys = join(directory, 'web.keys');
    const granted = { machine: 'web', point: pointId, output: keys };
    expect(await grantPoint(configuration, granted, at)).toEqual({ machineId, pointId, file: keys });
    expect(statSync(keys).mode & 0o777).toBe(0o600);
    await expect(grantPoint(configuration, granted, at)).rejects.toMatchObject({ code: 'input.invalid' });
    const missing = { ...granted, machine: 'db', output: `${keys}-2` };
    await expect(grantPoint(configuration, missing, at)).rejects.toMatchObject({ code: 'repository.point-missing' });
    expect(existsSync(`${keys}-2`)).toBe(false);
    const withKeys = loadConfiguration({ environment: { ...environment, LIFEBOAT_POINT_KEYS_FILE: keys } });
    const reader = await openConfiguredRepository(withKeys, { log: silentLog });
    expect(await read(reader)).toEqual(content);
    await reader.close();
    await expect(listAgents(onHost, at)).rejects.toMatchObject({ code: 'repository.not-permitted' });
    const elsewhere = loadConfiguration({
      environment: { LIFEBOAT_STATE: join(directory, 'new'), LIFEBOAT_AGENT_FILE: output },
    });
    await expect(openOrMakeRepository(elsewhere, { log: silentLog })).rejects.toMatchObject({ code: 'input.invalid' });

    const revoked = await revokeAgent(configuration, { agent: 'host', reason: 'sold' }, at);
    expect(revoked).toMatchObject({ state: 'revoked', revocation: { reason: 'sold' } });
    await expect(revokeAgent(configuration, { agent: 'nobody', reason: '' }, at)).rejects.toMatchObject({
      code: 'repository.agent-missing',
    });
  });
});

describe('points that are gone', () => {
  it('are let go of together, and nothing else is', async () => {
    const at = { signal: new AbortController().signal };
    const place = join(directory, 'place');
    const environment = { LIFEBOAT_STATE: join(directory, 'state'), LIFEBOAT_REPOSITORY: place };
    const configuration = loadConfiguration({ environment });
    await initConfigured(configuration, {});
    const repository = await openConfiguredRepository(configuration, { log: silentLog });
    const machineId = parseMachineId('web');
    const ids = [1, 2, 3].map((n) => parsePointId(`p20260101T00000${n}Z-0000000${n}`));
    for (const pointId of ids) {
      const session = await repository.beginSession({ machineId, directory: join(directory, `operation-${pointId}`) });
      await session.commit({ pointId, machine: {}, capture: {}, disks: [] });
    }
    await repository.linkPoints(machineId, at);
    const [kept, ...gone] = ids;
    for (const pointId of gone) rmSync(join(place, 'data/points/web', pointId));
    await expect(repository.condemn()).rejects.toMatchObject({ code: 'repository.collection-refused' });
    const what = { machine: 'web', reason: 'lost' };
    const told = await pruneVanished(configuration, { ...what, dryRun: true }, at);
    expect(told).toEqual({ machineId, points: gone, requests: [] });
    await expect(repository.condemn()).rejects.toMatchObject({ code: 'repository.collection-refused' });
    expect(await pruneVanished(configuration, { ...what, dryRun: false }, at)).toEqual(told);
    expect((await pruneVanished(configuration, { ...what, dryRun: false }, at)).points).toEqual([]);
    await repository.condemn();
    expect((await repository.points(machineId)).map(({ pointId }) => pointId)).toEqual([kept]);
    await repository.close();
  });
});
