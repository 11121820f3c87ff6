import { execFileSync } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { loadHardwareProfile } from '../profile/shipped-profiles.ts';
import { knownWindows, KNOWN_WINDOWS } from '../windows/known-windows.ts';
import { AHCI_INF, OLD_INF, VIRTIO_BLOCK_INF } from '../testing/sample-infs.ts';
import { DriverStore } from './driver-store.ts';
import { matchDrivers } from './match-drivers.ts';

const scratch = mkdtempSync(join(tmpdir(), 'lifeboat-drivers-'));
afterAll(() => rmSync(scratch, { recursive: true }));
const signal = new AbortController().signal;
const nowMs = 1_700_000_000_000;
const newDirectory = (): string => mkdtempSync(join(scratch, 'd-'));
const newStore = (): { store: DriverStore; root: string } => {
  const root = join(newDirectory(), 'drivers');
  return { store: new DriverStore(root), root };
};

function folderWith(files: Record<string, string | Buffer>): string {
  const root = newDirectory();
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), content);
  }
  return root;
}

const VIRTIO = { 'vioblk.inf': VIRTIO_BLOCK_INF, 'VIOBLK.SYS': 'driver', 'vioblk.cat': 'catalogue' };
/** A disc as vendors make them: a folder for each device and Windows, and other things beside. */
const disc = (): string =>
  folderWith({
    ...Object.fromEntries(Object.entries(VIRTIO).map(([name, content]) => [`vioblk/w10/amd64/${name}`, content])),
    'ahci/ahci.inf': Buffer.from(`\uFEFF${AHCI_INF}`, 'utf16le'),
    'ahci/amd64/bin/ahci.sys': 'driver',
    'autorun.inf': '[autorun]\nopen=setup.exe\n',
    'readme.txt': 'read me',
  });

