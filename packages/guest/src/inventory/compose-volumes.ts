/** What the arrays and volume groups of a machine's disks make, over all its disks. */
import type { BlockDevice } from '@lifeboat/foundation/block-device';
import { openArray, openLogicalVolume } from '@lifeboat/disk/composed-volume';
import { probeVolume, type VolumeContent } from '@lifeboat/disk/volume-content';
import type { VolumeInventory } from './machine-inventory.ts';

interface Options {
  readonly signal?: AbortSignal;
}

export type MadeVolume =
  | { readonly kind: 'array'; readonly uuid: string }
  | {
      readonly kind: 'logical-volume';
      readonly group: string;
      readonly volume: string;
      /** A snapshot keeps what is overwritten in it: whoever writes past LVM spoils the snapshot. */
      readonly isOrigin: boolean;
    };

/** A run of a disk, or what is made of several, with what it holds. */
export interface Volume {
  readonly name: string;
  readonly device: BlockDevice;
  readonly content: VolumeContent;
  /** Of a partition, as Linux names PARTUUID. */
  readonly partitionId?: string;
  /** Of what is made of others. */
  readonly made?: MadeVolume;
}

/** No table of any disk is longer than what Linux numbers; volumes are as many as there are, up to here. */
const MAX_VOLUMES = 1000;
/** A mirror below LVM below LUKS is three. */
const MAX_LAYERS = 4;

export async function addVolume(
  volumes: Volume[],
  volume: Omit<Volume, 'content'>,
  options: Options = {},
): Promise<VolumeContent> {
  const content = await probeVolume(volume.device, options);
  volumes.push({ ...volume, content });
  return content;
}

/**
 * What arrays and volume groups of `volumes` make; what can be read of it is added to `volumes`, and what cannot and why to `problems`.
 *
 * Arrays first, since they are what groups are made of; then again, since a group may lie on what a group made.
 * Errors: those of the devices.
 */
export async function composeVolumes(
  volumes: Volume[],
  problems: string[],
  options: Options = {},
): Promise<VolumeInventory[]> {
  const found: VolumeInventory[] = [];
  const done = new Set<string>();
  for (let layer = 0; layer < MAX_LAYERS; layer += 1) {
    const before = found.length;
    await composeArrays(volumes, { found, done }, options);
    await composeGroups(volumes, { found, done, problems }, options);
    if (found.length === before) return found;
    if (found.length > MAX_VOLUMES) {
      problems.push(`there are more than ${MAX_VOLUMES} volumes; the rest is left out`);
      return found.slice(0, MAX_VOLUMES);
    }
  }
  return found;
}

async function composeArrays(
  volumes: Volume[],
  state: { found: VolumeInventory[]; done: Set<string> },
  options: Options,
): Promise<void> {
  const members = volumes.flatMap(({ content, ...volume }) =>
    content.kind === 'array-member' ? [{ ...volume, content }] : [],
  );
  for (const [uuid, parts] of Map.groupBy(members, ({ content }) => content.uuid)) {
    const [first] = parts;
    if (first === undefined || state.done.has(uuid)) continue;
    state.done.add(uuid);
    const { level, raidDisks, arrayBytes, label } = first.content;
    const name = label === '' ? `md ${uuid}` : label;
    const device = openArray(parts.map((part) => ({ member: part.content, device: part.device })));
    state.found.push({
      name,
      kind: 'array',
      sizeBytes: arrayBytes,
      layout: level,
      on: parts.map((part) => part.name),
      members: { found: parts.filter(({ content }) => typeof content.role === 'number').length, wanted: raidDisks },
      ...(device
        ? { content: await addVolume(volumes, { name, device, made: { kind: 'array', uuid } }, options) }
        : {}),
    });
  }
}

async function composeGroups(
  volumes: Volume[],
  state: { found: VolumeInventory[]; done: Set<string>; problems: string[] },
  options: Options,
): Promise<void> {
  const parts = volumes.flatMap(({ content, ...volume }) =>
    content.kind === 'physical-volume' ? [{ ...volume, content }] : [],
  );
  for (const { name, content } of parts) {
    for (const problem of content.problems) {
      const sentence = `The LVM volume ${name}: ${problem}.`;
      if (!state.problems.includes(sentence)) state.problems.push(sentence);
    }
  }
  const groups = parts.flatMap(({ content }) => content.group ?? []);
  for (const copies of Map.groupBy(groups, ({ uuid }) => uuid).values()) {
    const group = copies.toSorted((a, b) => b.sequence - a.sequence)[0];
    if (!group || state.done.has(group.uuid)) continue;
    state.done.add(group.uuid);
    const devices = new Map(
      group.physicalVolumes.flatMap(({ name, uuid }) => {
        const part = parts.find(({ content }) => content.uuid === uuid);
        return part ? [[name, part] as const] : [];
      }),
    );
    for (const lost of group.physicalVolumes.filter(({ name }) => !devices.has(name))) {
      state.problems.push(`The volume group ${group.name} lacks its physical volume ${lost.uuid} (${lost.device}).`);
    }
    for (const volume of group.logicalVolumes.filter(({ visible }) => visible).slice(0, MAX_VOLUMES)) {
      const name = `${group.name}/${volume.name}`;
      const device = openLogicalVolume(group, volume, new Map([...devices].map(([key, part]) => [key, part.device])));
      const isOrigin = group.logicalVolumes.some(({ segments }) =>
        segments.some(({ origin }) => origin === volume.name),
      );
      const made = { kind: 'logical-volume', group: group.name, volume: volume.name, isOrigin } as const;
      const on = new Set(
        volume.segments.flatMap(({ stripes }) =>
          stripes.flatMap(({ physicalVolume }) => devices.get(physicalVolume)?.name ?? []),
        ),
      );
      state.found.push({
        name,
        kind: 'logical-volume',
        sizeBytes: volume.sizeBytes,
        layout: layoutOf(volume.segments),
        on: [...on],
        ...(device ? { content: await addVolume(volumes, { name, device, made }, options) } : {}),
      });
    }
  }
}

function layoutOf(segments: readonly { type: string; stripes: readonly unknown[] }[]): string {
  const types = new Set(
    segments.map(({ type, stripes }) => (type === 'striped' && stripes.length === 1 ? 'linear' : type)),
  );
  return [...types].join('+');
}

/** `vg0/lv-1` as `vg0-lv--1`: the device mapper doubles the dashes of a name and puts one between group and volume. */
export function mapperName(name: string): string {
  return name
    .split('/')
    .map((part) => part.replaceAll('-', '--'))
    .join('-');
}
