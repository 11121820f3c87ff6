/**
 * A machine shape as libvirt XML.
 *
 *   virtio-blk            bus virtio, one PCI device per disk
 *   virtio-scsi, lsi, megasas, pvscsi, mptsas
 *                         bus scsi behind a controller of that model
 *   ahci                  bus sata, built into q35
 *   ide                   bus ide, only on the older i440fx machine
 *   nvme                  not known to libvirt 9: passed to QEMU as arguments, so libvirt neither labels the image nor
 *                         offers block jobs or checkpoints for it
 *
 * The CPU is the host's under KVM. Under emulation it is qemu64 raised to x86-64-v2, which current distributions need:
 * an AMD-like model, because kernels switch page tables at each system call on an Intel one of that age (slow here).
 */
import { LifeboatError } from '@lifeboat/foundation/errors';
import type { Controller, HostDescription, MachineShape, ShapeDisk } from '../port.ts';
import { element, type Xml } from '../xml/xml-writer.ts';
import { isolatedNetworkArguments } from './isolated-network.ts';
import { ownerTag } from './owner-tag.ts';

const SCSI_MODELS: Readonly<Partial<Record<Controller, string>>> = {
  'virtio-scsi': 'virtio-scsi',
  lsi: 'lsilogic',
  megasas: 'lsisas1078',
  pvscsi: 'vmpvscsi',
  mptsas: 'lsisas1068',
};
/** What follows x86-64-v1 in v2, as far as qemu64 lacks it. */
const V2_FEATURES = ['ssse3', 'sse4.1', 'sse4.2', 'popcnt'];
/** First PCI slot for NVMe on q35's root bus: libvirt fills the low ones, the chipset owns 1f. */
const NVME_FIRST_SLOT = 0x18;
const NVME_MAX = 6;
const IDE_MAX = 4;

type Bus = 'virtio' | 'scsi' | 'sata' | 'ide';
const PREFIX: Readonly<Record<Bus, string>> = { virtio: 'vd', scsi: 'sd', sata: 'sd', ide: 'hd' };

export interface FirmwareFiles {
  /** Where the UEFI variables are; absent: where libvirt chooses. */
  readonly nvramPath?: string;
  /** The firmware that these variables are for; absent: libvirt's choice, with variables of a machine that never ran. */
  readonly codePath?: string;
}

/** Errors: `hypervisor.unsupported-shape`. */
export function machineXml(
  shape: MachineShape,
  host: Pick<HostDescription, 'accelerator'>,
  options: FirmwareFiles = {},
): string {
  const { disks } = shape;
  const machine = machineType(shape);
  const scsiModel = scsiModelOf(shape);
  const nvme = disks
    .map((disk, index) => ({ disk, order: index + 1 }))
    .filter(({ disk }) => disk.controller === 'nvme');
  if (nvme.length > NVME_MAX)
    throw unsupported(shape, `${nvme.length} NVMe disks; at most ${NVME_MAX} can be emulated`);
  const used = new Map<string, number>();
  const { network } = shape;
  const args = [
    ...nvmeArguments(nvme),
    ...(network.kind === 'isolated' ? isolatedNetworkArguments(network, machine) : []),
  ];
  const content = [
    element('name', {}, shape.name),
    shape.uuid === undefined ? undefined : element('uuid', {}, shape.uuid),
    element('metadata', {}, ownerTag(shape)),
    element('memory', { unit: 'MiB' }, shape.memoryMiB),
    element('vcpu', {}, shape.vcpus),
    osElement(shape, machine, options),
    element('features', {}, element('acpi'), element('apic')),
    cpuElement(host.accelerator),
    element('clock', { offset: 'utc' }),
    element('on_poweroff', {}, 'destroy'),
    element('on_reboot', {}, 'restart'),
    element('on_crash', {}, 'destroy'),
    element(
      'devices',
      {},
      ...disks.map((disk, index) => diskElement(disk, index + 1, used)),
      scsiModel === undefined ? undefined : element('controller', { type: 'scsi', index: 0, model: scsiModel }),
      // Keyboards are PS/2: a guest that need not look for USB boots sooner under emulation.
      element('controller', { type: 'usb', model: 'none' }),
      interfaceElement(shape),
      element('serial', { type: 'pty' }, element('target', { port: 0 })),
      element('console', { type: 'pty' }, element('target', { type: 'serial', port: 0 })),
      element('channel', { type: 'unix' }, element('target', { type: 'virtio', name: 'org.qemu.guest_agent.0' })),
      // A screen for people on this host; no port is opened.
      element('graphics', { type: 'vnc' }, element('listen', { type: 'socket' })),
      element('video', {}, element('model', { type: 'vga' })),
      element('memballoon', { model: 'none' }),
    ),
    args.length === 0
      ? undefined
      : element('qemu:commandline', {}, ...args.map((value) => element('qemu:arg', { value }))),
  ];
  return element(
    'domain',
    {
      type: host.accelerator === 'kvm' ? 'kvm' : 'qemu',
      'xmlns:qemu': args.length === 0 ? undefined : 'http://libvirt.org/schemas/domain/qemu/1.0',
    },
    ...content,
  ).source;
}

