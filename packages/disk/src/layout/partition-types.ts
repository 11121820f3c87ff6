/** What an MBR partition becomes in a GPT. Source: the tables of the UEFI and systemd specifications, as sgdisk maps them. */
import { partitionTypes } from '../partition-table.ts';

const MICROSOFT_DATA = 'ebd0a0a2-b9e5-4433-87c0-68b6b72699c7';

const GPT_TYPES: Readonly<Record<string, string>> = {
  '0x01': MICROSOFT_DATA,
  '0x04': MICROSOFT_DATA,
  '0x06': MICROSOFT_DATA,
  '0x07': MICROSOFT_DATA,
  '0x0b': MICROSOFT_DATA,
  '0x0c': MICROSOFT_DATA,
  '0x0e': MICROSOFT_DATA,
  '0x27': 'de94bba4-06d1-4d40-a16a-bfd50179d6ac',
  '0x82': '0657fd6d-a4ab-43c4-84e5-0933c84b4f4f',
  '0x83': partitionTypes.linuxFilesystem,
  '0x8e': partitionTypes.linuxLvm,
  '0xa5': '516e7cb4-6ecf-11d6-8ff8-00022d09712b',
  '0xaf': '48465300-0000-11aa-aa11-00306543ecac',
  '0xef': partitionTypes.efiSystem,
  '0xfd': partitionTypes.linuxRaid,
};

/** Undefined: the type has no counterpart, and is not guessed. */
export function gptTypeOf(mbrType: string): string | undefined {
  return GPT_TYPES[mbrType];
}

/** Logical Disk Manager: dynamic disks. */
const DYNAMIC = new Set(['0x42', '5808c8aa-7e8f-42e0-85d2-e1e90434cfb3', 'af9b60a0-1431-4f62-bc68-3311714a69ad']);

export function isDynamic(type: string): boolean {
  return DYNAMIC.has(type);
}
