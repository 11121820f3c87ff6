/** A domain's XML as the machine it describes. */
import path from 'node:path';
import { LifeboatError } from '@lifeboat/foundation/errors';
import { parseMachineId, type MachineId } from '@lifeboat/foundation/ids';
import type { Controller, MachineDescription } from '../port.ts';
import { attributeOf, child, childrenOf, readXml, textOf, type XmlElement } from '../xml/xml-reader.ts';

/** A disk as its domain names it, before its image was looked at. */
export interface DomainDisk {
  readonly name: string;
  readonly controller: Controller | 'other';
  readonly path: string;
  readonly format: 'qcow2' | 'raw';
  readonly readOnly: boolean;
  readonly serial: string | undefined;
}

export type DomainDescription = Omit<MachineDescription, 'running' | 'disks'> & {
  readonly disks: readonly DomainDisk[];
};

const SCSI_CONTROLLERS: Readonly<Record<string, Controller>> = {
  'virtio-scsi': 'virtio-scsi',
  'virtio-transitional': 'virtio-scsi',
  'virtio-non-transitional': 'virtio-scsi',
  lsilogic: 'lsi',
  lsisas1078: 'megasas',
  vmpvscsi: 'pvscsi',
  lsisas1068: 'mptsas',
};
const BUSES: Readonly<Record<string, Controller>> = { virtio: 'virtio-blk', sata: 'ahci', ide: 'ide' };
/** Where the system daemon of libvirt keeps the UEFI variables of machines that name no place. */
export const NVRAM_DIRECTORY = '/var/lib/libvirt/qemu/nvram';
const KIB_PER_UNIT: Readonly<Record<string, number>> = { b: 1 / 1024, KiB: 1, MiB: 1024, GiB: 1024 ** 2 };

/** Errors: `hypervisor.bad-xml`, `hypervisor.unsupported-disk`. */
export function describeDomain(domainXml: string): DomainDescription {
  const domain = readXml(domainXml);
  const devices = child(domain, 'devices');
  const name = required(domain, 'name');
  const nvramPath = nvramPathOf(domain, name);
  const tpm = attributeOf(child(devices, 'tpm'), 'backend', 'version');
  const machineType = attributeOf(domain, 'os/type', 'machine');
  const disks = childrenOf(devices, 'disk').filter((disk) => (disk.attributes.get('device') ?? 'disk') === 'disk');
  return {
    id: machineIdOf(domain),
    name,
    memoryMiB: memoryMiB(domain),
    vcpus: Number(textOf(domain, 'vcpu') ?? 1),
    firmware: isUefi(domain) ? 'uefi' : 'bios',
    ...(hasSecureBoot(domain) ? { secureBoot: true } : {}),
    ...(tpm === undefined ? {} : { tpm }),
    ...(machineType === undefined ? {} : { machineType }),
    ...(nvramPath === undefined ? {} : { nvramPath }),
    disks: disks.map((disk) => describeDisk(disk, devices, name)),
    nics: childrenOf(devices, 'interface').map((nic) => {
      const network = attributeOf(nic, 'source', 'network') ?? attributeOf(nic, 'source', 'bridge');
      return {
        mac: attributeOf(nic, 'mac', 'address') ?? '',
        model: attributeOf(nic, 'model', 'type') ?? 'default',
        ...(network === undefined ? {} : { network }),
      };
    }),
    guestAgentChannel: childrenOf(devices, 'channel').some(
      (channel) => attributeOf(channel, 'target', 'name') === 'org.qemu.guest_agent.0',
    ),
    domainXml,
  };
}

function machineIdOf(domain: XmlElement): MachineId {
  return parseMachineId(required(domain, 'uuid'));
}

function describeDisk(disk: XmlElement, devices: XmlElement | undefined, machine: string): DomainDisk {
  const name = attributeOf(disk, 'target', 'dev') ?? '?';
  const type = disk.attributes.get('type') ?? 'file';
  const source = attributeOf(disk, 'source', 'file') ?? attributeOf(disk, 'source', 'dev');
  const format = attributeOf(disk, 'driver', 'type') ?? 'raw';
  if ((type !== 'file' && type !== 'block') || source === undefined) {
    throw unsupported(machine, name, `is of type '${type}'${source === undefined ? ' and names no file' : ''}`);
  }
  if (format !== 'qcow2' && format !== 'raw') throw unsupported(machine, name, `has the image format '${format}'`);
  return {
    name,
    controller: controllerOf(disk, devices),
    path: source,
    format,
    readOnly: child(disk, 'readonly') !== undefined,
    serial: textOf(disk, 'serial'),
  };
}

function controllerOf(disk: XmlElement, devices: XmlElement | undefined): Controller | 'other' {
  const bus = attributeOf(disk, 'target', 'bus') ?? '';
  if (bus !== 'scsi') return BUSES[bus] ?? 'other';
  const index = attributeOf(disk, 'address', 'controller') ?? '0';
  const controller = childrenOf(devices, 'controller').find(
    ({ attributes }) => attributes.get('type') === 'scsi' && (attributes.get('index') ?? '0') === index,
  );
  // Without a model x86 machines get libvirt's old default.
  return SCSI_CONTROLLERS[controller?.attributes.get('model') ?? 'lsilogic'] ?? 'other';
}

/** A machine that is off need not name its file: libvirt chooses firmware and file at each start, and the file stays. */
function nvramPathOf(domain: XmlElement, name: string): string | undefined {
  const named = textOf(domain, 'os/nvram') || attributeOf(domain, 'os/nvram/source', 'file');
  return named || (isUefi(domain) ? path.join(NVRAM_DIRECTORY, `${name}_VARS.fd`) : undefined);
}

function isUefi(domain: XmlElement): boolean {
  return attributeOf(domain, 'os', 'firmware') === 'efi' || attributeOf(domain, 'os/loader', 'type') === 'pflash';
}

/** Asked for by feature, or, in older definitions, by the secure firmware image itself. */
function hasSecureBoot(domain: XmlElement): boolean {
  const features = childrenOf(child(domain, 'os/firmware'), 'feature');
  const asked = features.find(({ attributes }) => attributes.get('name') === 'secure-boot')?.attributes.get('enabled');
  return asked === undefined ? attributeOf(domain, 'os/loader', 'secure') === 'yes' : asked === 'yes';
}

function memoryMiB(domain: XmlElement): number {
  const unit = attributeOf(domain, 'memory', 'unit') ?? 'KiB';
  const perUnit = KIB_PER_UNIT[unit];
  const amount = Number(required(domain, 'memory'));
  if (perUnit === undefined || !Number.isFinite(amount)) {
    throw new LifeboatError('hypervisor.bad-xml', `memory of '${textOf(domain, 'memory')} ${unit}' is not understood`);
  }
  return Math.ceil((amount * perUnit) / 1024);
}

function required(domain: XmlElement, path: string): string {
  const text = textOf(domain, path);
  if (text === undefined || text === '') {
    throw new LifeboatError('hypervisor.bad-xml', `a domain definition has no <${path}>`);
  }
  return text;
}

function unsupported(machine: string, disk: string, why: string): LifeboatError {
  return new LifeboatError('hypervisor.unsupported-disk', `disk ${disk} of machine ${machine} ${why}`, {
    context: { machine, disk },
  });
}
