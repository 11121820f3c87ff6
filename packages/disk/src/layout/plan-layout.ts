/**
 * Where partitions are to lie on a target. Pure: the same disk and the same wishes give the same plan, no disk is touched, and a
 * plan that refuses says so before anything is written.
 *
 *   1. choose   which partitions come, and whether the table is an MBR or a GPT
 *   2. place    in the order they lie; what begins on a boundary of 1 MiB stays there where it can, all else moves to the next.
 *               Of the one that is resized, what lies behind it moves to the end, and it gets the room between
 *   3. add      a BIOS boot partition below 1 MiB where an MBR with GRUB becomes a GPT; an EFI system partition where UEFI is wanted
 *   4. judge    whether what the resized partition holds can become so large or small, and whether the boot loader comes along
 *
 * Not looked at: what files name. A partition that another number, or a new id, is named with is warned of.
 */
import { formatBytes, KiB, MiB } from '@lifeboat/foundation/units';
import { partitionTypes, type Partition } from '../partition-table.ts';
import type { VolumeContent } from '../volume-content.ts';
import type {
  BootPlan,
  LayoutPlan,
  LayoutRefusal,
  LayoutRequest,
  LayoutSource,
  PlannedPartition,
} from './layout-plan.ts';
import { gptTypeOf, isDynamic } from './partition-types.ts';
import { fittingVolume, holdsOf } from './resized-volume.ts';

/** As installers do: whole erase blocks and stripes of every device there is. */
const ALIGNMENT_BYTES = MiB;
/** FAT32 for loaders of a few systems; what Windows makes, too. */
const EFI_SYSTEM_BYTES = 100 * MiB;
/** Behind the GPT's entries, whatever the sector size, to the first boundary. GRUB's core takes 30 to 130 KiB. */
const BIOS_BOOT = { startBytes: 32 * KiB, endBytes: MiB } as const;
const GPT_ENTRIES_BYTES = 128 * 128;
const GPT_ENTRIES = 128;
/** MBR counts sectors in 32 bits. */
const MBR_LIMIT_SECTORS = 2 ** 32 - 1;
const MIN_PARTITION_BYTES = MiB;

interface Item {
  readonly partition: Partition;
  readonly type: string;
  /** An extended boot record lies before it. */
  readonly isLogical: boolean;
}

interface Placed {
  readonly item: Item;
  readonly startBytes: number;
  readonly lengthBytes: number;
}

export function planLayout(source: LayoutSource, request: LayoutRequest): LayoutPlan {
  const { table, boot } = source;
  const { target } = request;
  const refusals: LayoutRefusal[] = [];
  const warnings: string[] = [];
  const scheme = table.scheme === 'gpt' || request.scheme === 'gpt' ? 'gpt' : 'mbr';
  const refuse = (code: LayoutRefusal['code'], text: string): void => void refusals.push({ code, text });
  const base = {
    disk: source.name,
    scheme,
    sizeBytes: target.sizeBytes,
    sectorBytes: target.sectorBytes,
    warnings,
    refusals,
  } as const;
  const nothing: LayoutPlan = { ...base, partitions: [], boot: { kind: 'copy' } };

  judgeSource(source, request, refuse);
  if (refusals.length > 0) return nothing;
  const becomesGpt = table.scheme === 'mbr' && scheme === 'gpt';
  const items = chooseItems(source, request, { becomesGpt, refuse });
  judgeBoot(source, request, { becomesGpt, scheme, refuse });
  if (refusals.length > 0) return nothing;

  const oldEsp = items.find(({ type }) => type === partitionTypes.efiSystem || type === partitionTypes.mbrEfiSystem);
  const addsEsp = request.firmware === 'uefi' && oldEsp === undefined;
  const limitBytes = endOfRoom(scheme, target);
  const placed = placeAll(items, request, {
    limitBytes: addsEsp && request.resize !== undefined ? alignDown(limitBytes - EFI_SYSTEM_BYTES) : limitBytes,
    refuse,
  });
  if (!placed) return nothing;

  const keepsIds = request.ids === 'kept' && !becomesGpt;
  const renumbered = numbersOf(items, scheme);
  const partitions = placed.map((one) => describe(one, source, { renumbered, keepsIds, scheme, refuse, warnings }));
  const coreRoom = becomesGpt && boot.loader === 'grub' ? addBiosBoot(partitions) : undefined;
  const espNumber = addsEsp ? addEfiSystem(partitions, limitBytes, refuse) : numberOf(oldEsp, renumbered);
  if (scheme === 'mbr') addExtended(partitions, table.partitions);
  if (partitions.some(({ number }) => number > GPT_ENTRIES)) {
    refuse('layout.unsupported', `A GPT has ${GPT_ENTRIES} entries here, and disk ${source.name} needs more.`);
  }
  const bootPlan = planBoot(source, partitions, { becomesGpt, coreRoom, refuse });
  warnAbout(source, { partitions, bootPlan, keepsIds, becomesGpt, warnings });
  if (refusals.length > 0) return nothing;
  return {
    ...base,
    ...(keepsIds ? { diskId: table.diskId } : {}),
    partitions: partitions.toSorted((a, b) => a.number - b.number),
    boot: bootPlan,
    ...(request.firmware === 'uefi' && espNumber !== undefined ? { efiSystemPartition: espNumber } : {}),
  };
}

