import { LifeboatError } from '@lifeboat/foundation/errors';
import { GREETING_MAGIC, OLDSTYLE_MAGIC, OPTION_MAGIC } from './protocol.ts';
import { protocolError, u16, u32, u64, WireReader } from './wire.ts';

export const GREETING_BYTES = 18;
export const CLIENT_FLAGS_BYTES = 4;
const EXPORT_NAME_PADDING_BYTES = 124;

/** What a server says first. `flags`: HANDSHAKE_FLAG. */
export function encodeGreeting(flags: number): Buffer {
  return Buffer.concat([u64(GREETING_MAGIC), u64(OPTION_MAGIC), u16(flags)]);
}

/** Errors: `nbd.protocol-error` (no NBD server), `nbd.unsupported` (the handshake before 2011). */
export function decodeGreeting(bytes: Uint8Array): { flags: number } {
  const reader = new WireReader(bytes, 'greeting');
  const magic = reader.u64();
  if (magic !== GREETING_MAGIC) throw protocolError(`this is no NBD server: it greets with 0x${magic.toString(16)}`);
  const second = reader.u64();
  if (second === OLDSTYLE_MAGIC) {
    throw new LifeboatError(
      'nbd.unsupported',
      'the NBD server speaks only the old handshake, which has no named exports',
    );
  }
  if (second !== OPTION_MAGIC) throw protocolError(`greeting: 0x${second.toString(16)} in place of the option magic`);
  const flags = reader.u16();
  reader.end();
  return { flags };
}

export function encodeClientFlags(flags: number): Buffer {
  return u32(flags);
}

export function decodeClientFlags(bytes: Uint8Array): number {
  const reader = new WireReader(bytes, 'client flags');
  const flags = reader.u32();
  reader.end();
  return flags;
}

/** The answer to NBD_OPT_EXPORT_NAME, the only option whose answer has no header. */
export interface ExportNameReply {
  readonly sizeBytes: number;
  /** EXPORT_FLAG. */
  readonly flags: number;
}

/** `padded`: 124 zero bytes follow, unless both sides agreed on NO_ZEROES. */
export function exportNameReplyBytes(padded: boolean): number {
  return 10 + (padded ? EXPORT_NAME_PADDING_BYTES : 0);
}

export function encodeExportNameReply(reply: ExportNameReply, padded: boolean): Buffer {
  const padding = Buffer.alloc(padded ? EXPORT_NAME_PADDING_BYTES : 0);
  return Buffer.concat([u64(reply.sizeBytes), u16(reply.flags), padding]);
}

export function decodeExportNameReply(bytes: Uint8Array, padded: boolean): ExportNameReply {
  if (bytes.length !== exportNameReplyBytes(padded)) {
    throw protocolError(`export reply: ${bytes.length} bytes, expected ${exportNameReplyBytes(padded)}`);
  }
  const reader = new WireReader(bytes, 'export reply');
  return { sizeBytes: reader.offset(), flags: reader.u16() };
}