function machineType(shape: MachineShape): 'pc' | 'q35' {
  const ide = shape.disks.filter(({ controller }) => controller === 'ide').length;
  if (ide === 0) return 'q35';
  if (ide > IDE_MAX) throw unsupported(shape, `${ide} IDE disks; there are ${IDE_MAX} places`);
  const other = shape.disks.find(({ controller }) => controller === 'ahci' || controller === 'nvme');
  if (other) throw unsupported(shape, `IDE and ${other.controller} disks are not on one emulated board`);
  return 'pc';
}

function scsiModelOf(shape: MachineShape): string | undefined {
  const models = new Set(shape.disks.map(({ controller }) => SCSI_MODELS[controller]).filter((model) => model));
  if (models.size > 1) throw unsupported(shape, `SCSI controllers of ${models.size} kinds (${[...models].join(', ')})`);
  return [...models][0];
}

function osElement(shape: MachineShape, machine: string, { nvramPath, codePath }: FirmwareFiles): Xml {
  const type = element('type', { arch: 'x86_64', machine }, 'hvm');
  if (shape.firmware === 'bios') return element('os', {}, type);
  if (codePath !== undefined && nvramPath !== undefined) {
    const loader = element('loader', { readonly: 'yes', secure: 'no', type: 'pflash' }, codePath);
    return element('os', {}, type, loader, element('nvram', {}, nvramPath));
  }
  return element(
    'os',
    { firmware: 'efi' },
    type,
    // The machines that are restored were not signed for this firmware's keys.
    element('firmware', {}, element('feature', { enabled: 'no', name: 'secure-boot' })),
    nvramPath === undefined ? undefined : element('nvram', {}, nvramPath),
  );
}

function cpuElement(accelerator: HostDescription['accelerator']): Xml {
  if (accelerator === 'kvm') return element('cpu', { mode: 'host-passthrough', check: 'none' });
  return element(
    'cpu',
    { mode: 'custom', match: 'exact', check: 'none' },
    element('model', { fallback: 'allow' }, 'qemu64'),
    ...V2_FEATURES.map((name) => element('feature', { policy: 'require', name })),
  );
}

function diskElement(disk: ShapeDisk, order: number, used: Map<string, number>): Xml | undefined {
  const bus = busOf(disk.controller);
  if (bus === undefined) return undefined;
  const index = used.get(bus) ?? 0;
  used.set(bus, index + 1);
  return element(
    'disk',
    { type: 'file', device: 'disk' },
    // A guest whose disk fails stops with its state intact, instead of writing the error into its filesystems.
    element('driver', {
      name: 'qemu',
      type: disk.format,
      discard: 'unmap',
      error_policy: 'stop',
      rerror_policy: 'stop',
    }),
    element('source', { file: disk.path }),
    backingElement(disk),
    element('target', { dev: `${PREFIX[bus]}${letters(index)}`, bus }),
    element('serial', {}, disk.serial),
    // A SAS controller of this model sees only disks that have a name of that kind; 3 begins those that are made up locally.
    disk.controller === 'mptsas' ? element('wwn', {}, `3${order.toString(16).padStart(15, '0')}`) : undefined,
    element('boot', { order }),
    // Disks of their own, not units of one disk, which some of these controllers do not know. lsi counts units itself.
    bus === 'scsi' && disk.controller !== 'lsi'
      ? element('address', { type: 'drive', controller: 0, bus: 0, target: index, unit: 0 })
      : undefined,
  );
}

