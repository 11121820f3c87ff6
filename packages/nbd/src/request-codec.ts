import { REQUEST_MAGIC } from './protocol.ts';
import { protocolError, WireReader } from './wire.ts';

export const REQUEST_BYTES = 28;

export interface NbdRequest {
  /** COMMAND_FLAG. */
  readonly flags: number;
  /** COMMAND. */
  readonly command: number;
  /** Chosen by the client, repeated in every reply. */
  readonly cookie: bigint;
  /** 64 bits as sent: a client may ask for a position that no disk has, and gets EINVAL. */
  readonly offsetBytes: bigint;
  readonly lengthBytes: number;
}

/** The header; the payload of a write follows it on the wire. */
export function encodeRequest(request: NbdRequest): Buffer {
  const bytes = Buffer.allocUnsafe(REQUEST_BYTES);
  bytes.writeUInt32BE(REQUEST_MAGIC, 0);
  bytes.writeUInt16BE(request.flags, 4);
  bytes.writeUInt16BE(request.command, 6);
  bytes.writeBigUInt64BE(request.cookie, 8);
  bytes.writeBigUInt64BE(request.offsetBytes, 16);
  bytes.writeUInt32BE(request.lengthBytes, 24);
  return bytes;
}

export function decodeRequest(bytes: Uint8Array): NbdRequest {
  const reader = new WireReader(bytes, 'request');
  const magic = reader.u32();
  if (magic !== REQUEST_MAGIC) throw protocolError(`request: 0x${magic.toString(16)} in place of its magic`);
  const request = {
    flags: reader.u16(),
    command: reader.u16(),
    cookie: reader.u64(),
    offsetBytes: reader.u64(),
    lengthBytes: reader.u32(),
  };
  reader.end();
  return request;
}