type Refuse = (code: LayoutRefusal['code'], text: string) => void;

function judgeSource({ name, table }: LayoutSource, { target }: LayoutRequest, refuse: Refuse): void {
  if (table.scheme === 'none') return refuse('layout.no-table', `Disk ${name} has no partition table.`);
  if (table.problems.length > 0) {
    refuse('layout.no-table', `The partition table of disk ${name} is damaged: ${table.problems.join('; ')}.`);
  }
  if (table.sectorBytes !== target.sectorBytes) {
    refuse(
      'layout.sector-size',
      `Disk ${name} has sectors of ${table.sectorBytes} bytes and the target of ${target.sectorBytes}.`,
    );
  }
  const order = table.partitions
    .filter(({ role }) => role !== 'extended')
    .toSorted((a, b) => a.startBytes - b.startBytes);
  for (const [index, { number, startBytes }] of order.entries()) {
    const before = order[index - 1];
    if (before && endOf(before) > startBytes) {
      refuse('layout.no-table', `Partitions ${before.number} and ${number} of disk ${name} overlap.`);
    }
  }
  const dynamic = table.partitions.find(({ type }) => isDynamic(type));
  if (dynamic) refuse('layout.dynamic-disk', `Partition ${dynamic.number} of disk ${name} makes it a dynamic disk.`);
}

/** In the order they lie on the disk. */
function chooseItems(
  { name, table }: LayoutSource,
  { only, resize }: LayoutRequest,
  { becomesGpt, refuse }: { becomesGpt: boolean; refuse: Refuse },
): Item[] {
  const all = table.partitions.filter(({ role }) => role !== 'extended');
  const there = all.map(({ number }) => number).join(', ') || 'none';
  for (const number of new Set([...(only ?? []), ...(typeof resize === 'number' ? [resize] : [])])) {
    if (!all.some((partition) => partition.number === number)) {
      const extended = table.partitions.some((partition) => partition.number === number);
      const why = extended
        ? 'is the extended one, which is made from what it holds'
        : `is not there; there are ${there}`;
      refuse('layout.no-such-partition', `Partition ${number} of disk ${name} ${why}.`);
    }
  }
  if (typeof resize === 'number' && only && !only.includes(resize)) {
    refuse('layout.no-such-partition', `Partition ${resize} is to be resized, and is not among those to bring.`);
  }
  const chosen = only ? all.filter(({ number }) => only.includes(number)) : all;
  if (chosen.length === 0) refuse('layout.no-table', `No partition of disk ${name} would come along.`);
  return chosen
    .toSorted((a, b) => a.startBytes - b.startBytes)
    .map((partition) => {
      const type = becomesGpt ? gptTypeOf(partition.type) : partition.type;
      if (type === undefined) {
        refuse(
          'layout.unsupported',
          `Partition ${partition.number} is of type ${partition.type}, for which GPT has no type.`,
        );
      }
      return { partition, type: type ?? '', isLogical: partition.role === 'logical' && !becomesGpt };
    });
}

