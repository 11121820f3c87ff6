/**
 * Reads what lspci prints with numbers: `-nn`, `-nnk`, `-nnv`, `-n`, with or without `-D`, and the forms for machines, `-nnmm` and
 * `-nnvmm`. Source: pciutils, lspci.c.
 *
 *   0000:00:1f.2 SATA controller [0106]: Intel Corporation 82801IR [AHCI mode] [8086:2922] (rev 02) (prog-if 01 [AHCI 1.0])
 *           Subsystem: Red Hat, Inc. QEMU Virtual Machine [1af4:1100]
 *           Kernel driver in use: ahci
 *
 * The text may have been pasted together by anybody: lines that are none of these are passed over.
 */
import { LifeboatError } from '@lifeboat/foundation/errors';

export interface ListedDevice {
  /** With its domain: `0000:00:1f.2`. */
  readonly slot: string;
  /** 24 bits. The programming interface is the usual one where the form does not tell. */
  readonly class: number;
  readonly vendor: number;
  readonly device: number;
  /** Zero where the form does not tell: only `-k`, `-v` and the machines' forms do. */
  readonly subsystemVendor: number;
  readonly subsystemDevice: number;
  readonly name: string;
}

type Building = { -readonly [K in keyof ListedDevice]?: ListedDevice[K] } & { slot: string; interface?: number };

/** A machine with every slot and function taken prints some ten thousand lines. */
const MAX_LINES = 100_000;
const MAX_LINE_CHARACTERS = 4096;
const MAX_DEVICES = 1024;
const MAX_NAME_CHARACTERS = 120;
/** By class and subclass: AHCI, NVMe, and IDE of the kind that masters the bus. */
const USUAL_INTERFACES: Readonly<Record<number, number>> = { 0x0106: 0x01, 0x0108: 0x02, 0x0101: 0x80 };
const SLOT = /^\s*((?:[0-9a-f]{4,8}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])\s+(.+)$/i;

/**
 * `source` names the text in errors. Errors: `guest.hardware-list-invalid` when no device with numbers is in it, or far too much is.
 */
export function parseLspci(text: string, source: string): ListedDevice[] {
  const lines = text.split(/\r?\n/);
  const invalid = (problem: string): LifeboatError =>
    new LifeboatError('guest.hardware-list-invalid', `${source} ${problem}`, { context: { source } });
  if (lines.length > MAX_LINES) throw invalid(`has ${lines.length} lines; at most ${MAX_LINES} are read`);
  const devices: Building[] = [];
  let unnumbered = 0;
  for (const line of lines) {
    if (line.length > MAX_LINE_CHARACTERS) continue;
    const [, slot, rest] = SLOT.exec(line) ?? [];
    const record = /^Slot:\s+(\S+)\s*$/.exec(line)?.[1];
    if (record !== undefined) devices.push({ slot: withDomain(record) });
    else if (slot !== undefined && rest !== undefined) {
      const found = readLine(rest);
      if (found) devices.push({ slot: withDomain(slot), ...found });
      else unnumbered += 1;
    } else {
      const current = devices.at(-1);
      if (current) readDetail(line, current);
    }
    if (devices.length > MAX_DEVICES) throw invalid(`lists more than ${MAX_DEVICES} devices`);
  }
  const whole = devices.flatMap(finish);
  if (whole.length > 0) return whole;
  throw invalid(
    unnumbered > 0
      ? `lists ${unnumbered} devices without their numbers; use lspci -nn -D`
      : 'lists no PCI device; what is expected is the output of lspci -nn -D',
  );
}

function readLine(rest: string): Omit<Building, 'slot'> | undefined {
  if (rest.startsWith('"')) return readQuoted(rest);
  const numbers = /^(?:Class\s+)?([0-9a-f]{4}):\s+([0-9a-f]{4}):([0-9a-f]{4})(.*)$/i.exec(rest);
  if (numbers) {
    const [, code = '', vendor = '', device = '', tail = ''] = numbers;
    return { class: hex(code), vendor: hex(vendor), device: hex(device), name: '', ...interfaceIn(tail) };
  }
  const [, className = '', code = '', described = ''] = /^(.*?) ?\[([0-9a-f]{4})\]: (.*)$/i.exec(rest) ?? [];
  // Names hold brackets, too: the numbers are the last.
  const ids = [...described.matchAll(/\[([0-9a-f]{4}):([0-9a-f]{4})\]/gi)].at(-1);
  if (code === '' || !ids) return undefined;
  const [, vendor = '', device = ''] = ids;
  const name = described.slice(0, ids.index).trim() || className;
  return {
    class: hex(code),
    vendor: hex(vendor),
    device: hex(device),
    name,
    ...interfaceIn(described.slice(ids.index)),
  };
}