describe('a store of drivers', () => {
  it('takes the packages of a disc, says what they are for, and proves that they stay what they are', async () => {
    const { store, root } = newStore();
    expect(await store.packages()).toEqual([]);
    const source = disc();
    const report = await store.add(source, { licence: 'BSD', nowMs, signal });
    expect(report.leftOut).toEqual([{ path: 'autorun.inf', why: expect.stringContaining('Signature') as string }]);
    expect(report.added).toMatchObject([
      { name: 'ahci', drivers: [{ provider: 'Microsoft', targets: ['amd64 from 10.0', 'amd64 from 10.0, server'] }] },
      {
        name: 'vioblk/w10/amd64',
        source,
        licence: 'BSD',
        addedMs: nowMs,
        drivers: [
          {
            inf: 'vioblk.inf',
            className: 'SCSIAdapter',
            version: '100.95.104.26200',
            date: '2024-07-12',
            catalogueFile: 'vioblk.cat',
            targets: ['amd64 from 10.0', 'amd64 from 6.1', 'x86 from 6.1'],
          },
        ],
      },
    ]);
    expect(await new DriverStore(root).packages()).toEqual(report.added);
    expect(await store.verify(signal)).toEqual({ packages: 2, files: 5, damage: [] });
    expect(statSync(join(root, 'signing.key')).mode & 0o777).toBe(0o600);
    // The same content again is the same package.
    expect(await store.add(source, { nowMs, signal })).toMatchObject({ added: [], known: [{}, {}] });
    expect(await store.packages()).toHaveLength(2);
    expect(readdirSync(root).toSorted()).toEqual(['catalogue.json', 'lock', 'packages', 'signing.key']);
  });

  it.each([
    ['zip', (from: string, to: string) => bsdtar(from, to, '--format', 'zip')],
    ['ISO image', (from: string, to: string) => bsdtar(from, to, '--format', 'iso9660')],
    ['cab', (from: string, to: string) => writeFileSync(to, cabinetOf(from))],
  ])('takes them from a %s, too', async (_, pack) => {
    const { store } = newStore();
    const archive = join(newDirectory(), 'archive');
    pack(folderWith(VIRTIO), archive);
    const { added } = await store.add(archive, { nowMs, signal });
    expect(added.map(({ files }) => files.map(({ path }) => path.toLowerCase()).toSorted())).toEqual([
      ['vioblk.cat', 'vioblk.inf', 'vioblk.sys'],
    ]);
    expect(await store.verify(signal)).toMatchObject({ files: 3, damage: [] });
  });

  it('leaves its folder by no path and no link of an archive', async () => {
    const outside = newDirectory();
    const from = folderWith({ ...VIRTIO });
    symlinkSync(outside, join(from, 'link'));
    symlinkSync('/etc/passwd', join(from, 'secret.sys'));
    const archive = join(newDirectory(), 'a.tar');
    execFileSync('bsdtar', ['-cf', archive, '-s', ',^x,../../escaped,', '-C', from, '.']);
    const { store, root } = newStore();
    const { added } = await store.add(archive, { nowMs, signal });
    expect(added[0]?.files.map(({ path }) => path)).toEqual(['VIOBLK.SYS', 'vioblk.cat', 'vioblk.inf']);
    const evil = join(newDirectory(), 'evil.tar');
    execFileSync('bsdtar', ['-cPf', evil, '-s', ',vioblk.inf,../../escaped.inf,', '-C', from, 'vioblk.inf']);
    await expect(store.add(evil, { nowMs, signal })).rejects.toMatchObject({ code: 'guest.driver-package-unusable' });
    expect(readdirSync(outside)).toEqual([]);
    expect(readdirSync(dirname(root))).toEqual(['drivers']);
  });

  it.each([
    ['does not exist', () => join(scratch, 'nothing')],
    ['no driver', () => folderWith({ 'readme.txt': 'x' })],
    ['no driver', () => folderWith({ 'x.inf': 'x' })],
    ['no archive', () => join(folderWith({ 'setup.exe': Buffer.from('MZ junk') }), 'setup.exe')],
  ])('refuses what is none: %s', async (problem, make) => {
    const { store, root } = newStore();
    await expect(store.add(make(), { nowMs, signal })).rejects.toMatchObject({
      code: 'guest.driver-package-unusable',
      message: expect.stringContaining(problem) as string,
    });
    expect(await store.packages()).toEqual([]);
    expect(readdirSync(root).filter((name) => name.startsWith('unfinished'))).toEqual([]);
  });

  it('is added to by two at once', async () => {
    const { root } = newStore();
    await Promise.all(
      [VIRTIO, { 'old.inf': OLD_INF }].map((files) => new DriverStore(root).add(folderWith(files), { nowMs, signal })),
    );
    expect(await new DriverStore(root).packages()).toHaveLength(2);
  });

  it('names the file that was changed or is gone', async () => {
    const { store } = newStore();
    const { added } = await store.add(folderWith(VIRTIO), { nowMs, signal });
    const directory = store.directoryOf(added[0]?.id ?? '');
    writeFileSync(join(directory, 'VIOBLK.SYS'), 'other');
    rmSync(join(directory, 'vioblk.cat'));
    expect((await store.verify(signal)).damage).toMatchObject([
      { path: 'VIOBLK.SYS', why: expect.stringContaining('SHA-256') as string },
      { path: 'vioblk.cat', why: 'it is not there' },
    ]);
  });

  it.each<[string, (root: string) => void]>([
    ['changed', (root) => edit(root, (text) => text.replace('"vioblk.inf"', '"evil.inf"'))],
    ['changed', (root) => edit(root, (text) => text.replace(/"signature": "./, '"signature": "'))],
    ['not by', (root) => edit(root, (text) => text.replace(/"signer": ".{64}"/, `"signer": "${'0'.repeat(64)}"`))],
    ['not by', (root) => writeFileSync(join(root, 'signing.key'), newKey())],
    ['not JSON', (root) => edit(root, (text) => text.slice(0, -10))],
    ['the key that signed it is not', (root) => rmSync(join(root, 'signing.key'))],
    ['no private key', (root) => writeFileSync(join(root, 'signing.key'), 'x')],
  ])('refuses a catalogue that is not its own: %s', async (problem, harm) => {
    const { store, root } = newStore();
    await store.add(folderWith(VIRTIO), { nowMs, signal });
    harm(root);
    const refused = {
      code: 'guest.driver-catalogue-invalid',
      message: expect.stringContaining(problem) as string,
    };
    await expect(store.packages()).rejects.toMatchObject(refused);
    await expect(store.add(folderWith({ 'old.inf': OLD_INF }), { nowMs, signal })).rejects.toMatchObject(refused);
  });
});

describe('the driver for a device', () => {
  const match = async (store: DriverStore, target: string, windows: string) => {
    const version = knownWindows(windows);
    if (!version) throw new Error(windows);
    const [storage] = await matchDrivers(store, {
      profile: await loadHardwareProfile(target),
      windows: version,
      signal,
    });
    return storage;
  };

  it('is the one that Windows would take, with the service and by which id', async () => {
    const { store } = newStore();
    await store.add(disc(), { nowMs, signal });
    const newer = VIRTIO_BLOCK_INF.replace('07/12/2024', '01/01/2025');
    await store.add(folderWith({ ...VIRTIO, 'vioblk.inf': newer }), { nowMs, signal });
    const found = await match(store, 'virtio-blk', '2022');
    expect(found?.candidates).toMatchObject([
      {
        driver: { date: '2025-01-01' },
        services: ['vioblk'],
        match: { id: 'PCI\\VEN_1AF4&DEV_1042' },
        missingFiles: [],
      },
      { driver: { date: '2024-07-12' } },
    ]);
    expect((await match(store, 'virtio-blk', '2008r2'))?.candidates).toEqual([]);
    expect((await match(store, 'ahci', '2022'))?.candidates).toMatchObject([
      { services: ['ahci', 'helper'], match: { id: 'PCI\\CC_010601', score: 0x2004 } },
    ]);
    expect(await match(store, 'nvme', '11')).toMatchObject({
      candidates: [],
      lookedFor: expect.arrayContaining(['PCI\\CC_010802']) as string[],
    });
  });

  it('cannot be used when the package lacks a file of it', async () => {
    const { store } = newStore();
    await store.add(folderWith({ 'vioblk.inf': VIRTIO_BLOCK_INF }), { nowMs, signal });
    const [candidate] = (await match(store, 'virtio-blk', '11'))?.candidates ?? [];
    expect(candidate?.missingFiles).toEqual(['vioblk.sys']);
    expect(candidate?.driver.catalogueFile).toBeUndefined();
  });

  it('depends on a Windows that is known by name', () => {
    expect(KNOWN_WINDOWS.at(0)).toBe('xp');
    expect(KNOWN_WINDOWS.at(-1)).toBe('2025');
    expect(knownWindows('2008R2-x86')).toMatchObject({
      major: 6,
      minor: 1,
      architecture: 'x86',
      productType: 'server',
    });
    for (const text of ['', '95', '10-sparc', '10-x86-x', 'constructor']) expect(knownWindows(text)).toBeUndefined();
  });
});

function edit(root: string, change: (text: string) => string): void {
  const path = join(root, 'catalogue.json');
  const before = readFileSync(path, 'utf8');
  const after = change(before);
  if (after === before) throw new Error('the edit found nothing to change');
  writeFileSync(path, after);
}

function newKey(): string {
  return generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
}

function bsdtar(from: string, to: string, ...format: string[]): void {
  execFileSync('bsdtar', ['-c', ...format, '-f', to, '-C', from, '.']);
}

/** A cabinet without compression ([MS-CAB]): header, one folder, its files, one block of data each 32 KiB at most. */
function cabinetOf(from: string): Buffer {
  const files = readdirSync(from).map((name) => ({ name, content: readFileSync(join(from, name)) }));
  const data = Buffer.concat(files.map(({ content }) => content));
  if (data.length > 32_768) throw new Error('one block only');
  let offset = 0;
  const entries = files.map(({ name, content }) => {
    const entry = Buffer.alloc(16);
    entry.writeUInt32LE(content.length, 0);
    entry.writeUInt32LE(offset, 4);
    entry.writeUInt16LE(0x5821, 10);
    entry.writeUInt16LE(0x20, 14);
    offset += content.length;
    return Buffer.concat([entry, Buffer.from(`${name}\0`)]);
  });
  const fileBytes = Buffer.concat(entries);
  const header = Buffer.alloc(36 + 8);
  header.write('MSCF', 0);
  header.writeUInt32LE(header.length + fileBytes.length + 8 + data.length, 8);
  header.writeUInt32LE(header.length, 16);
  header.writeUInt8(3, 24);
  header.writeUInt8(1, 25);
  header.writeUInt16LE(1, 26);
  header.writeUInt16LE(files.length, 28);
  header.writeUInt32LE(header.length + fileBytes.length, 36);
  header.writeUInt16LE(1, 40);
  const block = Buffer.alloc(8);
  block.writeUInt16LE(data.length, 4);
  block.writeUInt16LE(data.length, 6);
  return Buffer.concat([header, fileBytes, block, data]);
}
