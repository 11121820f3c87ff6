import { expect, it } from 'vitest';
import { replaceName } from './device-names.ts';
import { namesInMdadmConfig } from './array-names.ts';

const zero = { name: 'host:0', uuid: '00112233-4455-6677-8899-aabbccddeeff' };
const one = { name: 'host:1', uuid: '11112222-3333-4444-5555-666677778888' };

function mended(text: string, found = [zero, one]): string {
  const lines = text.split('\n');
  for (const { line, from, to } of namesInMdadmConfig('/f', text, found)) {
    lines[line - 1] = replaceName(lines[line - 1] ?? '', from, to ?? '?');
  }
  return lines.join('\n');
}

it.each([
  ['DEVICE /dev/sda1 /dev/sdb1', 'DEVICE partitions'],
  ['ARRAY /dev/md0 devices=/dev/sda1,/dev/sdb1', 'ARRAY /dev/md0 UUID=00112233:44556677:8899aabb:ccddeeff'],
  [
    'ARRAY /dev/md/1 level=raid1 devices=/dev/sda2,/dev/sdb2 # x',
    'ARRAY /dev/md/1 level=raid1 UUID=11112222:33334444:55556666:77778888 # x',
  ],
  ['ARRAY /dev/md9 UUID=0:1:2:3 devices=/dev/sda1', 'ARRAY /dev/md9 UUID=0:1:2:3 UUID=0:1:2:3'],
  ['ARRAY /dev/md9 devices=/dev/sda1', 'ARRAY /dev/md9 ?'],
])('%s becomes %s', (before, after) => {
  expect(mended(before)).toBe(after);
});

it.each([
  'DEVICE partitions containers',
  '# DEVICE /dev/sda1',
  'ARRAY /dev/md0 metadata=1.2 UUID=00112233:44556677:8899aabb:ccddeeff',
  'ARRAY /dev/md0 devices=/dev/disk/by-uuid/x',
  'MAILADDR root',
])('%s stays', (line) => {
  expect(mended(line)).toBe(line);
});

it('one array on the disks is the one that is meant', () => {
  expect(mended('ARRAY /dev/md127 devices=/dev/sda1', [zero])).toContain('UUID=00112233:');
});
