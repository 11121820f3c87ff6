import { parsePointId } from '@lifeboat/foundation/ids';
import { describe, expect, test } from 'vitest';
import { backupXml, checkpointXml, directoryOfJob, pointOfCheckpoint, socketPathIn } from './backup-xml.ts';

const POINT = parsePointId('p20261124T001122Z-9f86d081');
const disks = [
  { name: 'sda', tracked: true, incrementalFrom: 'lb-p20261123T001122Z-00000000' },
  { name: 'sdb', tracked: false, incrementalFrom: undefined },
];

describe('backup jobs', () => {
  test('what is written is recognised as lying in its directory', () => {
    expect(directoryOfJob(backupXml('/var/lib/it’s & co', disks, ['sdc']))).toBe('/var/lib/it’s & co');
  });

  test.each([
    [
      'a scratch file elsewhere',
      "<server socket='/a/s'/><disks><disk backup='yes'><scratch file='/b/x'/></disk></disks>",
    ],
    ['a socket elsewhere', "<server socket='/b/s'/><disks><disk backup='yes'><scratch file='/a/x'/></disk></disks>"],
    ['a TCP server', "<server transport='tcp'/><disks><disk backup='yes'><scratch file='/a/x'/></disk></disks>"],
    ['no scratch file', "<server socket='/a/s'/><disks><disk backup='yes'/></disks>"],
    ['a push job', "<disks><disk backup='yes'><target file='/a/x'/></disk></disks>"],
  ])('a job with %s has no directory of ours', (_what, content) => {
    expect(directoryOfJob(`<domainbackup>${content}</domainbackup>`)).toBeUndefined();
  });

  test('disks that take no part do not matter', () => {
    const xml = `<domainbackup><server socket='/a/s'/><disks><disk backup='no'/>
      <disk backup='yes'><scratch file='/a/x'/></disk></disks></domainbackup>`;
    expect(directoryOfJob(xml)).toBe('/a');
  });

  test('a checkpoint is made only where a disk can carry one', () => {
    expect(checkpointXml(POINT, disks, [])).toContain(`<name>lb-${POINT}</name>`);
    expect(checkpointXml(POINT, [{ name: 'sdb', tracked: false, incrementalFrom: undefined }], [])).toBeUndefined();
  });

  test('only names that are exactly ours are points', () => {
    expect(pointOfCheckpoint(`lb-${POINT}`)).toBe(POINT);
    for (const name of [POINT, `lb-${POINT}x`, 'lb-', 'snap1', `xlb-${POINT}`, `lb-${POINT}\n`]) {
      expect(pointOfCheckpoint(name)).toBeUndefined();
    }
  });

  test('a socket path of 107 bytes is the longest', () => {
    expect(socketPathIn(`/${'d'.repeat(97)}`)).toHaveLength(107);
    expect(() => socketPathIn(`/${'d'.repeat(98)}`)).toThrow(/longer than the 107 bytes/);
    // Bytes, not characters.
    expect(() => socketPathIn(`/${'ü'.repeat(50)}`)).toThrow(/longer than the 107 bytes/);
  });
});
