/** Captures, as QEMU writes them, for tests. */

export const GUEST = '10.0.2.15';

export function capture(...frames: readonly Buffer[]): Buffer {
  const header = Buffer.alloc(24);
  header.writeUInt32LE(0xa1b2c3d4, 0);
  header.writeUInt16LE(2, 4);
  header.writeUInt16LE(4, 6);
  header.writeUInt32LE(65536, 16);
  header.writeUInt32LE(1, 20);
  const records = frames.flatMap((frame) => {
    const record = Buffer.alloc(16);
    record.writeUInt32LE(frame.length, 8);
    record.writeUInt32LE(frame.length, 12);
    return [record, frame];
  });
  return Buffer.concat([header, ...records]);
}

export function frame(protocol: number, from: string, to: string, body: Buffer): Buffer {
  const ip = Buffer.alloc(20);
  ip.writeUInt8(0x45, 0);
  ip.writeUInt16BE(20 + body.length, 2);
  ip.writeUInt8(protocol, 9);
  ip.set(from.split('.').map(Number), 12);
  ip.set(to.split('.').map(Number), 16);
  return Buffer.concat([Buffer.alloc(12), Buffer.from('0800', 'hex'), ip, body]);
}

export function tcp(from: readonly [string, number], to: readonly [string, number], flags: number): Buffer {
  const segment = Buffer.alloc(20);
  segment.writeUInt16BE(from[1], 0);
  segment.writeUInt16BE(to[1], 2);
  segment.writeUInt8(flags, 13);
  return frame(6, from[0], to[0], segment);
}

export function udp(from: readonly [string, number], to: readonly [string, number], payload = Buffer.alloc(4)): Buffer {
  const header = Buffer.alloc(8);
  header.writeUInt16BE(from[1], 0);
  header.writeUInt16BE(to[1], 2);
  return frame(17, from[0], to[0], Buffer.concat([header, payload]));
}

export function dhcp(type: number, given: string): Buffer {
  const message = Buffer.alloc(240);
  message.set(given.split('.').map(Number), 16);
  message.writeUInt32BE(0x63825363, 236);
  return udp(['10.0.2.2', 67], ['255.255.255.255', 68], Buffer.concat([message, Buffer.from([0, 53, 1, type, 255])]));
}

/** A guest that was given this address. */
export function leaseCapture(address: string): Buffer {
  return capture(dhcp(5, address));
}
