/**
 * LVM 2: a physical volume, with the text in which it keeps its whole volume group.
 *
 *   sector 0..3   label "LABELONE" ── CRC, then the header: id, size, data areas, metadata areas
 *   metadata area header " LVM2 x[5A%r0N*>" ── CRC, place of the text in the ring that follows
 *   ring          text, may wrap; CRC in the header
 *
 * Source: LVM2, lib/format_text/layout.h and lib/label/label.h. Text is read as `lib/config` reads it.
 */
import { crc32 } from 'node:zlib';
import type { BlockDevice } from '@lifeboat/foundation/block-device';
import { MiB } from '@lifeboat/foundation/units';
import { ascii, littleEndian, readRun } from '../bytes.ts';

export interface PhysicalVolume {
  readonly kind: 'physical-volume';
  /** As blkid names it. */
  readonly type: 'LVM2_member';
  /** Its id, as LVM writes it. */
  readonly uuid: string;
  /** Absent: it belongs to no group, or the text cannot be read. */
  readonly group?: VolumeGroup;
  readonly problems: readonly string[];
}

export interface VolumeGroup {
  readonly name: string;
  readonly uuid: string;
  /** Grows with each change: of several copies, the greatest counts. */
  readonly sequence: number;
  readonly extentBytes: number;
  readonly physicalVolumes: readonly {
    readonly name: string;
    readonly uuid: string;
    /** The device's name when the group was last changed. */
    readonly device: string;
    readonly dataOffsetBytes: number;
    readonly extents: number;
  }[];
  readonly logicalVolumes: readonly LogicalVolume[];
}

export interface LogicalVolume {
  readonly name: string;
  readonly uuid: string;
  readonly sizeBytes: number;
  /** Not one of the hidden parts that mirrors, pools and snapshots are made of. */
  readonly visible: boolean;
  readonly segments: readonly Segment[];
}

export interface Segment {
  readonly startExtent: number;
  readonly extents: number;
  /** `striped` (with one stripe: linear), `raid1`, `thin`, `snapshot`, ... */
  readonly type: string;
  /** Of `striped`: where each stripe lies. Empty for other types. */
  readonly stripes: readonly { readonly physicalVolume: string; readonly extent: number }[];
  readonly stripeBytes: number;
  /** Of a `snapshot`: the volume it is of. */
  readonly origin?: string;
}

const SECTOR_BYTES = 512;
const LABEL_SECTORS = 4;
const MDA_MAGIC = ' LVM2 x[5A%r0N*>';
const MDA_HEADER_BYTES = 512;
/** A group with some thousand volumes; the usual area holds 1 MiB. */
const MAX_TEXT_BYTES = 4 * MiB;
const MAX_AREAS = 16;
const CRC_START = 0xf597a6cf;

export async function probeLvm(
  device: BlockDevice,
  head: Uint8Array,
  options: { signal?: AbortSignal },
): Promise<PhysicalVolume | undefined> {
  const label = labelIn(head);
  if (!label) return undefined;
  const problems: string[] = [];
  let group: VolumeGroup | undefined;
  for (const area of label.areas) {
    const text = await readText(device, area, problems, options);
    if (text === undefined) continue;
    try {
      const found = parseVolumeGroup(text);
      if (!group || found.sequence > group.sequence) group = found;
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
      problems.push(`its volume group's text cannot be read: ${error.message}`);
    }
  }
  return { kind: 'physical-volume', type: 'LVM2_member', uuid: label.uuid, ...(group ? { group } : {}), problems };
}