function judgeBoot(
  { name, boot, contents }: LayoutSource,
  { firmware }: LayoutRequest,
  { becomesGpt, scheme, refuse }: { becomesGpt: boolean; scheme: 'gpt' | 'mbr'; refuse: Refuse },
): void {
  if (becomesGpt && boot.loader === 'windows' && [...contents.values()].some(({ type }) => type === 'ntfs')) {
    refuse(
      'layout.unsupported',
      `Windows starts from disk ${name} by BIOS, and would not from a GPT; turning it into UEFI is not done. Use the layout "aligned".`,
    );
  }
  if (becomesGpt && boot.loader === 'other') {
    refuse('layout.unsupported', `The boot code of disk ${name} is not GRUB's, and is not known to start from a GPT.`);
  }
  if (firmware === 'uefi' && scheme === 'mbr') {
    refuse('layout.unsupported', `To start by UEFI, disk ${name} must have a GPT: ask for the layout "gpt".`);
  }
}

function endOfRoom(scheme: 'gpt' | 'mbr', { sizeBytes, sectorBytes }: LayoutRequest['target']): number {
  const sectors = Math.floor(sizeBytes / sectorBytes);
  if (scheme === 'mbr') return Math.min(sectors, MBR_LIMIT_SECTORS) * sectorBytes;
  return (sectors - GPT_ENTRIES_BYTES / sectorBytes - 1) * sectorBytes;
}

function placeAll(
  items: readonly Item[],
  request: LayoutRequest,
  { limitBytes, refuse }: { limitBytes: number; refuse: Refuse },
): Placed[] | undefined {
  const resized =
    request.resize === 'last'
      ? items.length - 1
      : items.findIndex(({ partition }) => partition.number === request.resize);
  const placed =
    request.scheme === 'keep'
      ? stayAll(items, { resized, limitBytes, refuse })
      : resized >= 0
        ? placeAround(items, resized, limitBytes)
        : placeFitting(items, limitBytes);
  const last = placed?.at(-1);
  if (!placed || !last) return undefined;
  const size = formatBytes(request.target.sizeBytes);
  const starved = placed[resized];
  if (starved && starved.lengthBytes < MIN_PARTITION_BYTES) {
    const { number } = starved.item.partition;
    refuse('layout.target-too-small', `On a target of ${size} nothing would be left for partition ${number}.`);
    return undefined;
  }
  if (endOf(last) <= limitBytes) return placed;
  refuse(
    'layout.target-too-small',
    `The partitions do not fit on the target of ${size}. They end at ${formatBytes(endOf(last))} (${endOf(last)} bytes), and may end at ${formatBytes(limitBytes)} (${limitBytes} bytes).`,
  );
  return undefined;
}

/** Every start is kept; the resized one may take the room up to the next. */
function stayAll(
  items: readonly Item[],
  { resized, limitBytes, refuse }: { resized: number; limitBytes: number; refuse: Refuse },
): Placed[] | undefined {
  const placed = items.map((item) => ({ item, ...runOf(item) }));
  const chosen = placed[resized];
  if (!chosen) return placed;
  const next = items[resized + 1];
  const toBytes = next ? next.partition.startBytes - (next.isLogical ? ALIGNMENT_BYTES : 0) : limitBytes;
  const lengthBytes = lengthUpTo(chosen, toBytes, { mayShrink: next === undefined });
  if (next && lengthBytes <= chosen.lengthBytes) {
    const { number } = chosen.item.partition;
    const text = `Partition ${number} cannot change its size while partition ${next.partition.number} behind it stays where it is; use the layout "aligned".`;
    refuse('layout.cannot-grow', text);
    return undefined;
  }
  return placed.with(resized, { ...chosen, lengthBytes });
}