/** `-mm`: class, vendor, device, options, subsystem's vendor and device; each quoted, with `\"` inside. */
function readQuoted(rest: string): Omit<Building, 'slot'> | undefined {
  const fields = quotedFields(rest).map(numbered);
  const [code, vendor, device, subsystemVendor, subsystemDevice] = fields;
  if (code?.number === undefined || vendor?.number === undefined || device?.number === undefined) return undefined;
  const programmed = /(?:^|\s)-p([0-9a-f]{2})(?:\s|$)/i.exec(rest)?.[1];
  return {
    class: code.number,
    vendor: vendor.number,
    device: device.number,
    name: `${vendor.text} ${device.text}`.trim(),
    ...(subsystemVendor?.number === undefined ? {} : { subsystemVendor: subsystemVendor.number }),
    ...(subsystemDevice?.number === undefined ? {} : { subsystemDevice: subsystemDevice.number }),
    ...(programmed === undefined ? {} : { interface: hex(programmed) }),
  };
}

/** In one pass: text that only begins fields would keep a regular expression busy. */
function quotedFields(text: string): string[] {
  const fields: string[] = [];
  let field: string | undefined;
  for (let at = 0; at < text.length; at += 1) {
    const character = text[at] ?? '';
    if (character === '"') {
      if (field !== undefined) fields.push(field);
      field = field === undefined ? '' : undefined;
    } else if (field !== undefined) {
      const escaped = character === '\\';
      if (escaped) at += 1;
      field += escaped ? (text[at] ?? '') : character;
    }
  }
  return fields;
}

function readDetail(line: string, device: Building): void {
  const subsystem = /^\s+Subsystem:.*?\[?([0-9a-f]{4}):([0-9a-f]{4})\]?\s*$/i.exec(line);
  if (subsystem) {
    device.subsystemVendor = hex(subsystem[1] ?? '');
    device.subsystemDevice = hex(subsystem[2] ?? '');
    return;
  }
  const [, key, value = ''] = /^(Class|Vendor|Device|SVendor|SDevice|ProgIf):\s+(.*)$/.exec(line) ?? [];
  const { number, text } = numbered(value);
  if (key === 'ProgIf' && /^[0-9a-f]{2}$/i.test(value.trim())) device.interface = hex(value);
  if (number === undefined) return;
  if (key === 'Class') device.class = number;
  if (key === 'Vendor') [device.vendor, device.name] = [number, text];
  if (key === 'Device') [device.device, device.name] = [number, `${device.name ?? ''} ${text}`.trim()];
  if (key === 'SVendor') device.subsystemVendor = number;
  if (key === 'SDevice') device.subsystemDevice = number;
}

function finish(device: Building): ListedDevice[] {
  const { slot, class: code, vendor, device: id, subsystemVendor = 0, subsystemDevice = 0, name = '' } = device;
  if (code === undefined || vendor === undefined || id === undefined) return [];
  const clean = name.replace(/\p{C}/gu, ' ').trim().slice(0, MAX_NAME_CHARACTERS);
  return [
    {
      slot,
      class: code * 0x100 + (device.interface ?? USUAL_INTERFACES[code] ?? 0),
      vendor,
      device: id,
      subsystemVendor,
      subsystemDevice,
      name: clean || 'PCI device',
    },
  ];
}

/** `SATA controller [0106]`, or `0106` alone. */
function numbered(field: string): { number?: number; text: string } {
  const [, text = '', inBrackets, alone] = /^(?:(.*?) ?\[([0-9a-f]{4})\]|([0-9a-f]{4}))\s*$/i.exec(field) ?? [];
  const digits = inBrackets ?? alone;
  return digits === undefined ? { text: field } : { number: hex(digits), text };
}

function interfaceIn(tail: string): { interface?: number } {
  const digits = /\(prog-if ([0-9a-f]{2})\b/i.exec(tail)?.[1];
  return digits === undefined ? {} : { interface: hex(digits) };
}

function withDomain(slot: string): string {
  const lower = slot.toLowerCase();
  return lower.split(':').length > 2 ? lower : `0000:${lower}`;
}

function hex(digits: string): number {
  return Number.parseInt(digits, 16);
}