function busOf(controller: Controller): Bus | undefined {
  if (controller === 'nvme') return undefined;
  if (controller === 'virtio-blk') return 'virtio';
  if (controller === 'ahci') return 'sata';
  return controller === 'ide' ? 'ide' : 'scsi';
}

/** Written out, so that libvirt does not probe: an NBD export cannot be probed, and a guest must not choose its backing. */
function backingElement({ backing }: ShapeDisk): Xml | undefined {
  if (backing === undefined) return undefined;
  if ('socketPath' in backing) {
    const host = element('host', { transport: 'unix', socket: backing.socketPath });
    return element(
      'backingStore',
      { type: 'network' },
      element('format', { type: 'raw' }),
      element('source', { protocol: 'nbd', name: backing.exportName }, host),
      element('backingStore'),
    );
  }
  return element(
    'backingStore',
    { type: 'file' },
    element('format', { type: backing.format }),
    element('source', { file: backing.path }),
    // The chain ends at a raw image; a qcow2 one may stand on another, which libvirt then finds itself.
    backing.format === 'raw' ? element('backingStore') : undefined,
  );
}

function interfaceElement({ network }: MachineShape): Xml | undefined {
  if (network.kind !== 'network') return undefined;
  return element(
    'interface',
    { type: 'network' },
    network.mac === undefined ? undefined : element('mac', { address: network.mac }),
    element('source', { network: network.name }),
    element('model', { type: network.model }),
    // No network boot: its ROM costs seconds at each start.
    element('rom', { enabled: 'no' }),
  );
}

function nvmeArguments(disks: readonly { disk: ShapeDisk; order: number }[]): string[] {
  return disks.flatMap(({ disk, order }, index) => {
    const device = {
      driver: 'nvme',
      drive: `lifeboat-nvme${index}`,
      serial: disk.serial,
      bus: 'pcie.0',
      addr: `0x${(NVME_FIRST_SLOT + index).toString(16)}`,
      bootindex: order,
    };
    const blockdevs = nvmeBlockdevs(disk, `lifeboat-nvme${index}`).flatMap((node) => [
      '-blockdev',
      JSON.stringify(node),
    ]);
    return [...blockdevs, '-device', JSON.stringify(device)];
  });
}

/** What it stands on comes first, as a node of its own: given inline, QEMU mixes it with the name in the image's header. */
function nvmeBlockdevs({ path, format, backing }: ShapeDisk, node: string): Record<string, unknown>[] {
  const image = {
    driver: format,
    'node-name': node,
    discard: 'unmap',
    file: { driver: 'file', filename: path, discard: 'unmap' },
  };
  if (backing === undefined) return [image];
  const below = `${node}-backing`;
  const base = { 'node-name': below, 'read-only': true };
  const backingNode =
    'socketPath' in backing
      ? {
          ...base,
          driver: 'nbd',
          server: { type: 'unix', path: backing.socketPath },
          export: backing.exportName,
        }
      : { ...base, driver: backing.format, file: { driver: 'file', filename: backing.path } };
  return [backingNode, { ...image, backing: below }];
}

/** 0 is a, 25 is z, 26 is aa. */
function letters(index: number): string {
  const rest = Math.floor(index / 26);
  return `${rest === 0 ? '' : letters(rest - 1)}${String.fromCharCode(97 + (index % 26))}`;
}

function unsupported(shape: MachineShape, why: string): LifeboatError {
  return new LifeboatError('hypervisor.unsupported-shape', `machine ${shape.name} cannot be emulated: ${why}`, {
    context: { machine: shape.name },
  });
}