/** As they lie, and where that does not fit, without the gaps. */
function placeFitting(items: readonly Item[], limitBytes: number): Placed[] {
  const staying = placeForward(items, 'stay');
  const last = staying.at(-1);
  return last && endOf(last) > limitBytes ? placeForward(items, 'packed') : staying;
}

function placeForward(items: readonly Item[], how: 'stay' | 'packed'): Placed[] {
  const placed: Placed[] = [];
  let cursor = 0;
  for (const item of items) {
    const { startBytes, lengthBytes } = runOf(item);
    const lead = item.isLogical ? ALIGNMENT_BYTES : 0;
    const least = Math.max(cursor + lead, ALIGNMENT_BYTES + lead);
    // It lies below the first boundary, where nothing else would, and holds no filesystem.
    const isBelow = item.type === partitionTypes.biosBoot && placed.length === 0 && startBytes + lengthBytes <= MiB;
    const at = isBelow ? startBytes : alignUp(how === 'stay' ? Math.max(least, startBytes) : least);
    placed.push({ item, startBytes: at, lengthBytes });
    cursor = at + lengthBytes;
  }
  return placed;
}

function placeAround(items: readonly Item[], resized: number, limitBytes: number): Placed[] {
  const behind: Placed[] = [];
  let endBytes = limitBytes;
  for (const item of items.slice(resized + 1).toReversed()) {
    const { lengthBytes } = runOf(item);
    const startBytes = alignDown(endBytes - lengthBytes);
    behind.unshift({ item, startBytes, lengthBytes });
    endBytes = startBytes - (item.isLogical ? ALIGNMENT_BYTES : 0);
  }
  const before = (how: 'stay' | 'packed'): Placed[] => {
    const placed = placeForward(items.slice(0, resized + 1), how);
    const chosen = placed[resized] as Placed;
    return placed.with(resized, { ...chosen, lengthBytes: lengthUpTo(chosen, endBytes, { mayShrink: true }) });
  };
  const staying = before('stay');
  const isShrunk = (staying[resized] as Placed).lengthBytes < runOf(items[resized] as Item).lengthBytes;
  return [...(isShrunk ? before('packed') : staying), ...behind];
}

/** To a boundary, unless it would lose a few sectors of what it has for that. */
function lengthUpTo({ item, startBytes }: Placed, endBytes: number, { mayShrink }: { mayShrink: boolean }): number {
  const old = runOf(item).lengthBytes;
  const wanted = alignDown(endBytes) - startBytes;
  if (wanted >= old) return wanted;
  return endBytes - startBytes >= old || !mayShrink ? old : Math.max(wanted, 0);
}

function describe(
  { item, startBytes, lengthBytes }: Placed,
  source: LayoutSource,
  context: {
    renumbered: ReadonlyMap<number, number>;
    keepsIds: boolean;
    scheme: 'gpt' | 'mbr';
    refuse: Refuse;
    warnings: string[];
  },
): PlannedPartition {
  const { partition, type, isLogical } = item;
  const content: VolumeContent = source.contents.get(partition.number) ?? { kind: 'unknown', type: '' };
  const run = { startBytes: partition.startBytes, lengthBytes: partition.lengthBytes };
  const number = context.renumbered.get(partition.number) ?? partition.number;
  const fitting = fittingVolume({ number: partition.number, content, ...run }, lengthBytes);
  if (fitting.refusal) context.refuse(fitting.refusal.code, fitting.refusal.text);
  if (fitting.warning) context.warnings.push(fitting.warning);
  if (number !== partition.number) {
    context.warnings.push(
      `Partition ${partition.number} becomes ${number}; what names it by number no longer finds it.`,
    );
  }
  return {
    number,
    from: { number: partition.number, ...run },
    startBytes,
    lengthBytes,
    type,
    role: context.scheme === 'gpt' ? 'gpt' : isLogical ? 'logical' : 'primary',
    ...(context.keepsIds && context.scheme === 'gpt' ? { partitionId: partition.partitionId } : {}),
    name: partition.name,
    // In a GPT it is an attribute that nothing but syslinux looks at.
    bootable: partition.bootable && (context.scheme === 'mbr' || partition.role === 'gpt'),
    ...(partition.attributes === undefined ? {} : { attributes: partition.attributes }),
    holds: holdsOf(content),
    ...(fitting.volume ? { volume: fitting.volume } : {}),
  };
}

