import { expect, it } from 'vitest';
import type { FilesystemInspection } from '../inspect/guest-inspection.ts';
import { parseFstab } from '../linux/fstab.ts';
import { parseMdadmConfig } from '../linux/volume-names.ts';
import { findSource, type Filesystems } from './filesystem-source.ts';

const plain = { disk: 'vda', offsetBytes: 0, lengthBytes: 1, type: 'ext4', label: '', partitionUuid: '' };
const boot: FilesystemInspection = { ...plain, partition: 1, uuid: 'boot-uuid', partitionUuid: 'part-1' };
const logical = (group: string, volume: string): FilesystemInspection => ({
  ...plain,
  uuid: `${group}-${volume}-uuid`,
  volume: { kind: 'logical-volume', name: `${group}/${volume}`, group, volume, isOrigin: false },
});
const array = (name: string, uuid: string): FilesystemInspection => ({
  ...plain,
  uuid: `fs-of-${name}`,
  label: 'DATA',
  volume: { kind: 'array', name, uuid },
});
const root = logical('vg-0', 'root');
const home = logical('vg-0', 'home');
const zero = array('host:0', '00112233-4455-6677-8899-aabbccddeeff');
const data = array('host:data', '11112222-3333-4444-5555-666677778888');

const machine: Filesystems = {
  onDisks: [boot],
  inVolumes: [root, home, zero, data],
  diskCount: 1,
  arrays: parseMdadmConfig('ARRAY /dev/md7 metadata=1.2 UUID=11112222:33334444:55556666:77778888\n'),
};
const source = (text: string, from: Filesystems = machine): FilesystemInspection => {
  const [entry] = parseFstab(`${text} /m ext4 defaults 0 0`);
  if (!entry) throw new Error('no entry');
  return findSource(entry, from);
};

it.each([
  ['UUID=boot-uuid', boot],
  ['PARTUUID=part-1', boot],
  ['/dev/sda1', boot],
  ['/dev/vg-0/root', root],
  ['/dev/mapper/vg--0-home', home],
  ['UUID=vg-0-root-uuid', root],
  ['/dev/md0', zero],
  ['/dev/md/0', zero],
  ['/dev/md/data', data],
  ['/dev/md7', data],
])('%s is found', (text, expected) => {
  expect(source(text)).toBe(expected);
});

it.each(['/dev/mapper/vg-0-home', '/dev/md1', '/dev/md127', 'LABEL=DATA', '/dev/sda9', 'UUID=none'])(
  '%s is none, or not one, and that is said',
  (text) => {
    expect(() => source(text)).toThrow(expect.objectContaining({ code: 'guest.layout-unsupported' }) as Error);
  },
);

it('with two disks a kernel name says nothing', () => {
  expect(() => source('/dev/sda1', { ...machine, diskCount: 2 })).toThrow(/is 0 of its filesystems/);
});
