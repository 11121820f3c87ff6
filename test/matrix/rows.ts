/**
 * The rows of the support matrix: which Debian is moved from which controller onto which model.
 *
 *   controllers   every ordered pair of controllers that the firmware drives, on Debian 12
 *   pairwise      every two values of release, generator, root, firmware, table and target together in at least one row
 */
import { diskControllers, type DiskController } from '@lifeboat/guest/profile/hardware-profile';

export interface GuestKind {
  readonly release: 'bullseye' | 'bookworm' | 'trixie';
  readonly initramfs: 'initramfs-tools' | 'dracut';
  readonly root: 'ext4' | 'xfs' | 'btrfs' | 'lvm' | 'lvm-striped' | 'raid1' | 'raid0';
  readonly firmware: 'bios' | 'uefi';
  readonly layout: 'gpt' | 'mbr';
  /** The only one whose drivers its initial RAM disk holds. */
  readonly source: DiskController;
}

export interface Row extends GuestKind {
  readonly part: 'controllers' | 'pairwise';
  readonly target: DiskController;
}

/** Debian 12's OVMF starts from nothing else; SeaBIOS starts from all. See docs/support-matrix.md. */
export const UEFI_CONTROLLERS: readonly DiskController[] = ['virtio-blk', 'virtio-scsi', 'nvme', 'ahci'];

/** Modules that reach a disk behind each; what they depend on comes by itself. */
export const SOURCE_MODULES: Readonly<Record<DiskController, string>> = {
  'virtio-blk': 'virtio_pci virtio_blk',
  'virtio-scsi': 'virtio_pci virtio_scsi sd_mod',
  nvme: 'nvme',
  ahci: 'ahci sd_mod',
  ide: 'ata_piix sd_mod',
  lsi: 'sym53c8xx sd_mod',
  megasas: 'megaraid_sas sd_mod',
  pvscsi: 'vmw_pvscsi sd_mod',
  mptsas: 'mptsas sd_mod',
};

/** Of each class, one controller shows for a guest that it does not start there by itself. */
export function targetClass(controller: DiskController): string {
  if (controller.startsWith('virtio')) return 'virtio';
  if (controller === 'ahci' || controller === 'ide') return 'ATA';
  return controller === 'nvme' ? 'nvme' : 'SCSI adapter';
}

export function guestId({ release, initramfs, root, firmware, layout, source }: GuestKind): string {
  return [release, initramfs, root, firmware, layout, source].join('/');
}

export function rowId(row: Row): string {
  return `${guestId(row)}>${row.target}`;
}

/** The shipped profile of a row's target. */
export function profileOf({ target, firmware }: Pick<Row, 'target' | 'firmware'>): string {
  return firmware === 'uefi' ? `${target}-uefi` : target;
}

let found: Row[] | undefined;

/** Guests one after another, so that each is built and backed up once. */
export function allRows(): readonly Row[] {
  return (found ??= [...new Map([...pairwiseRows(), ...controllerRows()].map((row) => [rowId(row), row])).values()]);
}

function controllerRows(): Row[] {
  const plain = { release: 'bookworm', initramfs: 'initramfs-tools', root: 'ext4', layout: 'gpt' } as const;
  return (['bios', 'uefi'] as const).flatMap((firmware) => {
    const controllers = firmware === 'uefi' ? UEFI_CONTROLLERS : diskControllers;
    return controllers.flatMap((source) =>
      controllers
        .filter((target) => target !== source)
        .map((target) => ({ part: 'controllers' as const, ...plain, firmware, source, target })),
    );
  });
}

const FACTORS = {
  release: ['bookworm', 'trixie', 'bullseye'],
  initramfs: ['dracut', 'initramfs-tools'],
  root: ['lvm', 'btrfs', 'raid1', 'xfs', 'lvm-striped', 'raid0', 'ext4'],
  firmware: ['bios', 'uefi'],
  layout: ['gpt', 'mbr'],
  target: diskControllers.filter((controller) => controller !== 'ahci'),
} as const;
type Factor = keyof typeof FACTORS;

/** Greedy: of all rows that can be, the one with the most pairs that no row has yet, until there is no pair left. */
function pairwiseRows(): Row[] {
  const candidates = Object.entries(FACTORS)
    .reduce<Record<string, string>[]>(
      (rows, [factor, values]) => rows.flatMap((row) => values.map((value) => ({ ...row, [factor]: value }))),
      [{}],
    )
    .map((row) => ({ part: 'pairwise', source: 'ahci', ...row }) as Row)
    .filter(
      ({ firmware, layout, target }) => firmware === 'bios' || (layout === 'gpt' && UEFI_CONTROLLERS.includes(target)),
    );
  const open = new Set(candidates.flatMap(pairsOf));
  const chosen: Row[] = [];
  while (open.size > 0) {
    let best: { row: Row; gain: number } | undefined;
    for (const row of candidates) {
      const gain = pairsOf(row).filter((pair) => open.has(pair)).length;
      if (gain > (best?.gain ?? 0)) best = { row, gain };
    }
    if (!best) break;
    chosen.push(best.row);
    for (const pair of pairsOf(best.row)) open.delete(pair);
  }
  return chosen.toSorted((a, b) => guestId(a).localeCompare(guestId(b)));
}

/** `release=trixie root=xfs`, of every two factors. */
export function pairsOf(row: Row): string[] {
  const factors = Object.keys(FACTORS) as Factor[];
  return factors.flatMap((first, index) =>
    factors.slice(index + 1).map((second) => `${first}=${row[first]} ${second}=${row[second]}`),
  );
}