/** Logical partitions are numbered without gaps, from 5 on. */
function numbersOf(items: readonly Item[], scheme: 'gpt' | 'mbr'): Map<number, number> {
  const logical = items
    .filter(({ isLogical }) => isLogical && scheme === 'mbr')
    .map(({ partition }) => partition.number)
    .toSorted((a, b) => a - b);
  return new Map(logical.map((number, index) => [number, index + 5]));
}

function numberOf(item: Item | undefined, renumbered: ReadonlyMap<number, number>): number | undefined {
  return item && (renumbered.get(item.partition.number) ?? item.partition.number);
}

function freeNumber(partitions: readonly PlannedPartition[]): number {
  let number = 1;
  while (partitions.some((partition) => partition.number === number)) number += 1;
  return number;
}

function addBiosBoot(partitions: PlannedPartition[]): { offsetBytes: number; roomBytes: number } {
  const { startBytes, endBytes } = BIOS_BOOT;
  partitions.push({
    number: freeNumber(partitions),
    startBytes,
    lengthBytes: endBytes - startBytes,
    type: partitionTypes.biosBoot,
    role: 'gpt',
    name: 'BIOS boot',
    bootable: false,
    holds: "GRUB's core image",
  });
  return { offsetBytes: startBytes, roomBytes: endBytes - startBytes };
}

/** In the last gap that is large enough. */
function addEfiSystem(partitions: PlannedPartition[], limitBytes: number, refuse: Refuse): number | undefined {
  const order = partitions.toSorted((a, b) => a.startBytes - b.startBytes);
  const gaps = [...order.map((partition) => alignUp(endOf(partition))), ALIGNMENT_BYTES].map((startBytes) => ({
    startBytes,
    endBytes: Math.min(limitBytes, ...order.map((next) => next.startBytes).filter((at) => at >= startBytes)),
  }));
  const gap = gaps
    .filter(({ startBytes, endBytes }) => endBytes - startBytes >= EFI_SYSTEM_BYTES && startBytes >= ALIGNMENT_BYTES)
    .toSorted((a, b) => b.startBytes - a.startBytes)[0];
  if (!gap) {
    const text = `There is no room of ${formatBytes(EFI_SYSTEM_BYTES)} for an EFI system partition; a larger target, or a partition that gives way, makes it.`;
    refuse('layout.target-too-small', text);
    return undefined;
  }
  const number = freeNumber(partitions);
  partitions.push({
    number,
    startBytes: gap.startBytes,
    lengthBytes: EFI_SYSTEM_BYTES,
    type: partitionTypes.efiSystem,
    role: 'gpt',
    name: 'EFI system',
    bootable: false,
    holds: 'vfat, new',
  });
  return number;
}

/** From the record before its first logical partition to the end of its last. */
function addExtended(partitions: PlannedPartition[], old: readonly Partition[]): void {
  const logical = partitions.filter(({ role }) => role === 'logical').toSorted((a, b) => a.startBytes - b.startBytes);
  const [first] = logical;
  const last = logical.at(-1);
  const extended = old.find(({ role }) => role === 'extended');
  if (!first || !last || !extended) return;
  const isKept =
    first.startBytes === first.from?.startBytes && first.startBytes - extended.startBytes < ALIGNMENT_BYTES;
  const startBytes = isKept ? extended.startBytes : first.startBytes - ALIGNMENT_BYTES;
  partitions.push({
    number: extended.number,
    startBytes,
    lengthBytes: endOf(last) - startBytes,
    type: extended.type,
    role: 'extended',
    name: '',
    bootable: extended.bootable,
    holds: 'logical partitions',
  });
}

