/**
 * What the packets of an isolated network say: which address the guest was given, which of its ports answered, where it tried to go, and
 * whether anything came back from there. Reads the classic pcap format with Ethernet frames, as QEMU's filter-dump writes it.
 *
 *   24 bytes header │ seconds, microseconds, captured, original: 16 bytes │ frame │ 16 │ frame │ ...
 *
 * What a guest sent is hostile: a frame that is cut or nonsense counts as a packet and says nothing more.
 */

/** QEMU's own addresses on that network; everything else is outside. */
const ADDRESS_SERVICE = '10.0.2.2';
const INSIDE = /^10\.0\.2\./;
const FILE_HEADER_BYTES = 24;
const RECORD_HEADER_BYTES = 16;
const LITTLE_ENDIAN_MAGIC = 0xa1b2c3d4;
const ETHERNET = 1;
const MAX_FRAME_BYTES = 0x4_0000;
const IPV4 = 0x0800;
const [ICMP, TCP, UDP] = [1, 6, 17];
const [SYN, ACK] = [0x02, 0x10];
const [DHCP_SERVER, DHCP_CLIENT] = [67, 68];
const DHCP_COOKIE = 0x63825363;
const DHCP_ACK = 5;
const ECHO_REPLY = 0;
/** Destinations named; a guest that scans a network must not fill the evidence. */
const MAX_DESTINATIONS = 20;

export interface NetworkFindings {
  readonly packets: number;
  /** What the address service acknowledged last. */
  readonly lease?: string;
  /** TCP ports of the guest that took a connection. */
  readonly openPorts: readonly number[];
  /** Where outside the guest sent something: address, protocol and port; the first ones. */
  readonly attempts: readonly string[];
  /** Destinations beyond those in `attempts`. */
  readonly furtherAttempts: number;
  /** Answers that came from outside: there must be none. */
  readonly answers: readonly string[];
}

const NO_PACKETS: NetworkFindings = { packets: 0, openPorts: [], attempts: [], furtherAttempts: 0, answers: [] };

/** A record that is cut at the end is being written just now and is left out. Undefined: no capture of that kind. */
export function readPackets(capture: Buffer): NetworkFindings | undefined {
  if (capture.length < FILE_HEADER_BYTES) return capture.length === 0 ? NO_PACKETS : undefined;
  if (capture.readUInt32LE(0) !== LITTLE_ENDIAN_MAGIC || capture.readUInt32LE(20) !== ETHERNET) return undefined;
  const found = { lease: '', ports: new Set<number>(), attempts: new Set<string>(), answers: new Set<string>() };
  let packets = 0;
  for (let at = FILE_HEADER_BYTES; at + RECORD_HEADER_BYTES <= capture.length;) {
    const length = capture.readUInt32LE(at + 8);
    at += RECORD_HEADER_BYTES;
    if (length > MAX_FRAME_BYTES || at + length > capture.length) break;
    packets += 1;
    lookAtFrame(capture.subarray(at, at + length), found);
    at += length;
  }
  const attempts = [...found.attempts];
  return {
    packets,
    ...(found.lease === '' ? {} : { lease: found.lease }),
    openPorts: [...found.ports].toSorted((a, b) => a - b),
    attempts: attempts.slice(0, MAX_DESTINATIONS),
    furtherAttempts: Math.max(0, attempts.length - MAX_DESTINATIONS),
    answers: [...found.answers],
  };
}

interface Found {
  lease: string;
  readonly ports: Set<number>;
  readonly attempts: Set<string>;
  readonly answers: Set<string>;
}

function lookAtFrame(frame: Buffer, found: Found): void {
  const packet = readIp(frame);
  if (packet === undefined) return;
  const { source, destination, protocol, body } = packet;
  if (protocol === UDP && body.length >= 8) {
    const [from, to] = [body.readUInt16BE(0), body.readUInt16BE(2)];
    if (from === DHCP_SERVER && to === DHCP_CLIENT) {
      found.lease = acknowledged(body.subarray(8)) ?? found.lease;
      return;
    }
    if (to === DHCP_SERVER) return;
    if (isGuest(source)) note(found.attempts, `${destination} udp ${to}`, destination);
    else found.answers.add(`${source} udp ${from}`);
  } else if (protocol === TCP && body.length >= 14) {
    const [from, to, flags] = [body.readUInt16BE(0), body.readUInt16BE(2), body.readUInt8(13)];
    const opens = (flags & (SYN | ACK)) === SYN;
    const accepts = (flags & (SYN | ACK)) === (SYN | ACK);
    if (isGuest(source)) {
      if (accepts) found.ports.add(from);
      // Also to the host's own address here: that is this host, and outside.
      if (opens) found.attempts.add(`${destination} tcp ${to}`);
    } else if (accepts) {
      found.answers.add(`${source} tcp ${from}`);
    }
  } else if (protocol === ICMP && body.length >= 1) {
    if (isGuest(source)) note(found.attempts, `${destination} icmp`, destination);
    else if (body.readUInt8(0) === ECHO_REPLY && !INSIDE.test(source)) found.answers.add(`${source} icmp`);
  }
}

/** QEMU's addresses are 2 and 3; the guest has another, or one that it chose itself. */
function isGuest(source: string): boolean {
  return source !== ADDRESS_SERVICE && source !== '10.0.2.3' && (INSIDE.test(source) || source === '0.0.0.0');
}

/** Broadcasts and multicasts go to whoever is there, and nobody is. */
function note(attempts: Set<string>, text: string, destination: string): void {
  const first = Number(destination.split('.', 1)[0]);
  if (first >= 224 || destination === '10.0.2.255') return;
  attempts.add(text);
}

function readIp(frame: Buffer): { source: string; destination: string; protocol: number; body: Buffer } | undefined {
  if (frame.length < 34 || frame.readUInt16BE(12) !== IPV4) return undefined;
  const ip = frame.subarray(14);
  const headerBytes = (ip.readUInt8(0) & 15) * 4;
  const isFirst = (ip.readUInt16BE(6) & 0x1fff) === 0;
  if (ip.readUInt8(0) >> 4 !== 4 || headerBytes < 20 || headerBytes > ip.length || !isFirst) return undefined;
  return {
    source: address(ip, 12),
    destination: address(ip, 16),
    protocol: ip.readUInt8(9),
    body: ip.subarray(headerBytes),
  };
}

/** The address in a DHCP acknowledgement (RFC 2131, RFC 2132 option 53). */
function acknowledged(message: Buffer): string | undefined {
  if (message.length < 240 || message.readUInt32BE(236) !== DHCP_COOKIE) return undefined;
  for (let at = 240; at + 2 < message.length;) {
    const option = message.readUInt8(at);
    if (option === 255) return undefined;
    if (option === 0) {
      at += 1;
      continue;
    }
    if (option === 53) return message.readUInt8(at + 2) === DHCP_ACK ? address(message, 16) : undefined;
    at += 2 + message.readUInt8(at + 1);
  }
  return undefined;
}

function address(bytes: Buffer, at: number): string {
  return [...bytes.subarray(at, at + 4)].join('.');
}