interface Area {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

function labelIn(head: Uint8Array): { uuid: string; areas: Area[] } | undefined {
  for (let sector = 0; sector < LABEL_SECTORS; sector += 1) {
    const block = head.subarray(sector * SECTOR_BYTES, (sector + 1) * SECTOR_BYTES);
    if (block.length < SECTOR_BYTES || ascii(block, 0, 8) !== 'LABELONE' || ascii(block, 24, 8) !== 'LVM2 001')
      continue;
    const view = littleEndian(block);
    if (view.u64(8) !== sector || lvmCrc(block.subarray(20)) !== view.u32(16)) continue;
    return readHeader(block, view.u32(20));
  }
  return undefined;
}

function readHeader(block: Uint8Array, at: number): { uuid: string; areas: Area[] } | undefined {
  if (at < 32 || at + 40 > SECTOR_BYTES) return undefined;
  const view = littleEndian(block);
  const areas: Area[] = [];
  // First the data areas, then, after a pair of zeros, the metadata areas.
  let list = 0;
  for (let entry = at + 40; entry + 16 <= SECTOR_BYTES && list < 2; entry += 16) {
    const [offsetBytes, lengthBytes] = [view.u64(entry), view.u64(entry + 8)];
    if (offsetBytes === 0) list += 1;
    else if (list === 1 && areas.length < MAX_AREAS) areas.push({ offsetBytes, lengthBytes });
  }
  return { uuid: dashed(ascii(block, at, 32)), areas };
}

async function readText(
  device: BlockDevice,
  area: Area,
  problems: string[],
  options: { signal?: AbortSignal },
): Promise<string | undefined> {
  const fail = (why: string): undefined => void problems.push(`its metadata area at byte ${area.offsetBytes} ${why}`);
  const { offsetBytes, lengthBytes } = area;
  if (!(offsetBytes + lengthBytes <= device.sizeBytes) || lengthBytes < MDA_HEADER_BYTES * 2) {
    return fail('lies outside the volume');
  }
  const header = await readRun(device, offsetBytes, MDA_HEADER_BYTES, options);
  const view = littleEndian(header);
  if (ascii(header, 4, 16) !== MDA_MAGIC || lvmCrc(header.subarray(4)) !== view.u32(0))
    return fail('has no sound header');
  const at = view.u64(40);
  const size = view.u64(48);
  if (at === 0 && size === 0) return undefined; // a volume of no group
  if (size > MAX_TEXT_BYTES || size > lengthBytes - MDA_HEADER_BYTES || at < MDA_HEADER_BYTES || at >= lengthBytes) {
    return fail(`puts a text of ${size} bytes at ${at}`);
  }
  const first = Math.min(size, lengthBytes - at);
  const text = Buffer.concat([
    await readRun(device, offsetBytes + at, first, options),
    await readRun(device, offsetBytes + MDA_HEADER_BYTES, size - first, options),
  ]);
  if (lvmCrc(text) !== view.u32(56)) return fail('holds a text with a wrong checksum');
  return text.toString('utf8');
}

/** CRC-32 with a start of its own and nothing inverted. */
function lvmCrc(bytes: Uint8Array): number {
  return (crc32(bytes, (CRC_START ^ 0xffffffff) >>> 0) ^ 0xffffffff) >>> 0;
}

/** `aaaaaa-bbbb-bbbb-bbbb-bbbb-bbbb-cccccc` */
function dashed(id: string): string {
  return id.replace(/^(.{6})(.{4})(.{4})(.{4})(.{4})(.{4})(.{6})$/, '$1-$2-$3-$4-$5-$6-$7');
}

class ConfigError extends Error {}

type Value = string | number;
interface Section {
  readonly values: Map<string, Value | Value[]>;
  readonly sections: Map<string, Section>;
}

function parseVolumeGroup(text: string): VolumeGroup {
  const [entry] = parseConfig(text).sections;
  if (!entry) throw new ConfigError('it names no group');
  const [name, group] = entry;
  const extentBytes = count(group, 'extent_size') * SECTOR_BYTES;
  return {
    name,
    uuid: word(group, 'id'),
    sequence: count(group, 'seqno'),
    extentBytes,
    physicalVolumes: [...(group.sections.get('physical_volumes')?.sections ?? [])].map(([key, volume]) => ({
      name: key,
      uuid: word(volume, 'id'),
      device: word(volume, 'device'),
      dataOffsetBytes: count(volume, 'pe_start') * SECTOR_BYTES,
      extents: count(volume, 'pe_count'),
    })),
    logicalVolumes: [...(group.sections.get('logical_volumes')?.sections ?? [])].map(([key, volume]) => {
      const segments = [...volume.sections]
        .filter(([part]) => /^segment\d+$/.test(part))
        .map(([, segment]) => segmentOf(segment))
        .toSorted((a, b) => a.startExtent - b.startExtent);
      const status = volume.values.get('status');
      return {
        name: key,
        uuid: word(volume, 'id'),
        sizeBytes: segments.reduce((sum, segment) => sum + segment.extents, 0) * extentBytes,
        visible: Array.isArray(status) && status.includes('VISIBLE'),
        segments,
      };
    }),
  };
}

function segmentOf(segment: Section): Segment {
  const type = word(segment, 'type');
  const list = segment.values.get('stripes');
  const stripes: { physicalVolume: string; extent: number }[] = [];
  if (type === 'striped' && Array.isArray(list)) {
    for (let i = 0; i + 1 < list.length; i += 2) {
      const [physicalVolume, extent] = [list[i], list[i + 1]];
      if (typeof physicalVolume !== 'string' || typeof extent !== 'number') {
        throw new ConfigError('stripes are no pairs');
      }
      stripes.push({ physicalVolume, extent });
    }
  }
  const origin = segment.values.get('origin');
  return {
    startExtent: count(segment, 'start_extent'),
    extents: count(segment, 'extent_count'),
    type,
    stripes,
    stripeBytes: segment.values.has('stripe_size') ? count(segment, 'stripe_size') * SECTOR_BYTES : 0,
    ...(typeof origin === 'string' ? { origin } : {}),
  };
}

function word(section: Section, key: string): string {
  const value = section.values.get(key);
  if (typeof value !== 'string') throw new ConfigError(`there is no ${key}`);
  return value;
}

/** Below 2^40, as no volume has more extents or sectors; products then stay exact. */
function count(section: Section, key: string): number {
  const value = section.values.get(key);
  if (typeof value !== 'number' || value < 0 || value > 2 ** 40) throw new ConfigError(`${key} is no number`);
  return value;
}

/** A token is a bracket or other mark, a text, a number, or a name. */
interface Token {
  readonly mark?: string;
  readonly value?: Value;
  readonly name?: string;
}

const WORD = /[\w.+-]{1,128}/y;
const NUMBER = /^-?\d+(?:\.\d+)?$/;
const MAX_DEPTH = 16;
/** Of a group with some ten thousand volumes. */
const MAX_SECTIONS = 50_000;
const MAX_TOKENS = 1_000_000;

function parseConfig(text: string): Section {
  const end = text.indexOf('\0');
  const next = lexer(end < 0 ? text : text.slice(0, end));
  let sections = 0;
  const newSection = (): Section => {
    sections += 1;
    if (sections > MAX_SECTIONS) throw new ConfigError(`it has more than ${MAX_SECTIONS} sections`);
    return { values: new Map(), sections: new Map() };
  };
  const root = newSection();
  const open = [root];
  for (;;) {
    const token = next();
    const inside = open.at(-1) ?? root;
    if (token.mark === '}') {
      if (open.length === 1) throw new ConfigError('a section ends that never began');
      open.pop();
    } else if (token.name !== undefined) {
      const { mark } = next();
      if (mark === '{') {
        if (open.length >= MAX_DEPTH) throw new ConfigError(`sections lie deeper than ${MAX_DEPTH}`);
        const section = newSection();
        inside.sections.set(token.name, section);
        open.push(section);
      } else if (mark === '=') inside.values.set(token.name, readValue(next));
      else throw new ConfigError(`${token.name.slice(0, 40)} has neither a value nor a section`);
    } else if (token.mark === undefined && token.value === undefined) {
      if (open.length > 1) throw new ConfigError('it ends in the middle of a section');
      return root;
    } else throw new ConfigError('a value stands where a name should');
  }
}

function readValue(next: () => Token): Value | Value[] {
  const first = next();
  if (first.value !== undefined) return first.value;
  if (first.mark !== '[') throw new ConfigError('a name has no value');
  const list: Value[] = [];
  for (;;) {
    const token = next();
    if (token.mark === ']') return list;
    if (token.value !== undefined) list.push(token.value);
    else if (token.mark !== ',') throw new ConfigError('a list does not end');
  }
}

/** By hand where a regular expression would need a stack as deep as the text is long. An empty token is the end. */
function lexer(source: string): () => Token {
  let at = 0;
  let tokens = 0;
  const skipBlanks = (): void => {
    for (;;) {
      while (at < source.length && source.charCodeAt(at) <= 0x20) at += 1;
      if (source[at] !== '#') return;
      const line = source.indexOf('\n', at);
      at = line < 0 ? source.length : line;
    }
  };
  const quoted = (): string => {
    let text = '';
    for (let from = at; ; at += 1) {
      if (at >= source.length) throw new ConfigError('a text does not end');
      if (source[at] !== '"' && source[at] !== '\\') continue;
      text += source.slice(from, at);
      if (source[at] === '"') break;
      from = at + 1; // what was escaped is taken as it is
      at += 1;
    }
    at += 1;
    return text;
  };
  return () => {
    skipBlanks();
    tokens += 1;
    if (tokens > MAX_TOKENS) throw new ConfigError(`it has more than ${MAX_TOKENS} words`);
    const mark = source[at];
    if (mark === undefined) return {};
    if ('{}[],='.includes(mark)) {
      at += 1;
      return { mark };
    }
    if (mark === '"') {
      at += 1;
      return { value: quoted() };
    }
    WORD.lastIndex = at;
    const word = WORD.exec(source)?.[0];
    if (word === undefined) throw new ConfigError(`byte ${at} cannot be understood`);
    at += word.length;
    return NUMBER.test(word) ? { value: Number(word), name: word } : { name: word };
  };
}