function planBoot(
  { name, boot, table }: LayoutSource,
  partitions: readonly PlannedPartition[],
  context: {
    becomesGpt: boolean;
    coreRoom: { offsetBytes: number; roomBytes: number } | undefined;
    refuse: Refuse;
  },
): BootPlan {
  const { core, loader } = boot;
  if (loader !== 'grub') return { kind: 'copy' };
  if (context.coreRoom) return { kind: 'new-core', ...context.coreRoom };
  const firstStart = Math.min(...partitions.map(({ startBytes }) => startBytes));
  if (core?.place === 'gap' && table.scheme === 'mbr') {
    if (core.offsetBytes + core.lengthBytes <= firstStart) return { kind: 'move-core', offsetBytes: core.offsetBytes };
    context.refuse('layout.unsupported', `GRUB's core image on disk ${name} would lie within a partition.`);
  }
  if (core?.place === 'bios-boot-partition') {
    const holds = ({ from }: PlannedPartition): boolean =>
      from !== undefined &&
      core.offsetBytes >= from.startBytes &&
      core.offsetBytes < from.startBytes + from.lengthBytes;
    const home = partitions.find(holds);
    if (home?.from) {
      return { kind: 'move-core', offsetBytes: home.startBytes + core.offsetBytes - home.from.startBytes };
    }
    context.refuse(
      'layout.no-such-partition',
      `GRUB's core image on disk ${name} lies in a partition that is not among those to bring.`,
    );
  }
  const isStill = partitions.every(({ from, startBytes }) => from?.startBytes === startBytes || from === undefined);
  if (isStill) return { kind: 'copy' };
  if (table.scheme === 'mbr') {
    return {
      kind: 'new-core',
      offsetBytes: table.sectorBytes,
      roomBytes: Math.min(firstStart, MiB) - table.sectorBytes,
    };
  }
  context.refuse(
    'layout.unsupported',
    `GRUB's core image on disk ${name} is not where its first sector looks, and there is no BIOS boot partition for a new one.`,
  );
  return { kind: 'copy' };
}

function warnAbout(
  { boot, contents, table }: LayoutSource,
  context: {
    partitions: readonly PlannedPartition[];
    bootPlan: BootPlan;
    keepsIds: boolean;
    becomesGpt: boolean;
    warnings: string[];
  },
): void {
  const { partitions, becomesGpt, keepsIds, warnings } = context;
  const moved = partitions.filter(({ from, startBytes }) => from && from.startBytes !== startBytes);
  if (!keepsIds) {
    const why = becomesGpt ? 'GPT names partitions by ids of its own' : 'the disk and its partitions get new ids';
    warnings.push(`${why}: what the machine names by PARTUUID= is not found any more; UUID= and LABEL= are.`);
  }
  const ntfs = moved.filter(({ from }) => from && contents.get(from.number)?.type === 'ntfs');
  if (table.scheme === 'mbr' && ntfs.length > 0) {
    warnings.push(
      `Windows from Vista on names its volumes by their place on an MBR: after a move of partition ${ntfs.map(({ number }) => number).join(', ')} its boot configuration (BCD) must be repaired before it starts.`,
    );
  }
  if (!keepsIds && partitions.some(({ from }) => from && contents.get(from.number)?.type === 'ntfs')) {
    warnings.push(
      'Windows names its disk in its boot configuration (BCD) and its drive letters by the ids that are not kept: where it starts from this disk, repair them before it starts, or keep the ids.',
    );
  }
  if (boot.loader === 'other' && moved.length > 0) {
    warnings.push('The boot code in the first sector is not known; it may hold places that moved.');
  }
}

function runOf({ partition }: Item): { startBytes: number; lengthBytes: number } {
  return { startBytes: partition.startBytes, lengthBytes: partition.lengthBytes };
}

function endOf({ startBytes, lengthBytes }: { startBytes: number; lengthBytes: number }): number {
  return startBytes + lengthBytes;
}

function alignUp(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT_BYTES) * ALIGNMENT_BYTES;
}

function alignDown(bytes: number): number {
  return Math.floor(bytes / ALIGNMENT_BYTES) * ALIGNMENT_BYTES;
}
