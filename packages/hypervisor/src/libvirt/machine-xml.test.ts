import { parseHostId, parseOpId } from '@lifeboat/foundation/ids';
import { describe, expect, test } from 'vitest';
import type { Controller, MachineShape } from '../port.ts';
import { attributeOf, child, childrenOf, readXml, textOf } from '../xml/xml-reader.ts';
import { describeDomain } from './machine-description.ts';
import { machineXml } from './machine-xml.ts';
import { ownerInXml } from './owner-tag.ts';

const UUID = '6695eb01-f6a4-8304-79aa-97f2502e193f';

function shape(controllers: readonly Controller[], more: Partial<MachineShape> = {}): MachineShape {
  return {
    opId: parseOpId('op-1'),
    hostId: parseHostId('host-a'),
    name: `it's <a> & b`,
    uuid: UUID,
    memoryMiB: 512,
    vcpus: 2,
    firmware: 'bios',
    disks: controllers.map((controller, index) => ({
      controller,
      path: `/d/${index}`,
      format: 'qcow2',
      serial: `s${index}`,
    })),
    network: { kind: 'none' },
    ...more,
  };
}

const tcg = { accelerator: 'tcg' } as const;

describe('a shape', () => {
  test('becomes a machine that is described as it was asked for', () => {
    for (const controller of [
      'virtio-blk',
      'virtio-scsi',
      'ahci',
      'ide',
      'lsi',
      'megasas',
      'pvscsi',
      'mptsas',
    ] as const) {
      const xml = machineXml(shape([controller, controller]), tcg);
      expect(describeDomain(xml)).toMatchObject({
        id: UUID,
        name: `it's <a> & b`,
        memoryMiB: 512,
        vcpus: 2,
        disks: [
          { controller, path: '/d/0', serial: 's0' },
          { controller, path: '/d/1', serial: 's1' },
        ],
      });
      expect(ownerInXml(xml)).toEqual({ opId: 'op-1', hostId: 'host-a' });
    }
  });

  test('gives disks of a SAS controller, and no others, a name of that kind each', () => {
    const names = (controller: Controller) =>
      childrenOf(child(readXml(machineXml(shape([controller, controller]), tcg)), 'devices'), 'disk').map((disk) =>
        textOf(disk, 'wwn'),
      );
    expect(names('mptsas')).toEqual(['3000000000000001', '3000000000000002']);
    expect(names('megasas')).toEqual([undefined, undefined]);
  });

  test('boots in the order of its disks, NVMe among them', () => {
    const domain = readXml(machineXml(shape(['nvme', 'virtio-blk', 'nvme']), tcg));
    expect(attributeOf(child(domain, 'devices/disk'), 'boot', 'order')).toBe('2');
    const args = childrenOf(child(domain, 'qemu:commandline'), 'qemu:arg').map(
      (arg) => arg.attributes.get('value') ?? '',
    );
    const devices = args.filter((_arg, index) => args[index - 1] === '-device').map((arg) => JSON.parse(arg) as object);
    expect(devices).toMatchObject([
      { driver: 'nvme', serial: 's0', bootindex: 1 },
      { driver: 'nvme', serial: 's2', bootindex: 3 },
    ]);
  });

  test('runs on KVM with the CPU of the host, and emulated with one that current systems accept', () => {
    const kvm = readXml(machineXml(shape([]), { accelerator: 'kvm' }));
    expect([kvm.attributes.get('type'), attributeOf(kvm, 'cpu', 'mode')]).toEqual(['kvm', 'host-passthrough']);
    const emulated = readXml(machineXml(shape([]), tcg));
    expect([emulated.attributes.get('type'), textOf(emulated, 'cpu/model')]).toEqual(['qemu', 'qemu64']);
  });

  test('names many disks as Linux would', () => {
    const many = shape(Array.from({ length: 28 }, () => 'virtio-blk' as const));
    const names = describeDomain(machineXml(many, tcg)).disks.map(({ name }) => name);
    expect([names[0], names[25], names[26], names[27]]).toEqual(['vda', 'vdz', 'vdaa', 'vdab']);
  });

  test('writes out what an overlay stands on, so that nothing is probed', () => {
    const [disk] = shape(['ahci']).disks;
    if (!disk) throw new Error('no disk');
    const nbd = { ...disk, backing: { socketPath: '/run/x.sock', exportName: 'sda' } };
    const store = child(readXml(machineXml(shape([], { disks: [nbd] }), tcg)), 'devices/disk/backingStore');
    expect(attributeOf(store, 'source/host', 'socket')).toBe('/run/x.sock');
    expect(child(store, 'backingStore')?.children).toEqual([]);
  });

  test('is alone on its isolated network, beside NVMe disks as well', () => {
    const network = { kind: 'isolated', model: 'e1000e', capturePath: '/d/a,b.pcap' } as const;
    const args = (controllers: readonly Controller[], more = network): string[] =>
      childrenOf(
        child(readXml(machineXml(shape(controllers, { network: more }), tcg)), 'qemu:commandline'),
        'qemu:arg',
      ).map((arg) => arg.attributes.get('value') ?? '');
    const valueOf = (all: readonly string[], option: string): string => all[all.lastIndexOf(option) + 1] ?? '';
    const nvme = args(['nvme']);
    expect(nvme.filter((arg) => arg === '-device')).toHaveLength(2);
    expect(valueOf(nvme, '-netdev')).toContain('restrict=on');
    expect(JSON.parse(valueOf(nvme, '-object'))).toMatchObject({ 'qom-type': 'filter-dump', file: '/d/a,b.pcap' });
    expect(JSON.parse(valueOf(nvme, '-device'))).toMatchObject({ driver: 'e1000e', bus: 'pcie.0' });
    expect(JSON.parse(valueOf(args(['ide']), '-device'))).toMatchObject({ bus: 'pci.0' });
    expect(machineXml(shape(['ahci'], { network }), tcg)).not.toContain('<interface');
    const cards = ['virtio', 'virtio-transitional', 'ne2k_pci', 'vmxnet3'].map(
      (model) =>
        (JSON.parse(valueOf(args([], { ...network, model } as never), '-device')) as { driver: string }).driver,
    );
    expect(cards).toEqual(['virtio-net-pci', 'virtio-net-pci', 'e1000', 'vmxnet3']);
  });

  test('opens no port, and reaches a network only when it is given one', () => {
    const xml = machineXml(shape(['ahci']), tcg);
    expect(xml).not.toMatch(/<interface|port='-1'|autoport/);
    const joined = machineXml(shape([], { network: { kind: 'network', name: 'n1', model: 'e1000e' } }), tcg);
    expect(attributeOf(readXml(joined), 'devices/interface/source', 'network')).toBe('n1');
  });
});
