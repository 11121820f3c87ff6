import { describe, expect, test } from 'vitest';
import { sourcesOf } from './machine-sources.ts';

const domain = (devices: string, more = ''): string => `<domain><devices>${devices}</devices>${more}</domain>`;

describe('what a machine runs from', () => {
  test('disks, drives, all that is below them, and what they are copied to', () => {
    const devices = `
      <disk type='file'><source file='/d/top.qcow2'/><target dev='vda'/>
        <backingStore type='file'><format type='qcow2'/><source file='/d/middle.qcow2'/>
          <backingStore type='block'><source dev='/dev/vg/base'/><backingStore/></backingStore></backingStore>
        <mirror type='file'><source file='/d/copy.qcow2'/></mirror></disk>
      <disk type='file' device='cdrom'><source file='/iso/one.iso'/></disk>
      <disk type='file' device='cdrom'><target dev='sdb'/></disk>
      <disk type='network'><source protocol='nbd' name='x'/></disk>`;
    const nvram = "<os><nvram template='/t'>/nv/web.fd</nvram></os>";
    const paths = ['/d/top.qcow2', '/d/middle.qcow2', '/dev/vg/base', '/d/copy.qcow2', '/iso/one.iso', '/nv/web.fd'];
    expect(sourcesOf(domain(devices, nvram))).toEqual({ paths, untold: [] });
  });

  test('what is passed to QEMU as arguments', () => {
    const values = [
      '-blockdev',
      '{&quot;driver&quot;:&quot;qcow2&quot;,&quot;file&quot;:{&quot;driver&quot;:&quot;file&quot;,&quot;filename&quot;:&quot;/d/nvme.qcow2&quot;}}',
      '{no json',
      'if=none,file=/d/a,,b.raw,format=raw',
      'driver=raw,file.filename=/d/c.raw',
    ];
    const args = values.map((value) => `<qemu:arg value="${value}"/>`).join('');
    const more = `<qemu:commandline>${args}</qemu:commandline>`;
    expect(sourcesOf(domain('', more)).paths).toEqual(['/d/nvme.qcow2', '/d/a,b.raw', '/d/c.raw']);
  });

  test('what cannot be told is said', () => {
    const devices = `<disk type='volume'><source pool='p' volume='v'/><target dev='vdb'/></disk>
      <hostdev mode='subsystem' type='scsi'><source><adapter name='scsi_host0'/></source></hostdev>
      <hostdev mode='subsystem' type='pci'><source/></hostdev>`;
    expect(sourcesOf(domain(devices))).toEqual({
      paths: [],
      untold: ["disk vdb is of type 'volume'", 'a SCSI device of this host is passed to it'],
    });
  });
});
