/**
 * Values from the command line, checked before anything starts. Paths become absolute here: the agent that uses them has
 * another working directory.
 */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { CommanderError, InvalidArgumentError } from 'commander';
import { messageOf } from '@lifeboat/foundation/errors';
import { parseOpId, parsePointId, type OpId, type PointId } from '@lifeboat/foundation/ids';

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;
const DISK = /^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$/;
// oxlint-disable-next-line no-control-regex -- refusing control characters is the purpose
const CONTROLS = /[\u0000-\u001f\u007f]/;
const MACHINE_LIMIT = 255;

/** A machine as the hypervisor knows it: name or UUID. */
export function machineArgument(text: string): string {
  if (text.trim() === '') throw new InvalidArgumentError('a machine is named by its name or UUID, not by nothing.');
  if (CONTROLS.test(text)) throw new InvalidArgumentError('a machine name holds no control characters.');
  if (text.length > MACHINE_LIMIT) {
    throw new InvalidArgumentError(`a machine name has at most ${MACHINE_LIMIT} characters, not ${text.length}.`);
  }
  return text;
}

/** The name of a new machine; it becomes part of file names. */
export function newNameOption(text: string): string {
  if (!NAME.test(text)) {
    throw new InvalidArgumentError(
      'use letters, digits, ".", "_" and "-", at most 63, beginning with a letter or digit.',
    );
  }
  return text;
}

export function pointOption(text: string): PointId {
  try {
    return parsePointId(text);
  } catch (error) {
    throw new InvalidArgumentError(`${messageOf(error)}; "lifeboat points" lists them.`);
  }
}

/** A redeploy whose edits are kept. */
export function editArgument(text: string): OpId {
  try {
    return parseOpId(text);
  } catch (error) {
    throw new InvalidArgumentError(`${messageOf(error)}; "lifeboat redeploy list" lists them.`);
  }
}

export function diskOption(text: string): string {
  if (!DISK.test(text))
    throw new InvalidArgumentError('a disk has a name such as sda or vda; "lifeboat points" shows it.');
  return text;
}

export function pathOption(text: string): string {
  if (text === '' || text.includes('\0')) throw new InvalidArgumentError('a path is needed.');
  return resolve(text);
}

/** A path; or what only one disk of the host has: `serial:…`, `wwn:…`, `size:<bytes>` (typed with a unit or without). */
export function targetOption(text: string): string {
  const [, by, value = ''] = /^(serial|wwn|size):(.*)$/.exec(text) ?? [];
  if (by === undefined) return pathOption(text);
  if (CONTROLS.test(value) || value.trim() === '') throw new InvalidArgumentError(`a ${by} is needed behind "${by}:".`);
  if (by !== 'size') return `${by}:${value.trim()}`;
  const bytes = /^\d{1,16}$/.test(value) ? Number(value) : sizeOf(value);
  if (bytes === 0) throw new InvalidArgumentError('a size in bytes, or such as 500GiB, is needed behind "size:".');
  return `size:${bytes}`;
}

/** A profile that ships with Lifeboat, by name, or a profile file, by path. */
export function profileOption(text: string): string {
  if (!text.includes('/') && !text.endsWith('.json')) return text;
  const path = resolve(text);
  if (!existsSync(path)) throw new InvalidArgumentError(`there is no hardware profile file ${path}.`);
  return path;
}

const PROFILE_NAME = /^[a-z0-9][a-z0-9._-]{0,62}$/;

export function profileNameOption(text: string): string {
  if (!PROFILE_NAME.test(text)) {
    throw new InvalidArgumentError(
      'use small letters, digits, ".", "_" and "-", at most 63, beginning with a letter or digit.',
    );
  }
  return text;
}

const LEVELS = ['present', 'ciphertext', 'content'] as const;
export type CheckLevel = (typeof LEVELS)[number];

export function levelOption(text: string): CheckLevel {
  return oneOf(LEVELS, text);
}

const VERIFY_LEVELS = [...LEVELS, 'filesystem'] as const;
export type VerifyLevel = (typeof VERIFY_LEVELS)[number];

export function verifyLevelOption(text: string): VerifyLevel {
  return oneOf(VERIFY_LEVELS, text);
}

function oneOf<T extends string>(known: readonly T[], text: string): T {
  const found = known.find((value) => value === text);
  if (!found) throw new InvalidArgumentError(`choose one of ${known.join(', ')}.`);
  return found;
}

/** A program of this host. */
export function programOption(text: string): string {
  const path = pathOption(text);
  if (!existsSync(path)) throw new InvalidArgumentError(`there is no program ${path}.`);
  return path;
}

const TIMEOUT_LIMIT_S = 24 * 3600;

