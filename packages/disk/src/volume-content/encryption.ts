/**
 * Encrypted volumes: LUKS 1 (on-disk format 1.2.3), LUKS 2 (on-disk format 1.1.2) and BitLocker. Only headers; no key is tried.
 */
import { createHash } from 'node:crypto';
import type { BlockDevice } from '@lifeboat/foundation/block-device';
import { ascii, readRun, textField } from '../bytes.ts';

export interface Encryption {
  readonly kind: 'encryption';
  /** As blkid names it. */
  readonly type: 'crypto_LUKS' | 'BitLocker';
  readonly version: string;
  readonly uuid: string;
  readonly label: string;
  /** Such as `aes-xts-plain64`; empty where the header does not say. */
  readonly cipher: string;
  /** Slots in which a key is; a passphrase, a key file or a token opens each. */
  readonly keySlots: number;
  /** Kinds of LUKS 2 tokens: what opens it without a person (systemd-tpm2, clevis). */
  readonly tokens: readonly string[];
  readonly problems: readonly string[];
}

const LUKS_MAGIC = 'LUKS\xba\xbe';
const SECONDARY_MAGIC = 'SKUL\xba\xbe';
/** Where the second header of LUKS 2 may begin; with each its header size (on-disk format 1.1.2, chapter 2). */
const HEADER_SIZES = [0x4000, 0x8000, 0x1_0000, 0x2_0000, 0x4_0000, 0x8_0000, 0x10_0000, 0x20_0000, 0x40_0000];
const BINARY_BYTES = 4096;
const ACTIVE_SLOT = 0x00ac71f3;
/** cryptsetup takes at most 32. */
const MAX_TOKENS = 32;
const MAX_TOKEN_CHARACTERS = 64;

export async function probeLuks(
  device: BlockDevice,
  head: Uint8Array,
  options: { signal?: AbortSignal },
): Promise<Encryption | undefined> {
  if (head.length < BINARY_BYTES) return undefined;
  if (ascii(head, 0, 6) !== LUKS_MAGIC) return secondary(device, head, options);
  const version = Buffer.from(head).readUInt16BE(6);
  if (version === 1) return luks1(Buffer.from(head.subarray(0, 1024)));
  if (version === 2) {
    const primary = await luks2(device, head, options);
    if (primary.problems.length === 0) return primary;
    const spare = await secondary(device, head, options);
    return spare ?? primary;
  }
  return none(`${version}`, [`LUKS version ${version} is not known here`]);
}

/** Every volume that BitLocker has encrypted since Windows 7; Vista's, too. */
export function probeBitLocker(head: Uint8Array): Encryption | undefined {
  if (head.length < 512 || ascii(head, 3, 8) !== '-FVE-FS-') return undefined;
  return {
    kind: 'encryption',
    type: 'BitLocker',
    version: '',
    uuid: '',
    label: '',
    cipher: '',
    keySlots: 0,
    tokens: [],
    problems: [],
  };
}

function luks1(header: Buffer): Encryption {
  const slots = Array.from({ length: 8 }, (_, i) => header.readUInt32BE(208 + i * 48));
  return {
    ...none('1', []),
    uuid: textField(header, 168, 40),
    cipher: `${textField(header, 8, 32)}-${textField(header, 40, 32)}`,
    keySlots: slots.filter((state) => state === ACTIVE_SLOT).length,
  };
}

async function luks2(device: BlockDevice, binary: Uint8Array, options: { signal?: AbortSignal }): Promise<Encryption> {
  const header = Buffer.from(binary.subarray(0, BINARY_BYTES));
  const sizeBytes = Number(header.readBigUInt64BE(8));
  const offsetBytes = Number(header.readBigUInt64BE(256));
  const found = { ...none('2', []), uuid: textField(header, 168, 40), label: textField(header, 24, 48) };
  const damaged = (why: string): Encryption => ({ ...found, problems: [`its LUKS header ${why}`] });
  if (!HEADER_SIZES.includes(sizeBytes) || !(offsetBytes + sizeBytes <= device.sizeBytes)) {
    return damaged(`says it has ${sizeBytes} bytes at ${offsetBytes}`);
  }
  const whole = Buffer.from(await readRun(device, offsetBytes, sizeBytes, options));
  if (textField(header, 72, 32) !== 'sha256') return damaged(`uses the checksum '${textField(header, 72, 32)}'`);
  const expected = Buffer.from(whole.subarray(448, 448 + 32));
  whole.fill(0, 448, 512);
  if (!createHash('sha256').update(whole).digest().equals(expected)) return damaged('has a wrong checksum');
  let json: unknown;
  try {
    json = JSON.parse(textField(whole, BINARY_BYTES, sizeBytes - BINARY_BYTES));
  } catch {
    return damaged('holds no JSON'); // though its checksum is right
  }
  const { keyslots, segments, tokens } = members(json);
  const cipher = Object.values(members(segments))
    .map((segment) => members(segment)['encryption'])
    .find((name) => typeof name === 'string');
  return {
    ...found,
    cipher: typeof cipher === 'string' ? cipher : '',
    keySlots: Object.keys(members(keyslots)).length,
    tokens: Object.values(members(tokens))
      .slice(0, MAX_TOKENS)
      .flatMap((token) => {
        const { type } = members(token);
        return typeof type === 'string' ? [type.slice(0, MAX_TOKEN_CHARACTERS)] : [];
      }),
  };
}

/** Looked for as far as `head` reaches: behind headers of up to 64 KiB, four times the usual. */
async function secondary(
  device: BlockDevice,
  head: Uint8Array,
  options: { signal?: AbortSignal },
): Promise<Encryption | undefined> {
  for (const at of HEADER_SIZES) {
    if (at + BINARY_BYTES > head.length) return undefined;
    const binary = head.subarray(at, at + BINARY_BYTES);
    if (ascii(binary, 0, 6) !== SECONDARY_MAGIC) continue;
    const spare = await luks2(device, binary, options);
    if (spare.problems.length > 0) continue;
    return { ...spare, problems: ['its first LUKS header is damaged; the second is whole (cryptsetup repair)'] };
  }
  return undefined;
}

function none(version: string, problems: string[]): Encryption {
  return {
    kind: 'encryption',
    type: 'crypto_LUKS',
    version,
    uuid: '',
    label: '',
    cipher: '',
    keySlots: 0,
    tokens: [],
    problems,
  };
}

function members(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
}