/** Whole seconds on the command line, milliseconds inside. */
export function timeoutOption(text: string): number {
  const seconds = Number(text);
  if (!/^\d+$/.test(text) || seconds < 1 || seconds > TIMEOUT_LIMIT_S) {
    throw new InvalidArgumentError(`whole seconds from 1 to ${TIMEOUT_LIMIT_S} are needed.`);
  }
  return seconds * 1000;
}

const PORT_LIMIT = 65_535;

/** `22` */
export function portOption(text: string): { readonly kind: 'tcp'; readonly port: number } {
  return { kind: 'tcp', port: portOf(text) };
}

/** `80/` or `8080/health?deep=1` */
export function httpOption(text: string): { readonly kind: 'http'; readonly port: number; readonly path: string } {
  const [, port = '', path = ''] = /^(\d+)(\/[\u0021-\u007e]*)?$/.exec(text) ?? [];
  return { kind: 'http', port: portOf(port), path: path || '/' };
}

function portOf(text: string): number {
  const port = Number(text);
  if (!/^\d+$/.test(text) || port < 1 || port > PORT_LIMIT)
    throw new InvalidArgumentError(`a port from 1 to ${PORT_LIMIT} is needed.`);
  return port;
}

export function patternOption(text: string): string {
  try {
    void new RegExp(text);
  } catch (error) {
    throw new InvalidArgumentError(messageOf(error));
  }
  return text;
}

const COUNT_LIMIT = 100_000;

export function countOption(text: string): number {
  const count = Number(text);
  if (!/^\d+$/.test(text) || count > COUNT_LIMIT)
    throw new InvalidArgumentError(`a whole number from 0 to ${COUNT_LIMIT} is needed.`);
  return count;
}

const DELAY_UNITS = { m: 60_000, h: 3_600_000, d: 86_400_000 } as const;
const DELAY_LIMIT_DAYS = 365;

/** `30m`, `24h`, `7d` or `0` on the command line, milliseconds inside. */
export function delayOption(text: string): number {
  const [, digits = '', unit] = /^(\d{1,6})([mhd]?)$/.exec(text) ?? [];
  const delayMs = Number(digits) * (DELAY_UNITS[unit as keyof typeof DELAY_UNITS] ?? 1);
  if (digits === '' || (unit === '' && delayMs > 0) || delayMs > DELAY_LIMIT_DAYS * DELAY_UNITS.d)
    throw new InvalidArgumentError(`a time such as 30m, 24h or 7d, at most ${DELAY_LIMIT_DAYS}d, or 0 is needed.`);
  return delayMs;
}

/** `02:30`, or `off`. */
export function nightlyOption(text: string): { readonly hour: number; readonly minute: number } | 'off' {
  if (text === 'off') return 'off';
  const [, hour, minute] = /^([01]\d|2[0-3]):([0-5]\d)$/.exec(text) ?? [];
  if (hour === undefined) throw new InvalidArgumentError('a time such as 02:30, or off, is needed.');
  return { hour: Number(hour), minute: Number(minute) };
}

const SIZE_UNITS = { MiB: 1024 ** 2, GiB: 1024 ** 3, TiB: 1024 ** 4 } as const;

/** `512MiB`, `16GiB` or `2TiB` on the command line, bytes inside. */
export function sizeOption(text: string): number {
  const bytes = sizeOf(text);
  if (bytes === 0) throw new InvalidArgumentError('a size such as 512MiB, 16GiB or 2TiB is needed.');
  return bytes;
}

/** 0 for what is no size. */
function sizeOf(text: string): number {
  const [, digits = '', unit = ''] = /^(\d{1,6})(MiB|GiB|TiB)$/.exec(text) ?? [];
  return Number(digits) * (SIZE_UNITS[unit as keyof typeof SIZE_UNITS] ?? 0);
}

/** `200GiB` or `30m` on the command line: how much, or how long. */
export function budgetOption(text: string): { readonly bytes: number } | { readonly durationMs: number } {
  const bytes = sizeOf(text);
  if (bytes > 0) return { bytes };
  const [, count = '', of = ''] = /^(\d{1,6})([mhd])$/.exec(text) ?? [];
  const durationMs = Number(count) * (DELAY_UNITS[of as keyof typeof DELAY_UNITS] ?? 0);
  if (durationMs > 0) return { durationMs };
  throw new InvalidArgumentError('a size such as 500MiB, 200GiB or 2TiB, or a time such as 30m, 8h or 1d is needed.');
}

const REASON_LIMIT_BYTES = 255;

export function reasonOption(text: string): string {
  if (CONTROLS.test(text)) throw new InvalidArgumentError('a reason is one line without control characters.');
  if (Buffer.byteLength(text) > REASON_LIMIT_BYTES)
    throw new InvalidArgumentError(`a reason has at most ${REASON_LIMIT_BYTES} bytes.`);
  return text;
}

/** Options that do not go together: found before anything starts. */
export function usage(message: string): CommanderError {
  return new CommanderError(2, 'lifeboat.usage', `error: ${message}`);
}
